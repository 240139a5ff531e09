"""How calibrated probabilities stand to what happened on the test block: the reliability curve in numbers."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from model_service.models.calibration import Calibration
from model_service.models.intervals import TimeBlocks
from model_service.models.metrics import ECE_BINS, Array

LEVEL = 0.90
METHOD = "Wilson score, widened to blocks of time where overlapping outcomes ask for it"
_TAIL = 0.95


def reliability(
    calibration: Calibration, labels: Array, probability: Array, decided_us: Array, horizon_us: int
) -> dict[str, Any]:
    """The calibration of a version, and its bins on the test block; plain numbers for JSON.

    The bins are those of the metric `ece`: ECE_BINS parts of as equal numbers of rows as can be, by probability.

    Args:
        labels: of the test block, 0 or 1, (n,), in time order.
        probability: calibrated, of the side that was traded, (n,).
        decided_us: decision times, (n,).
        horizon_us: H.
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
        "bins": bins(labels, probability, decided_us, horizon_us),
    }


def bins(
    labels: Array, probability: Array, decided_us: Array, horizon_us: int, count: int = ECE_BINS
) -> list[dict[str, float]]:
    """Per bin: rows, lowest, highest and mean probability, share of wins with its two-sided interval.

    Args:
        labels: 0 or 1, (n,), in time order.
        probability: calibrated, (n,).
        decided_us: decision times, (n,).
        horizon_us: H.
    """
    order = np.argsort(probability, kind="stable")
    parts = [np.sort(rows) for rows in np.array_split(order, count) if len(rows)]
    return [_bin(labels[rows], probability[rows], decided_us[rows], horizon_us) for rows in parts]


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


def _bin(labels: Array, probability: Array, decided_us: Array, horizon_us: int) -> dict[str, float]:
    """One bin, its rows in time order; those outside of it have no part in the error of its share."""
    share = float(np.mean(labels))
    lower, upper = wilson(share, len(labels), LEVEL)
    in_time = TimeBlocks(decided_us, horizon_us).ratio(labels.astype(np.float64))
    if math.isfinite(in_time.standard_error):
        lower, upper = min(lower, in_time.lower(_TAIL)), max(upper, in_time.upper(_TAIL))
    return {
        "rows": len(labels),
        "lowest_probability": round(float(np.min(probability)), 6),
        "highest_probability": round(float(np.max(probability)), 6),
        "mean_probability": round(float(np.mean(probability)), 6),
        "share_of_wins": round(share, 6),
        "lower": round(max(0.0, lower), 6),
        "upper": round(min(1.0, upper), 6),
    }
