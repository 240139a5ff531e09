"""The same indicators over whole arrays of bars: the definition that the streaming ones are tested against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from model_service.market.indicators import (
    BOLLINGER_BARS,
    BOLLINGER_WIDTH,
    VOLATILITY_DECAY,
    VOLATILITY_WARM_UP,
    VOLUME_BARS,
)
from model_service.market.snapshot import Bar

Floats = NDArray[np.float64]


def batch_indicators(bars: Sequence[Bar]) -> dict[str, Floats]:
    """Every indicator of `INDICATORS` by name, at the end of every bar: shape (n,) each, NaN where unknown."""
    ends = np.array([bar.end.timestamp() for bar in bars])
    high, low, close, volume = (np.array([getattr(bar, name) for bar in bars], float) for name in _COLUMNS)
    return array_indicators(ends, high, low, close, volume)


def array_indicators(ends: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    """The same of bars given as columns (n,); `ends` in seconds since 1970, increasing."""
    return {
        "last_close": close,
        "return_1m": span_return(ends, close, 1),
        "return_5m": span_return(ends, close, 5),
        "return_15m": span_return(ends, close, 15),
        "return_60m": span_return(ends, close, 60),
        "realised_volatility": realised_volatility(close),
        "rsi_14": relative_strength(close),
        "macd_histogram": macd_histogram(close),
        "atr_14": average_true_range(high, low, close),
        "bollinger_b": bollinger_position(close),
        "ema_9_ratio": close / _exponential_average(close, 9) - 1.0,
        "ema_21_ratio": close / _exponential_average(close, 21) - 1.0,
        "vwap_distance": vwap_distance(high, low, close, volume),
        "volume_ratio": volume_ratio(volume),
    }


_COLUMNS = ("high", "low", "close", "volume")


def span_return(ends: Floats, close: Floats, minutes: int) -> Floats:
    """close / close of the bar that ended exactly `minutes` before - 1; `ends` in seconds, increasing."""
    wanted = ends - 60.0 * minutes
    found = np.searchsorted(ends, wanted)
    return np.where(ends[found] == wanted, close / close[found] - 1.0, np.nan) if len(ends) else close


def realised_volatility(close: Floats) -> Floats:
    """Root of the normalised exponentially weighted mean of squared log returns."""
    squares = np.diff(np.log(close)) ** 2
    weights = (1.0 - VOLATILITY_DECAY ** np.arange(1, len(squares) + 1)) / (1.0 - VOLATILITY_DECAY)
    values = np.sqrt(_discounted_sum(squares, VOLATILITY_DECAY) / weights)
    values[: VOLATILITY_WARM_UP - 1] = np.nan
    return _pad(values, len(close))


def relative_strength(close: Floats, bars: int = 14) -> Floats:
    """RSI minus 50."""
    change = np.diff(close)
    gain = _seeded_average(np.maximum(change, 0.0), bars, 1.0 / bars)
    moved = gain + _seeded_average(np.maximum(-change, 0.0), bars, 1.0 / bars)
    share = np.divide(gain, moved, out=np.full_like(gain, 0.5), where=moved != 0.0)
    return _pad(100.0 * share - 50.0, len(close))


def macd_histogram(close: Floats) -> Floats:
    """(MACD - signal line) / close."""
    macd = (_exponential_average(close, 12) - _exponential_average(close, 26))[25:]
    return _pad(macd - _exponential_average(macd, 9), len(close)) / close


def average_true_range(high: Floats, low: Floats, close: Floats, bars: int = 14) -> Floats:
    """ATR / close."""
    ranges = np.maximum.reduce([(high - low)[1:], np.abs(high[1:] - close[:-1]), np.abs(low[1:] - close[:-1])])
    return _pad(_seeded_average(ranges, bars, 1.0 / bars), len(close)) / close


def bollinger_position(close: Floats) -> Floats:
    """%B minus 0.5."""
    if len(close) < BOLLINGER_BARS:
        return np.full_like(close, np.nan)
    windows = sliding_window_view(close, BOLLINGER_BARS)
    offsets = windows - windows[:, -1:]
    mean, deviation = offsets.mean(axis=1), offsets.std(axis=1)
    lower, width = mean - BOLLINGER_WIDTH * deviation, 2.0 * BOLLINGER_WIDTH * deviation
    return _pad(np.divide(-lower, width, out=np.full_like(width, 0.5), where=width != 0.0) - 0.5, len(close))


def vwap_distance(high: Floats, low: Floats, close: Floats, volume: Floats) -> Floats:
    """close / VWAP - 1."""
    volumes = _window_sum(volume)
    turnover = _window_sum((high + low + close) / 3.0 * volume)
    vwap = np.divide(turnover, volumes, out=np.full_like(volumes, np.nan), where=volumes > 0.0)
    return close / vwap - 1.0


def volume_ratio(volume: Floats) -> Floats:
    """volume / mean of the window."""
    mean = _window_sum(volume) / VOLUME_BARS
    return np.divide(volume, mean, out=np.full_like(mean, np.nan), where=mean > 0.0)


def _discounted_sum(values: Floats, discount: float) -> Floats:
    """sum[i] = values[i] + discount * sum[i - 1]."""
    return np.array(list(accumulate(values.tolist(), lambda total, value: value + discount * total)), dtype=np.float64)


def _exponential_average(values: Floats, bars: int) -> Floats:
    return _seeded_average(values, bars, 2.0 / (bars + 1))


def _seeded_average(values: Floats, bars: int, weight: float) -> Floats:
    averages = np.full(len(values), np.nan)
    if len(values) >= bars:
        later = (weight * values[bars:]).tolist()
        steps = accumulate(
            later, lambda last, share: share + (1.0 - weight) * last, initial=float(values[:bars].mean())
        )
        averages[bars - 1 :] = list(steps)
    return averages


def _window_sum(values: Floats) -> Floats:
    if len(values) < VOLUME_BARS:
        return np.full_like(values, np.nan)
    return _pad(sliding_window_view(values, VOLUME_BARS).sum(axis=1), len(values))


def _pad(values: Floats, length: int) -> Floats:
    return np.concatenate([np.full(length - len(values), np.nan), values])
