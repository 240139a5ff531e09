"""When a demo is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from model_service.demo.status import DemoStatus
from model_service.demo.until import Until

MODEL_SIGNALS_WANTED = 30
LONGEST = timedelta(hours=48)
AFTER_HORIZON = timedelta(minutes=2)


class Ending:
    """Decides after each step whether the demo's purpose is reached.

    `promoted` wants more than the promotion: some signals of the new model, and a horizon more, so that their fills and
    first outcomes are seen.

    Args:
        horizon: the strategies' horizon.
    """

    def __init__(self, until: Until, *, start: datetime, horizon: timedelta) -> None:
        self._until, self._start, self._horizon = until, start, horizon
        self.promoted_at: datetime | None = None

    def observe(self, status: DemoStatus, now: datetime) -> bool:
        """Whether to stop now."""
        if self.promoted_at is None and status.active_version is not None:
            self.promoted_at = now
        return self._until is Until.PROMOTED and (self._shown(status, now) or now - self._start >= LONGEST)

    def reached(self, status: DemoStatus, now: datetime, *, market_over: bool, interrupted: bool) -> bool:
        """Whether the purpose was reached, once it is over."""
        if self._until is Until.PROMOTED:
            return self._shown(status, now) or (market_over and self.promoted_at is not None)
        return market_over if self._until is Until.END else interrupted

    def _shown(self, status: DemoStatus, now: datetime) -> bool:
        return (
            self.promoted_at is not None
            and status.model_signals >= MODEL_SIGNALS_WANTED
            and now >= self.promoted_at + self._horizon + AFTER_HORIZON
        )
