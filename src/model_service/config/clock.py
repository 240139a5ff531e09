"""Where time and identifiers come from: the world in production, a seed in the demo and in tests."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4


class Clock(Protocol):
    """The source of the present moment."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)


class VirtualClock:
    """A clock that stands until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Aware UTC."""
        return self._now

    def advance_to(self, moment: datetime) -> None:
        """Move forward. Raises ValueError when `moment` lies in the past."""
        if moment < self._now:
            raise ValueError(f"virtual time is {self._now.isoformat()} and cannot go back to {moment.isoformat()}")
        self._now = moment


class Identifiers(Protocol):
    """The source of new identifiers."""

    def new(self) -> UUID:
        """A UUID that was not given before."""
        ...


class RandomIdentifiers:
    """Version 4 UUIDs of the operating system's randomness."""

    def new(self) -> UUID:
        """A UUID that was not given before."""
        return uuid4()


class SeededIdentifiers:
    """Version 4 UUIDs that follow from a seed.

    Example:
        >>> SeededIdentifiers(7).new() == SeededIdentifiers(7).new()
        True
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"identifiers:{seed}")  # noqa: S311 - reproducibility is the point

    def new(self) -> UUID:
        """The next UUID of the sequence."""
        return UUID(int=self._random.getrandbits(128), version=4)
