"""What the share of wins is at least, by calibrated probability: the bounds that a version carries for its stakes.

They come from the calibration block, with each row's probability by a map that was fitted without the rows around it:
a step function agrees with the very rows that it was fitted to, and outcomes that overlap make that worse. The test
block is not asked: a stake follows from the bounds, and with it what the candidate would take, so it would be judged on
the rows that chose it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.calibrate import fit_calibration
from model_service.learning.reliability import bins
from model_service.models.calibration import Calibration
from model_service.models.intervals import LEAST_HORIZONS, without_pauses

MOST_BINS = 10
LEAST_ROWS_OF_A_BIN = 50
FOLDS = 5

Floats = NDArray[np.float64]


def with_lower_bounds(
    calibration: Calibration,
    scores: Floats,
    labels: NDArray[Any],
    net_returns: Floats,
    decided_us: NDArray[np.int64],
    horizon_us: int,
) -> Calibration:
    """The same calibration with one-sided 95 % bounds of the share of wins, in bins of as equal rows as can be.

    Each is the lower of Wilson's score bound and that of blocks of time, and bounds are lowered until they do not fall
    with the probability. Where the rows span too little time to tell how much outcomes move together, all are 0.

    Args:
        scores, labels, net_returns: those that the calibration was fitted to, (n,), in time order.
        decided_us: decision times, (n,).
        horizon_us: H.
    """
    apart = list(_fitted_apart(scores, labels, net_returns, decided_us, horizon_us))
    rows = np.concatenate([np.empty(0, dtype=np.intp), *(part for part, _ in apart)])
    count = min(MOST_BINS, len(rows) // LEAST_ROWS_OF_A_BIN)
    if not count or without_pauses(decided_us, horizon_us)[-1] < LEAST_HORIZONS * horizon_us:
        return replace(calibration, bound_probabilities=(calibration.base_rate,), lower_bounds=(0.0,))
    probability = np.concatenate([values for _, values in apart])
    lowest: dict[float, float] = {}
    for one in bins(labels[rows], probability, decided_us[rows], horizon_us, count):
        mean, bound = one["mean_probability"], min(one["lower"], one["mean_probability"])
        lowest[mean] = min(bound, lowest.get(mean, math.inf))
    means = sorted(lowest)
    monotone = np.minimum.accumulate(np.array([lowest[mean] for mean in means])[::-1])[::-1]
    return replace(calibration, bound_probabilities=tuple(means), lower_bounds=tuple(monotone.tolist()))


def _fitted_apart(
    scores: Floats, labels: NDArray[Any], net_returns: Floats, decided_us: NDArray[np.int64], horizon_us: int
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Rows of each contiguous part, and their probabilities by a map of the rows more than a horizon away from it."""
    for part in np.array_split(np.arange(len(scores)), FOLDS):
        if not len(part):
            continue
        start, end = decided_us[part[0]] - horizon_us, decided_us[part[-1]] + horizon_us
        others = (decided_us < start) | (decided_us > end)
        if 0 < int(np.sum(labels[others])) < int(np.sum(others)):
            fitted = fit_calibration(scores[others], labels[others], net_returns[others])
            yield part, fitted.probability(scores[part])
