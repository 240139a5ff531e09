"""What stands before an estimator that can take neither unknown inputs nor one value of 1e30.

Every step is one of scikit-learn's own, so that it is exported with the model and read back without pickle; but each is
set from robust figures of the training block, medians and quantiles, where scikit-learn would take means and extremes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

SAMPLE_ROWS = 100_000
FARTHEST = 1e30
_CENTRAL = (0.05, 0.95)
_TAILS = (0.001, 0.999)

Inputs = NDArray[np.float32]
Floats = NDArray[np.float64]


def input_steps(inputs: Inputs, *, scaled: bool) -> list[tuple[str, Any]]:
    """Fitted steps by name: unknown inputs become medians; where `scaled`, outliers are held and units made one too.

    Subtracting the median comes before any product: the difference of two near numbers is exact in float32, so the
    graph, which has nothing wider, agrees with scikit-learn also for an input that hardly moves.

    Args:
        inputs: the training block, float32 (n, F + 1), NaN for unknown. At most SAMPLE_ROWS of it, evenly taken, are
            looked at.
    """
    sample = inputs[:: -(-len(inputs) // SAMPLE_ROWS)]
    medians, lows, highs = _figures(sample)
    # Each step is fitted to the few rows that say what it should hold.
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(medians[None, :])
    if not scaled:
        return [("imputer", imputer)]
    centre = StandardScaler(with_std=False).fit(medians[None, :])
    clip = MinMaxScaler(clip=True).fit(np.stack((lows, highs)) - medians)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped
        held = clip.transform(centre.transform(imputer.transform(sample)))
    return [("imputer", imputer), ("centre", centre), ("clip", clip), ("scaler", StandardScaler().fit(held))]


def _figures(sample: Inputs) -> tuple[Floats, Floats, Floats]:
    columns = [_column_figures(sample[:, index]) for index in range(sample.shape[1])]
    medians, lows, highs = np.array(columns, dtype=np.float64).T
    return medians, lows, highs


def _column_figures(column: Inputs) -> tuple[float, float, float]:
    """Median, and the limits beyond which a value counts as the limit.

    The limits lie as far beyond the central nine tenths as these are wide, about 5 deviations of a normal variable, so
    that up to a twentieth of the rows may hold anything on either side. A column that is constant there keeps its rare
    values, between the outermost thousandths.
    """
    known = column[np.isfinite(column)].astype(np.float64)
    if not known.size:
        return 0.0, 0.0, 0.0
    median, low, high, lowest, highest = np.clip(
        np.quantile(known, (0.5, *_CENTRAL, *_TAILS)), -FARTHEST, FARTHEST
    ).tolist()
    width = high - low
    if width > 0:
        lowest, highest = low - width, high + width
    return float(np.float32(median)), lowest, highest
