"""What is known of one version's live trading since it got the word: grows by one outcome at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

import numpy as np

from model_service.models.degradation import Reading, Reference, WinRateCusum, cusum_of, readings
from model_service.models.intervals import Estimate
from model_service.models.job import Metric
from model_service.models.live_window import LiveWindow
from model_service.services.ports import LiveOutcome

WINDOW_SPAN = timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN = Estimate(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class LiveQuality:
    """What the live trades of a version show.

    Attributes:
        since: when it got the word.
        outcomes: of trades that it chose since then; what exploration drew is not its word.
        n: of them in the window, `window_from` to `window_to` by their availability.
        window_outcomes: as many the window holds at least, once there are so many.
    """

    strategy_id: str
    version: str
    since: datetime
    outcomes: int
    n: int
    window_outcomes: int
    window_from: datetime | None
    window_to: datetime | None
    metrics: Sequence[Metric]
    detectors: Sequence[Reading]
    reference: Reference

    @property
    def fired(self) -> Sequence[Reading]:
        """The detectors that say it is no longer what its test said."""
        return [one for one in self.detectors if one.fired]

    @property
    def window(self) -> Mapping[str, Any]:
        """As it is stored beside the metrics."""
        return {
            "window": self.window_outcomes,
            "window_hours": WINDOW_SPAN / timedelta(hours=1),
            "from": None if self.window_from is None else self.window_from.isoformat(),
            "to": None if self.window_to is None else self.window_to.isoformat(),
        }


class LiveState:
    """The outcomes of one version since it got the word, in the order in which they became available.

    The window is the larger of the last `window_outcomes` and of the last 24 hours. A correction of an outcome changes
    the window and not the cumulative sum, which has taken its step by what was known then.
    """

    def __init__(
        self,
        strategy_id: str,
        version: str,
        since: datetime,
        reference: Reference,
        horizon_seconds: int,
        floor: float,
        window: int,
    ) -> None:
        """`floor` is the probability from which the version acts; what came below it was drawn by exploration."""
        self.strategy_id = strategy_id
        self.version = version
        self.since = since
        self.last: LiveOutcome | None = None
        self.outcomes = 0
        self.onset: datetime | None = None
        self.has_news = False
        self._reference = reference
        self._horizon_us = horizon_seconds * 1_000_000
        self._floor = floor
        self._window_outcomes = window
        self._cusum: WinRateCusum | None = cusum_of(reference, self._horizon_us)
        self._window: dict[UUID, tuple[int, LiveOutcome]] = {}

    def add(self, outcome: LiveOutcome) -> None:
        """One more; in the order of the store."""
        self.last, self.has_news = outcome, True
        if outcome.confidence < self._floor:
            return
        if outcome.revision == 1:
            self._count(outcome)
        elif outcome.signal_id in self._window:
            self._window[outcome.signal_id] = _microseconds(outcome.entry_at), outcome

    def quality(self, now: datetime) -> LiveQuality:
        """What they show now."""
        self._trim(now)
        rows = list(self._window.values())
        window = _window(rows, self._horizon_us)
        full = len(rows) >= self._window_outcomes
        estimates = (window.accuracy, window.log_loss) if rows else (_UNKNOWN, _UNKNOWN)
        return LiveQuality(
            strategy_id=self.strategy_id,
            version=self.version,
            since=self.since,
            outcomes=self.outcomes,
            n=len(rows),
            window_outcomes=self._window_outcomes,
            window_from=rows[0][1].available_at if rows else None,
            window_to=rows[-1][1].available_at if rows else None,
            metrics=window.metrics() if rows else (),
            detectors=readings(self._reference, self._cusum, *estimates, full=full),
            reference=self._reference,
        )

    def _count(self, outcome: LiveOutcome) -> None:
        self.outcomes += 1
        entered_us = _microseconds(outcome.entry_at)
        self._window[outcome.signal_id] = entered_us, outcome
        if self._cusum is None:
            return
        before = self._cusum.value
        value = self._cusum.add(outcome.asset, entered_us, won=outcome.label == 1)
        if before == 0.0 and value > 0.0:
            self.onset = outcome.entry_at

    def _trim(self, now: datetime) -> None:
        for signal_id, (_, outcome) in list(self._window.items()):
            if len(self._window) <= self._window_outcomes or outcome.available_at > now - WINDOW_SPAN:
                return
            del self._window[signal_id]


def _window(rows: Sequence[tuple[int, LiveOutcome]], horizon_us: int) -> LiveWindow:
    ordered = sorted(rows, key=itemgetter(0))
    return LiveWindow(
        entered_us=np.array([entered_us for entered_us, _ in ordered], dtype=np.int64),
        labels=np.array([row.label for _, row in ordered], dtype=np.int8),
        probability=np.array([row.confidence for _, row in ordered], dtype=np.float64),
        net_returns=np.array([row.net_return for _, row in ordered], dtype=np.float64),
        horizon_us=horizon_us,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
