"""Market data that grow old are warned of once for each asset and spell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from model_service.contracts.market import TickerEvent
from model_service.market.state import AssetMarket
from model_service.services.market_watch import MarketWatch
from tests.support.builders import NOON


def at(seconds: float) -> Any:
    return NOON + timedelta(seconds=seconds)


def said(watch: MarketWatch, market: AssetMarket, seconds: Sequence[int]) -> list[tuple[str, float | None]]:
    with capture_logs() as logged:
        for second in seconds:
            watch.observe({"BTCUSDT": market}, at(second))
    return [(entry["event"], entry.get("age_seconds")) for entry in logged]


def test_once_for_each_spell() -> None:
    watch, market = MarketWatch(30.0), AssetMarket("BTCUSDT", 60)
    market.apply(TickerEvent("BTCUSDT", NOON, last_price=1.0))
    assert said(watch, market, range(90)) == [("market_data_old", 31.0)]
    market.apply(TickerEvent("BTCUSDT", at(90), last_price=1.0))
    assert said(watch, market, range(90, 122)) == [("market_data_fresh", None), ("market_data_old", 31.0)]


def test_data_that_never_came_count_from_the_first_look() -> None:
    assert said(MarketWatch(30.0), AssetMarket("BTCUSDT", 60), range(10, 90)) == [("market_data_old", 31.0)]


def test_an_asset_that_is_gone_is_forgotten() -> None:
    watch, market = MarketWatch(30.0), AssetMarket("BTCUSDT", 60)
    assert said(watch, market, [0, 40]) == [("market_data_old", 40.0)]
    watch.observe({}, at(41))
    assert said(watch, market, [42]) == [("market_data_old", 42.0)]
