"""Bars as arrays, with every indicator of the service at the end of each: as fast as a study needs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import lfilter

from model_service.market.indicators import (
    BOLLINGER_BARS,
    BOLLINGER_WIDTH,
    VOLATILITY_DECAY,
    VOLATILITY_WARM_UP,
    VOLUME_BARS,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bars:
    """Closed bars in time order, with or without gaps; all arrays (m,).

    Attributes:
        seconds: length of a bar.
        ends: int64, seconds since 1970 at which each bar was known.
        volume: base units.
    """

    seconds: int
    ends: NDArray[np.int64]
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.ends)


def indicators(bars: Bars) -> dict[str, Floats]:
    """The values of `market.indicators.INDICATORS` by name at the end of every bar, (m,) each, NaN where unknown."""
    close = bars.close
    spans = {f"return_{minutes}m": _span_return(bars, minutes) for minutes in (1, 5, 15, 60)}
    return {
        "last_close": close,
        **spans,
        "realised_volatility": _realised_volatility(close),
        "rsi_14": _relative_strength(close),
        "macd_histogram": _macd_histogram(close),
        "atr_14": _average_true_range(bars),
        "bollinger_b": _bollinger_position(close),
        "ema_9_ratio": close / _exponential_average(close, 9) - 1.0,
        "ema_21_ratio": close / _exponential_average(close, 21) - 1.0,
        "vwap_distance": _vwap_distance(bars),
        "volume_ratio": _volume_ratio(bars.volume),
    }


def autoregression(shocks: Floats, phi: float) -> Floats:
    """An AR(1) of unit variance from standard normal `shocks` (n,), which starts in its stationary state."""
    scaled = np.sqrt(1.0 - phi * phi) * shocks
    scaled[0] = shocks[0]
    return recursion(scaled, phi)


def recursion(values: Floats, phi: float) -> Floats:
    """y[i] = phi y[i - 1] + values[i], from y[-1] = 0."""
    return np.asarray(lfilter([1.0], [1.0, -phi], values), dtype=np.float64)


def _span_return(bars: Bars, minutes: int) -> Floats:
    wanted = bars.ends - 60 * minutes
    found = np.searchsorted(bars.ends, wanted)
    return np.where(bars.ends[found] == wanted, bars.close / bars.close[found] - 1.0, np.nan)


def _realised_volatility(close: Floats) -> Floats:
    squares = np.diff(np.log(close)) ** 2
    weights = recursion(np.ones_like(squares), VOLATILITY_DECAY)
    values = np.sqrt(recursion(squares, VOLATILITY_DECAY) / weights)
    values[: VOLATILITY_WARM_UP - 1] = np.nan
    return _pad(values, len(close))


def _relative_strength(close: Floats, bars: int = 14) -> Floats:
    change = np.diff(close)
    gain = _seeded_average(np.maximum(change, 0.0), bars, 1.0 / bars)
    moved = gain + _seeded_average(np.maximum(-change, 0.0), bars, 1.0 / bars)
    share = np.divide(gain, moved, out=np.full_like(gain, 0.5), where=moved != 0.0)
    return _pad(100.0 * share - 50.0, len(close))


def _macd_histogram(close: Floats) -> Floats:
    macd = (_exponential_average(close, 12) - _exponential_average(close, 26))[25:]
    return _pad(macd - _exponential_average(macd, 9), len(close)) / close


def _average_true_range(bars: Bars, length: int = 14) -> Floats:
    before = bars.close[:-1]
    ranges = np.maximum(bars.high[1:], before) - np.minimum(bars.low[1:], before)
    return _pad(_seeded_average(ranges, length, 1.0 / length), len(bars)) / bars.close


def _bollinger_position(close: Floats) -> Floats:
    if len(close) < BOLLINGER_BARS:
        return np.full_like(close, np.nan)
    windows = sliding_window_view(close, BOLLINGER_BARS)
    offsets = windows - windows[:, -1:]
    deviation = offsets.std(axis=1)
    width = 2.0 * BOLLINGER_WIDTH * deviation
    return _pad(np.divide(-offsets.mean(axis=1), width, out=np.zeros_like(width), where=width != 0.0), len(close))


def _vwap_distance(bars: Bars) -> Floats:
    volumes = _window_sum(bars.volume)
    turnover = _window_sum((bars.high + bars.low + bars.close) / 3.0 * bars.volume)
    return np.divide(bars.close * volumes, turnover, out=np.full_like(volumes, np.nan), where=turnover > 0.0) - 1.0


def _volume_ratio(volume: Floats) -> Floats:
    total = _window_sum(volume)
    return np.divide(volume * VOLUME_BARS, total, out=np.full_like(total, np.nan), where=total > 0.0)


def _exponential_average(values: Floats, bars: int) -> Floats:
    return _seeded_average(values, bars, 2.0 / (bars + 1))


def _seeded_average(values: Floats, bars: int, weight: float) -> Floats:
    """The plain mean of the first `bars` values, then an exponential average; NaN before."""
    averages = np.full(len(values), np.nan)
    if len(values) < bars:
        return averages
    seed = float(values[:bars].mean())
    driven = weight * values[bars - 1 :]
    driven[0] = seed
    averages[bars - 1 :] = recursion(driven, 1.0 - weight)
    return averages


def _window_sum(values: Floats) -> Floats:
    if len(values) < VOLUME_BARS:
        return np.full_like(values, np.nan)
    return _pad(sliding_window_view(values, VOLUME_BARS).sum(axis=1), len(values))


def _pad(values: Floats, length: int) -> Floats:
    return np.concatenate([np.full(length - len(values), np.nan), values])
