"""Who is the aggressor: bought against sold volume of the public trades of the last minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from model_service.contracts.market import TradeEvent
from model_service.contracts.types import Side
from model_service.market.snapshot import NAN

WINDOW_SECONDS = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class TradeFlow:
    """Volumes by second of the last 60 seconds, so at most 60 entries however many trades there are.

    The resolution is one second: a trade counts from 59 to 60 seconds long.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[float, float]] = {}
        self._newest = 0

    def add(self, trade: TradeEvent) -> None:
        """Take a trade; one that is older than the window is ignored."""
        second = _second(trade.at)
        if second > self._newest:
            self._newest = second
            self._forget(second - WINDOW_SECONDS)
        if second > self._newest - WINDOW_SECONDS:
            bought, sold = self._seconds.get(second, (0.0, 0.0))
            is_buy = trade.taker_side is Side.BUY
            self._seconds[second] = (bought + trade.quantity, sold) if is_buy else (bought, sold + trade.quantity)

    def imbalance(self, now: datetime) -> float:
        """(bought - sold) / (bought + sold) of the 60 seconds up to `now`, -1 to 1; NaN without a trade in them."""
        oldest = _second(now) - WINDOW_SECONDS
        bought = sold = 0.0
        for second, (bought_then, sold_then) in self._seconds.items():
            if second > oldest:
                bought += bought_then
                sold += sold_then
        return (bought - sold) / (bought + sold) if bought + sold > 0.0 else NAN

    def step_back(self, now: datetime) -> None:
        """Our clock has: volumes of a time that has not come yet are forgotten."""
        self._newest = min(self._newest, _second(now))
        self._seconds = {second: volumes for second, volumes in self._seconds.items() if second <= self._newest}

    def _forget(self, until: int) -> None:
        self._seconds = {second: volumes for second, volumes in self._seconds.items() if second > until}


def _second(at: datetime) -> int:
    return (at - _EPOCH) // _SECOND
