"""How much a label counts in a fit (METHOD 4, class weights)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def weight_of_wins(
    weights: NDArray[np.float32], labels: NDArray[np.int8], class_weight: Literal["none", "balanced"] | float
) -> float:
    """The factor on rows with label 1, against 1 on the others.

    Args:
        weights: of the training block, (n,).
        labels: of the same rows, both classes present, (n,).
        class_weight: `none`; `balanced`, so that both classes have the same total weight; or the factor itself.
    """
    if class_weight == "none":
        return 1.0
    if class_weight == "balanced":
        wins = labels == 1
        return float(np.sum(weights[~wins], dtype=np.float64) / np.sum(weights[wins], dtype=np.float64))
    return float(class_weight)


def with_class_weight(
    weights: NDArray[np.float32], labels: NDArray[np.int8], factor: float, training_rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Weights of all rows with `factor` on label 1, scaled so that those of the training block keep their sum.

    The scale keeps the meaning of every penalty and of the least weight in a leaf.
    """
    if factor == 1.0:
        return weights
    weighted = weights * np.where(labels == 1, np.float32(factor), np.float32(1.0))
    before = np.sum(weights[training_rows], dtype=np.float64)
    return (weighted * (before / np.sum(weighted[training_rows], dtype=np.float64))).astype(np.float32)
