"""What the account has to trade with, as the platform's tables say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from model_service.contracts.types import Side

log = structlog.get_logger()
READ_EVERY_SECONDS = 2.0
READ_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Balance:
    """Quote currency that is free, and when the platform heard of it."""

    available: float
    received_at: datetime

    def age_seconds(self, now: datetime) -> float:
        """How far its time lies from `now`, either way: how old it is cannot be told of one that lies ahead."""
        return abs((now - self.received_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Balances:
    """What order-manager holds an order against; None where there is no row, which allows it.

    Attributes:
        unread: sides of which the table is there, and what it says cannot be read: that allows nothing.
    """

    quote: Balance | None = None
    margin: Balance | None = None
    unread: frozenset[Side] = frozenset()

    def of(self, side: Side) -> Balance | None:
        """The quote currency for a buy, the margin for a sell."""
        return self.quote if side is Side.BUY else self.margin


class BalanceReader:
    """Balances, read again every two seconds at most, however often a strategy ticks.

    The tables are another service's and only grow: a read that takes long must not hold the exits of the tick up. What
    was known goes on to hold then, and grows old by itself.
    """

    def __init__(self, read: Callable[[], Awaitable[Balances]]) -> None:
        self._read = read
        self._known = Balances()
        self._read_at: datetime | None = None
        self._is_slow = False
        self._has_read = False

    def read_anew(self) -> None:
        """Let the next look read, since the tables have just been written."""
        self._read_at = None

    async def at(self, now: datetime) -> Balances:
        """What is known at `now`. Raises DatabaseUnavailable."""
        if self._read_at is None or abs((now - self._read_at).total_seconds()) >= READ_EVERY_SECONDS:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    self._known = await self._read()
                self._has_read = True
                self._is_slow = False
            except TimeoutError:
                if not self._has_read:
                    self._known = Balances(unread=frozenset(Side))
                if not self._is_slow:
                    log.warning("balances_slow", seconds=READ_SECONDS)
                self._is_slow = True
            self._read_at = now
        return self._known
