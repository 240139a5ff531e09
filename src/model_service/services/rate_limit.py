"""A token bucket: so many per minute, with a burst. One for each strategy, and one that all processes share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

LARGEST_CLOCK_DIFFERENCE_SECONDS = 60.0
"""Clocks of two processes lie closer together than this; one that is further behind has been set back."""


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
        self._per_minute = per_minute
        self._burst = burst
        self._tokens = float(burst)
        self._at: datetime | None = None

    def available(self, now: datetime) -> float:
        """Tokens at `now`. A clock that steps back gains nothing, nor when it makes up for it (see `refilled`)."""
        at = Bucket(self._tokens, self._at or now)
        bucket = refilled(at, per_minute=self._per_minute, burst=self._burst, now=now)
        self._tokens, self._at = bucket.tokens, bucket.refilled_at
        return self._tokens

    def take(self, now: datetime) -> bool:
        """Take one token if there is one."""
        if self.available(now) < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """Return a token whose signal was refused elsewhere."""
        self._tokens = min(float(self._burst), self._tokens + 1.0)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it is stored: tokens by the time of its last refill."""

    tokens: float
    refilled_at: datetime


def refilled(bucket: Bucket, *, per_minute: float, burst: int, now: datetime) -> Bucket:
    """The bucket at `now`, for processes whose clocks differ: its time never goes back by a little.

    Else two of them would gain the time between their clocks again at every turn. A clock that is set back by more than
    that is followed, since else nothing would be gained until it is as late again; set forward again, it gains once.

    Example:
        >>> from datetime import UTC, datetime, timedelta
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> refilled(Bucket(0.5, noon), per_minute=60, burst=3, now=noon + timedelta(seconds=1)).tokens
        1.5
        >>> refilled(Bucket(0.5, noon), per_minute=60, burst=3, now=noon - timedelta(seconds=1)) == Bucket(0.5, noon)
        True
    """
    elapsed = (now - bucket.refilled_at).total_seconds()
    if -LARGEST_CLOCK_DIFFERENCE_SECONDS <= elapsed < 0:
        return bucket
    return Bucket(min(float(burst), bucket.tokens + max(0.0, elapsed) * per_minute / 60.0), now)
