"""How much each input matters to a version, seen on its test block in three ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_service.learning.dataset import Dataset
from model_service.learning.estimators import FittedModel
from model_service.learning.explanation import Floats, Inputs
from model_service.models.calibration import SCORE_FLOOR
from model_service.models.features import MODEL_INPUT_NAMES
from model_service.models.metrics import Array

MOST_ROWS = 1000
"""TreeSHAP of 400 trees takes a tenth of a second for them, as do a forest's scores with each input shuffled."""


def importance(fitted: FittedModel, test: Dataset, seed: int) -> dict[str, Any]:
    """Each input with its weight in the model, the largest mean contribution first; plain numbers for JSON.

    Per input: what the family itself calls importance; the mean absolute contribution to a row's sum, and its share of
    all; and permutation importance [Breiman 2001]: by how much the log loss of the score rises when the input's values
    change places among the rows. That of the score before calibration: the steps of an isotonic map make it infinite.

    Args:
        test: the test block; of its rows at most MOST_ROWS, evenly spread, are asked, on the sides that were traded.
        seed: of the permutation.
    """
    rows = test.take(spread(len(test), MOST_ROWS))
    inputs = rows.inputs()
    explainer = fitted.explainer()
    parts = explainer.contributions(inputs)
    weights = np.mean(np.abs(parts.values), axis=0)
    native = explainer.native_importance()
    rises = permutation_importance(fitted, inputs, rows.labels, seed)
    total = float(np.sum(weights))
    order = np.argsort(-weights, kind="stable")
    return {
        "method": explainer.method,
        "unit": parts.unit,
        "rows": len(rows),
        "base_value": round(parts.base_value, 9),
        "native": native.kind,
        "features": [
            {
                "feature": MODEL_INPUT_NAMES[index],
                "mean_absolute_contribution": round(float(weights[index]), 9),
                "share": round(float(weights[index]) / total, 6) if total > 0 else 0.0,
                "native": round(float(native.values[index]), 9),
                "log_loss_rise": round(float(rises[index]), 9),
            }
            for index in order
        ],
    }


def permutation_importance(fitted: FittedModel, inputs: Inputs, labels: Array, seed: int) -> Floats:
    """Rise of the log loss with each input shuffled, float64 (k,); 0 for an input that the model does not read.

    One permutation of the rows serves all inputs, and the model is asked once for all of them together.
    """
    rows, width = inputs.shape
    if not rows:
        return np.zeros(width)
    order = np.random.default_rng(seed).permutation(rows)
    changed = np.repeat(inputs[np.newaxis], width, axis=0)
    for column in range(width):
        changed[column, :, column] = inputs[order, column]
    scores = fitted.scores(np.concatenate((inputs[np.newaxis], changed)).reshape(-1, width)).reshape(width + 1, rows)
    losses = np.mean(_surprise(scores, labels), axis=1)
    return np.asarray(losses[1:] - losses[0], dtype=np.float64)


def spread(count: int, most: int) -> Array:
    """At most `most` of `count` positions, evenly spread, rising.

    Example:
        >>> spread(10, 4).tolist()
        [0, 2, 5, 7]
    """
    taken = min(count, most)
    return np.arange(taken) * count // max(taken, 1)


def _surprise(scores: Floats, labels: Array) -> Floats:
    inside = np.clip(scores, SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    return np.where(labels == 1, -np.log(inside), -np.log1p(-inside))
