"""The standard indicators against TA-Lib, which shares no line with ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import talib
from numpy.typing import NDArray

from model_service.market.batch_indicators import array_indicators
from model_service.market.indicators import INDICATORS, IndicatorSet
from model_service.market.snapshot import Bar

Floats = NDArray[np.float64]
BARS = 1_500
SETTLED = 700
"""TA-Lib starts the fast average of MACD elsewhere; after so many bars nothing is left of a start (25 / 27 each)."""
START = datetime(2026, 1, 5, tzinfo=UTC)


def walk(seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """High, low, close and volume, with gaps between a close and the next range."""
    rng = np.random.default_rng(seed)
    close = 20_000.0 * np.exp(np.cumsum(0.002 * rng.standard_normal(BARS)))
    opened = np.roll(close, 1) * (1.0 + 0.001 * rng.standard_normal(BARS))
    high = np.maximum(close, opened) * (1.0 + 0.001 * rng.random(BARS))
    low = np.minimum(close, opened) * (1.0 - 0.001 * rng.random(BARS))
    return high, low, close, rng.random(BARS)


def by_talib(high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    upper, _, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    typical = talib.TYPPRICE(high, low, close)
    vwap = talib.SUM(typical * volume, 60) / talib.SUM(volume, 60)
    return {
        "return_1m": talib.ROCP(close, 1),
        "return_5m": talib.ROCP(close, 5),
        "return_15m": talib.ROCP(close, 15),
        "return_60m": talib.ROCP(close, 60),
        "rsi_14": talib.RSI(close, 14) - 50.0,
        "macd_histogram": talib.MACD(close, 12, 26, 9)[2] / close,
        "atr_14": talib.ATR(high, low, close, 14) / close,
        "bollinger_b": (close - lower) / (upper - lower) - 0.5,
        "ema_9_ratio": close / talib.EMA(close, 9) - 1.0,
        "ema_21_ratio": close / talib.EMA(close, 21) - 1.0,
        "vwap_distance": close / vwap - 1.0,
        "volume_ratio": volume / talib.SMA(volume, 60),
    }


def streamed(high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    service, rows = IndicatorSet(), []
    for index in range(len(close)):
        start = START + timedelta(minutes=index)
        numbers = (float(close[index]), float(high[index]), float(low[index]), float(close[index]))
        rows.append(service.update(Bar(start, start + timedelta(minutes=1), *numbers, float(volume[index]))))
    return {name: np.array([row[name] for row in rows]) for name in INDICATORS}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_streaming_and_batch_say_what_talib_says(seed: int) -> None:
    columns = walk(seed)
    expected = by_talib(*columns)
    batch = array_indicators(np.arange(BARS, dtype=np.float64) * 60.0, *columns)
    for found in (streamed(*columns), batch):
        assert set(found) - set(expected) == {"last_close", "realised_volatility"}, "TA-Lib has nothing of the kind"
        for name, values in expected.items():
            start = SETTLED if name == "macd_histogram" else int(np.flatnonzero(np.isfinite(values))[0])
            np.testing.assert_allclose(found[name][start:], values[start:], rtol=1e-8, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("name", "first"), [("rsi_14", 14), ("atr_14", 14), ("bollinger_b", 19), ("ema_21_ratio", 20)])
def test_both_are_known_from_the_same_bar_on(name: str, first: int) -> None:
    columns = walk(4)
    assert int(np.flatnonzero(np.isfinite(by_talib(*columns)[name]))[0]) == first
    assert int(np.flatnonzero(np.isfinite(streamed(*columns)[name]))[0]) == first
