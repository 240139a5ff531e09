"""What the account has to trade with, as the platform's tables say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from model_service.contracts.types import Side

READ_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Balance:
    """Quote currency that is free, and when the platform heard of it."""

    available: float
    received_at: datetime

    def age_seconds(self, now: datetime) -> float:
        """How old it is; a clock that lies behind makes it no younger than now."""
        return max(0.0, (now - self.received_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Balances:
    """What order-manager holds an order against; None where there is no row, which allows it."""

    quote: Balance | None = None
    margin: Balance | None = None

    def of(self, side: Side) -> Balance | None:
        """The quote currency for a buy, the margin for a sell."""
        return self.quote if side is Side.BUY else self.margin


class BalanceReader:
    """Balances, read again every two seconds at most, however often a strategy ticks."""

    def __init__(self, read: Callable[[], Awaitable[Balances]]) -> None:
        self._read = read
        self._known = Balances()
        self._read_at: datetime | None = None

    async def at(self, now: datetime) -> Balances:
        """What is known at `now`. Raises DatabaseUnavailable."""
        if self._read_at is None or abs((now - self._read_at).total_seconds()) >= READ_EVERY_SECONDS:
            self._known = await self._read()
            self._read_at = now
        return self._known
