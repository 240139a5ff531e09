"""Nothing reads the future: features at t stay as they are when everything after t is removed (METHOD 2, 5)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.contracts.types import Side
from model_service.market.batch_indicators import array_indicators
from model_service.market.indicators import INDICATORS
from model_service.market.state import AssetMarket
from model_service.models.features import FEATURE_NAMES, DecisionContext, feature_vector
from studies.bars import Bars
from studies.features import KnownBars, Moments, feature_rows
from tests.support.truncation import reading_ahead

Floats = NDArray[np.float64]
START = datetime(2026, 1, 5, tzinfo=UTC)
BARS, CUTS = 240, (1, 20, 61, 100, 239)


def candles(count: int, seed: int = 7) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Ends in seconds, high, low, close and volume of the first `count` of a walk of BARS bars, with gaps."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(0.001 * rng.standard_normal(BARS)))
    high, low = close * (1 + 0.001 * rng.random(BARS)), close * (1 - 0.001 * rng.random(BARS))
    ends = 60.0 * np.cumsum(rng.choice([1, 1, 1, 3], BARS))
    columns = (ends, high, low, close, rng.integers(0, 9, BARS).astype(np.float64))
    first = tuple(column[:count].copy() for column in columns)
    return first[0], first[1], first[2], first[3], first[4]


def test_indicators_of_arrays_do_not_read_ahead() -> None:
    assert reading_ahead(lambda count: array_indicators(*candles(count)), BARS, CUTS) == set()


def leaks(count: int) -> Mapping[str, Floats]:
    """What has been planted to be found, in the forms in which it really happens."""
    close = candles(count)[3]
    padded = np.pad(close, 2, mode="edge")
    return {
        "next_return": np.append(close[1:], close[-1]) / close - 1.0,
        "centred_mean": np.convolve(padded, np.full(5, 0.2), "valid"),
        "scaled_by_all": (close - close.mean()) / close.std(),
        "filled_backwards": np.maximum.accumulate(close[::-1])[::-1],
        "honest": np.maximum.accumulate(close),
    }


def test_planted_leaks_are_found() -> None:
    planted = {"next_return", "centred_mean", "scaled_by_all", "filled_backwards"}
    # One that is left has nothing after it to read, so a single early cut finds them all.
    assert reading_ahead(leaks, BARS, (100,)) == planted


Timed = tuple[datetime, MarketEvent]


def events(seed: int) -> list[Timed]:
    """Two hours of trades, books, tickers and candles, with the moments at which they come."""
    draw = random.Random(seed)
    price, found = 100.0, list[Timed]()
    for second in range(0, 2 * 3600, 5):
        at = START + timedelta(seconds=second)
        price *= math.exp(draw.gauss(0, 0.0004))
        found.append((at, TradeEvent("BTCUSDT", at, price, draw.random(), draw.choice([Side.BUY, Side.SELL]))))
        if second % 10 == 0:
            half = price * draw.uniform(0.00001, 0.0003)
            found.append((at, BookEvent("BTCUSDT", at, price - half, draw.random(), price + half, draw.random(), True)))
        if second % 30 == 0:
            found.append((at, TickerEvent("BTCUSDT", at, last_price=price, volume_24h=1e6 * draw.random())))
        if second % 60 == 0 and second:
            low, high = price * 0.999, price * 1.001
            kline = KlineEvent("BTCUSDT", at - timedelta(minutes=1), at, price, high, low, price, 5.0, True)
            found.append((at, kline))
    return found


def vectors(history: list[Timed], ticks: int) -> Mapping[str, NDArray[np.float32]]:
    """The vector of every tick of 5 s while `history` comes in; ticks without an event are ticks as well."""
    market, rows, waiting = AssetMarket("BTCUSDT", 60), [], list(reversed(history))
    for tick in range(ticks):
        now = START + timedelta(seconds=5 * tick)
        while waiting and waiting[-1][0] <= now:
            market.apply(waiting.pop()[1])
        rows.append(feature_vector(market.snapshot(now), DecisionContext()))
    return dict(zip(FEATURE_NAMES, np.array(rows).T, strict=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_live_vector_does_not_read_ahead(seed: int) -> None:
    """Of the first k ticks everything later is removed from the history itself, not only not yet applied."""
    history, ticks = events(seed), 2 * 720

    def first(count: int) -> Mapping[str, NDArray[np.float32]]:
        end = START + timedelta(seconds=5 * (count - 1))
        return vectors([(at, event) for at, event in history if at <= end], count)

    whole = vectors(history, ticks)
    assert all(math.isfinite(whole[name][-1]) for name in INDICATORS if name in whole), "it has warmed up"
    assert reading_ahead(first, ticks, (13, 300, 900, 1_439)) == set()


def test_the_rows_of_studies_do_not_read_ahead() -> None:
    rng = np.random.default_rng(3)
    asked = np.sort(rng.integers(0, 400 * 60, 500))
    about = rng.random((4, 500))

    def first(count: int) -> Mapping[str, NDArray[np.float32]]:
        at = asked[:count]
        ends, high, low, close, volume = candles(BARS)
        known = ends <= at[-1]
        bars = Bars(60, ends[known].astype(np.int64), high[known], low[known], close[known], volume[known])
        moments = Moments(at, 100.0 + about[0, :count], 1e-4 * about[1, :count], about[2, :count], about[3, :count])
        return dict(zip(FEATURE_NAMES, feature_rows(moments, KnownBars.of(bars, at), {}).T, strict=True))

    assert reading_ahead(first, 500, (50, 250, 499)) == set()
