"""Says in the log, once for each asset and spell, that market data grow old."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog

from model_service.market.state import AssetMarket

log = structlog.get_logger()


class MarketWatch:
    """Watches the age of each asset's newest event. An asset of which nothing has come yet is counted from the start.

    Args:
        warn_after_seconds: the age from which data are warned of; mostly under the age at which they are refused.
    """

    def __init__(self, warn_after_seconds: float) -> None:
        self._limit = warn_after_seconds
        self._since: dict[str, datetime] = {}
        self._warned: set[str] = set()

    def observe(self, markets: Mapping[str, AssetMarket], now: datetime) -> None:
        """Look at all; cheap enough for every pass."""
        for asset, market in markets.items():
            newest = market.heard_at or self._since.setdefault(asset, now)
            self._look_at(asset, (now - newest).total_seconds())
        self._warned &= markets.keys()

    def _look_at(self, asset: str, age: float) -> None:
        if age > self._limit and asset not in self._warned:
            self._warned.add(asset)
            log.warning("market_data_old", asset=asset, age_seconds=round(age, 3), warn_after_seconds=self._limit)
        elif age <= self._limit and asset in self._warned:
            self._warned.discard(asset)
            log.info("market_data_fresh", asset=asset)
