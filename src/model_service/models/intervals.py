"""How sure a mean over overlapping, clustered outcomes is: ten blocks in time and Student's t (METHOD 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 10
METHOD = "10 contiguous blocks, linearised ratio, t with 9 degrees of freedom"
T_QUANTILES = {
    0.90: 1.3830287383964925,
    0.95: 1.8331129326562368,
    0.975: 2.2621571627982053,
    0.99: 2.8214379250258084,
    0.995: 3.2498355415921263,
}
"""Quantiles of Student's t with BLOCKS - 1 = 9 degrees of freedom, so that serving needs no scipy."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio of sums and its standard error; both NaN where the denominator is 0, the error also under ten rows."""

    value: float
    standard_error: float

    def lower(self, confidence: float) -> float:
        """The one-sided lower bound; `confidence` is a key of T_QUANTILES."""
        return self.value - T_QUANTILES[confidence] * self.standard_error

    def upper(self, confidence: float) -> float:
        """The one-sided upper bound."""
        return self.value + T_QUANTILES[confidence] * self.standard_error


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
