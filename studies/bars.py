"""Bars as arrays, with every indicator of the service at the end of each: as fast as a study needs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from model_service.market.batch_indicators import array_indicators

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
    return array_indicators(bars.ends.astype(np.float64), bars.high, bars.low, bars.close, bars.volume)


def autoregression(shocks: Floats, phi: float) -> Floats:
    """An AR(1) of unit variance from standard normal `shocks` (n,), which starts in its stationary state."""
    scaled = np.sqrt(1.0 - phi * phi) * shocks
    scaled[0] = shocks[0]
    return recursion(scaled, phi)


def recursion(values: Floats, phi: float) -> Floats:
    """y[i] = phi y[i - 1] + values[i], from y[-1] = 0."""
    return np.asarray(lfilter([1.0], [1.0, -phi], values), dtype=np.float64)
