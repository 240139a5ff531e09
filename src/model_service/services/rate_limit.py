"""A token bucket: so many per minute, with a burst."""

from __future__ import annotations

from datetime import datetime


class TokenBucket:
    """Holds at most `burst` tokens and gains `per_minute` of them a minute; time is an argument.

    Example:
        >>> from datetime import UTC, datetime
        >>> bucket = TokenBucket(per_minute=60, burst=1)
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> bucket.available(noon), bucket.take(noon), bucket.available(noon)
        (1.0, True, 0.0)
    """

    def __init__(self, *, per_minute: float, burst: int) -> None:
        self._per_second = per_minute / 60.0
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at: datetime | None = None

    def available(self, now: datetime) -> float:
        """Tokens at `now`; a clock that steps back gains nothing."""
        if self._at is not None:
            elapsed = max(0.0, (now - self._at).total_seconds())
            self._tokens = min(self._burst, self._tokens + elapsed * self._per_second)
        self._at = now
        return self._tokens

    def take(self, now: datetime) -> bool:
        """Take one token if there is one."""
        if self.available(now) < 1.0:
            return False
        self._tokens -= 1.0
        return True
