"""How sure a number over overlapping, clustered outcomes is (METHOD 7).

Every number is linearised: it comes as the influence of each row on it, and its error is that of a sum of influences.
Outcomes that overlap move together, and volatility comes in clusters, so rows are summed by blocks of time that move.
Ten contiguous blocks of rows, which METHOD names for returns, are kept for rows whose times are not known: where a
block is hardly longer than an outcome they cover too seldom (`docs/evidence.md` has the figures of both).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 10
CONTIGUOUS_BLOCKS = "10 contiguous blocks, linearised ratio, t with 9 degrees of freedom"
MOVING_BLOCKS = "moving blocks of 2 horizons or a twelfth of the time, flat weights, linearised, t"
DELONG = "DeLong's components over moving blocks of 2 horizons or a twelfth of the time, flat weights, t"
WINDOW_HORIZONS, WINDOWS = 2, 12
LEAST_HORIZONS = 5
"""Rows of a shorter time hold too few windows to say anything of an error."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error, which is NaN where the rows cannot tell.

    Attributes:
        degrees: degrees of freedom of the error.
        method: how the error was found.
    """

    value: float
    standard_error: float
    degrees: float = BLOCKS - 1
    method: str = CONTIGUOUS_BLOCKS

    def lower(self, confidence: float) -> float:
        """The one-sided lower bound; 0.5 < confidence < 1."""
        return self.value - student_t_quantile(confidence, self.degrees) * self.standard_error

    def upper(self, confidence: float) -> float:
        """The one-sided upper bound."""
        return self.value + student_t_quantile(confidence, self.degrees) * self.standard_error


def block_ratio(numerators: NDArray[Any], denominators: NDArray[Any] | None = None) -> Estimate:
    """sum(numerators) / sum(denominators) over rows in time order, with the error that ten blocks of rows show.

    Within block b the linearised residual is e_b = sum(numerator - ratio * denominator); they sum to 0, and the
    variance of their total is B / (B - 1) * sum(e_b squared). A mean is the ratio with denominators of 1.

    Example:
        >>> estimate = block_ratio(np.array([0.0, 1.0] * 50))
        >>> estimate.value, estimate.standard_error
        (0.5, 0.0)
    """
    weights = np.ones(len(numerators)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    total = float(np.sum(weights))
    if total == 0:
        return Estimate(math.nan, math.nan)
    ratio = float(np.sum(numerators)) / total
    if len(weights) < BLOCKS:
        return Estimate(ratio, math.nan)
    residuals = [float(np.sum(part)) for part in np.array_split(numerators - ratio * weights, BLOCKS)]
    return Estimate(ratio, math.sqrt(BLOCKS / (BLOCKS - 1) * sum(value**2 for value in residuals)) / abs(total))


def without_pauses(decided_us: NDArray[np.int64], horizon_us: int) -> NDArray[np.int64]:
    """The times, (n,), with every pause shortened to a window of 2 H: what lies farther apart is no less related.

    Else a pause of weeks would be nearly all of a span that holds but two stretches of rows.

    Example:
        >>> without_pauses(np.array([0, 5, 1000, 1001]), 10).tolist()
        [0, 5, 25, 26]
    """
    steps = np.minimum(np.diff(decided_us, prepend=decided_us[:1]), WINDOW_HORIZONS * horizon_us)
    return np.cumsum(steps, dtype=np.int64)


class TimeBlocks:
    """The blocks of rows in time order; made once for all numbers over these rows.

    Time is counted without pauses. With the rows' span T, a window of W = max(2 H, T / 12) moves over it. The mean over
    time of the squared sum within it, per window, is the moving-block variance [Kuensch 1989] for rows at uneven times,
    the same as Bartlett weights (1 - |t_i - t_j| / W)+ on all pairs: V(W). What reaches beyond a window makes it too
    small; 2 V(W) - V(W / 2), whose weights are flat up to W / 2 [Politis & Romano 1995], is free of that to the first
    order. With b = W / T the two are too small by the factors 1 - b + b^2 / 3 and 1 - 3 b / 2 + 7 b^2 / 12, because the
    influences sum to 0. The larger one counts, with 0.75 / b degrees of freedom, those of the flat weights
    [Kiefer & Vogelsang 2005].
    """

    def __init__(self, decided_us: NDArray[np.int64], horizon_us: int) -> None:
        """Of times that do not fall, (n,), and the horizon H, both in microseconds."""
        self._rows = len(decided_us)
        times_us = without_pauses(decided_us, horizon_us)
        span = float(times_us[-1]) if self._rows else 0.0
        self._share = math.inf
        if span > 0 and span >= LEAST_HORIZONS * horizon_us:
            window_us = max(WINDOW_HORIZONS * horizon_us, round(span / WINDOWS))
            self._share = window_us / span
            self._whole = _Windows(times_us, window_us)
            self._half = _Windows(times_us, (window_us + 1) // 2)

    def ratio(self, numerators: NDArray[Any], denominators: NDArray[Any] | None = None) -> Estimate:
        """sum(numerators) / sum(denominators), one number a row each, (n,); denominators default to 1."""
        weights = np.ones(self._rows) if denominators is None else np.asarray(denominators, dtype=np.float64)
        total = float(np.sum(weights))
        if total == 0:
            return Estimate(math.nan, math.nan, method=MOVING_BLOCKS)
        value = float(np.sum(numerators)) / total
        return self.estimate(value, (numerators - value * weights) / total)

    def estimate(self, value: float, influences: Floats, method: str = MOVING_BLOCKS) -> Estimate:
        """`value`, which rows move by `influences`, (n,), that sum to 0; the error is NaN where they say too little."""
        b = self._share
        if self._rows < BLOCKS or not math.isfinite(b):
            return Estimate(value, math.nan, method=method)
        sums = np.concatenate(([0.0], np.cumsum(influences)))
        whole, half = self._whole.mean_square(sums), self._half.mean_square(sums)
        bartlett = whole / (1.0 - b + b**2 / 3.0)
        flat = (2.0 * whole - half) / (1.0 - 1.5 * b + 7.0 / 12.0 * b**2)
        return Estimate(value, math.sqrt(max(bartlett, flat)), 0.75 / b, method)


def student_t_quantile(confidence: float, degrees: float) -> float:
    """The value that Student's t stays under with probability `confidence` in (0.5, 1); degrees >= 1, also fractions.

    G. W. Hill, Algorithm 396, Communications of the ACM 13 (1970); relative error under 1e-5 from 3 degrees on. Written
    out, so that serving needs no scipy.

    Example:
        >>> round(student_t_quantile(0.95, 9), 4)
        1.8331
    """
    tails = 2.0 * (1.0 - confidence)
    if degrees < 1.0 or not 0.0 < tails < 1.0:
        raise ValueError(f"confidence {confidence} with {degrees} degrees of freedom; allowed: 0.5 to 1, from 1 on")
    a = 1.0 / (degrees - 0.5)
    b = 48.0 / a**2
    c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36
    d = ((94.5 / (b + c) - 3.0) / b + 1.0) * math.sqrt(a * math.pi / 2.0) * degrees
    y = (d * tails) ** (2.0 / degrees)
    if y > 0.05 + a:
        return math.sqrt(degrees * _near_normal(NormalDist().inv_cdf(0.5 * tails), degrees, a, b, c, d))
    tail = 1.0 / (((degrees + 6.0) / (degrees * y) - 0.089 * d - 0.822) * (degrees + 2.0) * 3.0)
    y = ((tail + 0.5 / (degrees + 4.0)) * y - 1.0) * (degrees + 1.0) / (degrees + 2.0) + 1.0 / y
    return math.sqrt(degrees * y)


def _near_normal(x: float, degrees: float, a: float, b: float, c: float, d: float) -> float:
    if degrees < 5.0:
        c += 0.3 * (degrees - 4.5) * (x + 0.6)
    c = (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b + c
    y = x * x
    y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x
    return math.expm1(a * y * y)


class _Windows:
    """Which rows a window of `window_us` holds while it moves over all of them, as stretches of time."""

    def __init__(self, times_us: NDArray[np.int64], window_us: int) -> None:
        moments = np.concatenate((times_us, times_us - window_us))
        order = np.argsort(moments, kind="stable")  # two runs that rise: merging them takes one pass
        # Between two moments the same rows are inside: those with s < t <= s + window, seen from the open interval.
        self._first = np.cumsum(order < len(times_us))[:-1]
        self._last = np.arange(1, len(order)) - self._first
        self._lengths = np.diff(moments[order]) / window_us

    def mean_square(self, sums: Floats) -> float:
        """1 / window * integral over s of (sum within [s, s + window)) squared; `sums` are of the first k values."""
        inside = sums[self._last] - sums[self._first]
        return float(np.dot(inside * inside, self._lengths))
