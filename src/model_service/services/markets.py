"""The live markets of all assets that anybody asks about; one that is asked for late begins with its stored bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from model_service.market.snapshot import Bar
from model_service.market.state import AssetMarket

WARM_START_BARS = 500


class BarHistory(Protocol):
    """Stored bars."""

    async def newest(self, asset: str, until: datetime, count: int) -> Sequence[Bar]:
        """The last `count` bars before `until`, in order."""
        ...


class Markets(Mapping[str, AssetMarket]):
    """By asset. A market is never taken away: an open position, or a label that is due, may still need it."""

    def __init__(self, bars: BarHistory, make: Callable[[str], AssetMarket]) -> None:
        self._bars = bars
        self._make = make
        self._markets: dict[str, AssetMarket] = {}

    def __getitem__(self, asset: str) -> AssetMarket:
        return self._markets[asset]

    def __iter__(self) -> Iterator[str]:
        return iter(self._markets)

    def __len__(self) -> int:
        return len(self._markets)

    async def ensure(self, assets: Iterable[str], now: datetime) -> None:
        """Make the markets that are missing, each from its stored bars. Raises DatabaseUnavailable."""
        for asset in sorted(set(assets) - self._markets.keys()):
            market = self._make(asset)
            market.warm_start(await self._bars.newest(asset, now, WARM_START_BARS))
            # Two callers may have asked for it at once; events have come to the one that was there first.
            self._markets.setdefault(asset, market)
