"""How long to wait before the next attempt to reach a server that is away."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.2
LAST_SECONDS = 5.0


class Backoff:
    """Delays that double from 0.2 s to 5 s.

    Each is shortened at random by up to half, so that replicas do not come together.

    Example:
        >>> backoff = Backoff()
        >>> 0.1 <= backoff.next_seconds() <= 0.2
        True
    """

    def __init__(self) -> None:
        self._ceiling = FIRST_SECONDS

    def next_seconds(self) -> float:
        """The delay before the next attempt."""
        delay = self._ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        self._ceiling = min(self._ceiling * 2, LAST_SECONDS)
        return delay

    def reset(self) -> None:
        """Begin again with short delays."""
        self._ceiling = FIRST_SECONDS
