"""Which assets the strategies trade that trade what the account holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from model_service.config.assets import is_asset

log = structlog.get_logger()
LOOK_SECONDS = 60.0
LOOKS_UNTIL_GONE = 3
"""So many looks in a row that do not show a coin take it away: one that misses it between two others does not."""
STABLE_COINS = frozenset(
    {"USD", "USDT", "USDC", "USDE", "USDD", "USDP", "USD1", "DAI", "TUSD", "BUSD", "FDUSD", "PYUSD", "EURC", "EURT"}
)
"""Money in another coat: a pair of two of them has no price worth a signal."""


class Balances(Protocol):
    """What the account holds."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Why that cannot be read; empty when it can."""
        ...

    async def held(self) -> Sequence[str] | None:
        """Coins with a positive balance; None where that cannot be read."""
        ...


class BalanceAssets:
    """Looks once a minute.

    Args:
        balances: None where there is no such table, as with an embedded database.
        quote: the currency that coins are traded against.
    """

    def __init__(self, balances: Balances | None, quote: str) -> None:
        self._balances = balances
        self._quote = quote
        self._unseen: Mapping[str, int] = {}
        self._left_out: frozenset[str] = frozenset()
        self._next_look: datetime | None = None

    @property
    def assets(self) -> tuple[str, ...]:
        """What is traded now, in order."""
        return tuple(sorted(self._unseen))

    @property
    def reason(self) -> str:
        """Why there are no assets, where there are none; without anything that the account holds."""
        if self._balances is None:
            return "there is no table account_balances without the platform's database and TRADING_ORDER_LOOKUP_ENABLED"
        return "; ".join(self._balances.notices) or f"account_balances has no coin to be traded against {self._quote}"

    async def look(self, now: datetime) -> None:
        """Read the balances when a look is due. Raises DatabaseUnavailable, which is no look."""
        if self._balances is None or (self._next_look is not None and now < self._next_look):
            return
        held = await self._balances.held()
        self._next_look = now + timedelta(seconds=LOOK_SECONDS)
        pairs, left_out = tradable(held or (), self._quote)
        if left_out - self._left_out:
            log.warning("balance_coins_left_out", coins=sorted(left_out - self._left_out), quote=self._quote)
        self._left_out = left_out
        self._unseen = after_look(self._unseen, pairs)


def tradable(coins: Collection[str], quote: str) -> tuple[frozenset[str], frozenset[str]]:
    """The assets of the coins against `quote`, and the coins whose asset order-manager would refuse.

    Stable coins, `quote` among them, are neither.

    Example:
        >>> tradable(["BTC", "USDT", "USDC", "A-B"], "USDT")
        (frozenset({'BTCUSDT'}), frozenset({'A-B'}))
    """
    wanted = {coin.upper() for coin in coins} - STABLE_COINS - {quote}
    left_out = frozenset(coin for coin in wanted if not is_asset(coin + quote))
    return frozenset(coin + quote for coin in wanted - left_out), left_out


def after_look(unseen: Mapping[str, int], seen: Collection[str]) -> dict[str, int]:
    """By asset, how many looks in a row have not shown it, once one more has shown `seen`.

    Example:
        >>> after_look({"BTCUSDT": 1, "ETHUSDT": 2}, ["SOLUSDT"])
        {'BTCUSDT': 2, 'SOLUSDT': 0}
    """
    kept = {asset: looks + 1 for asset, looks in unseen.items() if asset not in seen and looks + 1 < LOOKS_UNTIL_GONE}
    return kept | dict.fromkeys(sorted(seen), 0)
