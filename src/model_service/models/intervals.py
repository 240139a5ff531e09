"""How sure a number over overlapping, clustered outcomes is (METHOD 7).

Two ways, both linearised, both with Student's t. Values and returns: ten contiguous blocks of rows. Everything else:
blocks that move over time, two horizons long. A number that is no ratio of sums, such as the area under a ROC curve,
comes as the influence of each row on it.
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
MOVING_BLOCKS = "moving blocks of 2 horizons, linearised, t"
DELONG = "DeLong's components over moving blocks of 2 horizons, t"
LONGEST_SHARE = 0.5
"""A moving block may cover so much of the rows' span; more says nothing."""

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


def moving_ratio(
    numerators: NDArray[Any], decided_us: NDArray[np.int64], window_us: int, denominators: NDArray[Any] | None = None
) -> Estimate:
    """sum(numerators) / sum(denominators), with the error that blocks of `window_us` moving over time show.

    Args:
        numerators, denominators: one number a row, (n,); denominators default to 1.
        decided_us: not falling, (n,).
        window_us: twice the horizon, so that outcomes which overlap share most blocks.
    """
    weights = np.ones(len(numerators)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    total = float(np.sum(weights))
    if total == 0:
        return Estimate(math.nan, math.nan, method=MOVING_BLOCKS)
    ratio = float(np.sum(numerators)) / total
    return moving_influence(ratio, (numerators - ratio * weights) / total, decided_us, window_us, MOVING_BLOCKS)


def moving_influence(
    value: float, influences: Floats, decided_us: NDArray[np.int64], window_us: int, method: str
) -> Estimate:
    """`value`, which moves by `influences` (they sum to 0) with its rows, with the error of moving blocks.

    The variance is the mean over time of the squared sum within a window, per window: the moving-block estimator
    [Kuensch 1989] for rows at uneven times, the same as Bartlett weights (1 - |t_i - t_j| / window)+ on all pairs. With
    b the window's share of the span it is too small by the factor 1 - b + b^2 / 3, because the influences sum to 0,
    and has about 1.5 / b degrees of freedom [Kiefer & Vogelsang 2005].
    """
    span = float(decided_us[-1] - decided_us[0]) if len(decided_us) else 0.0
    if span <= 0 or window_us > LONGEST_SHARE * span:
        return Estimate(value, math.nan, method=method)
    share = window_us / span
    variance = _mean_square_of_window_sums(influences, decided_us, window_us) / (1.0 - share + share**2 / 3.0)
    return Estimate(value, math.sqrt(variance), 1.5 / share, method)


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


def _mean_square_of_window_sums(values: Floats, times_us: NDArray[np.int64], window_us: int) -> float:
    """1 / window * integral over s of (sum of the values in [s, s + window)) squared."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    moments = np.concatenate((times_us, times_us - window_us))
    order = np.argsort(moments, kind="stable")  # two runs that rise: merging them takes one pass
    edges = moments[order]
    # Between two edges the same rows are inside: those with s < t <= s + window, seen from the open interval.
    first = np.cumsum(order < len(times_us))[:-1]
    inside = sums[np.arange(1, len(order)) - first] - sums[first]
    return float(np.sum(inside**2 * np.diff(edges))) / window_us
