"""How calibrated probabilities stand to what happened on the test block: the reliability curve in numbers."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from model_service.models.calibration import Calibration
from model_service.models.intervals import BLOCKS, block_ratio, student_t_quantile
from model_service.models.metrics import ECE_BINS, Array

LEVEL = 0.90
METHOD = "Wilson score, widened to 10 contiguous blocks with t where overlapping outcomes ask for it"
_TAIL = 0.95


def reliability(calibration: Calibration, labels: Array, probability: Array) -> dict[str, Any]:
    """The calibration of a version, and its bins on the test block; plain numbers for JSON.

    The bins are those of the metric `ece`: ECE_BINS parts of as equal numbers of rows as can be, by probability.

    Args:
        labels: of the test block, 0 or 1, (n,), in time order.
        probability: calibrated, of the side that was traded, (n,).
    """
    return {
        "method": calibration.method,
        "rows": calibration.rows,
        "base_rate": round(calibration.base_rate, 6),
        "break_even": round(calibration.break_even, 6),
        "mean_return_of_wins": round(calibration.mean_return_of_wins, 9),
        "mean_return_of_losses": round(calibration.mean_return_of_losses, 9),
        "rows_test": len(labels),
        "share_of_wins_test": round(float(np.mean(labels)), 6),
        "level": LEVEL,
        "interval_method": METHOD,
        "bins": bins(labels, probability),
    }


def bins(labels: Array, probability: Array, count: int = ECE_BINS) -> list[dict[str, float]]:
    """Per bin: rows, lowest, highest and mean probability, share of wins with its two-sided interval.

    Args:
        labels: 0 or 1, (n,), in time order.
        probability: calibrated, (n,).
    """
    order = np.argsort(probability, kind="stable")
    return [_bin(labels, probability, rows) for rows in np.array_split(order, count) if len(rows)]


def wilson(share: float, rows: int, level: float) -> tuple[float, float]:
    """The two-sided score interval of a share of independent rows [Wilson 1927].

    Example:
        >>> tuple(round(bound, 3) for bound in wilson(0.0, 10, 0.95))
        (0.0, 0.278)
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _bin(labels: Array, probability: Array, rows: Array) -> dict[str, float]:
    inside = np.zeros(len(labels))
    inside[rows] = 1.0
    share = float(np.mean(labels[rows]))
    lower, upper = wilson(share, len(rows), LEVEL)
    error = student_t_quantile(_TAIL, BLOCKS - 1) * block_ratio(labels * inside, inside).standard_error
    if math.isfinite(error):
        lower, upper = max(0.0, min(lower, share - error)), min(1.0, max(upper, share + error))
    return {
        "rows": len(rows),
        "lowest_probability": round(float(np.min(probability[rows])), 6),
        "highest_probability": round(float(np.max(probability[rows])), 6),
        "mean_probability": round(float(np.mean(probability[rows])), 6),
        "share_of_wins": round(share, 6),
        "lower": round(lower, 6),
        "upper": round(upper, 6),
    }
