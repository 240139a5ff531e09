"""How much each row counts in a fit: what of its outcome is its own, and how old it is (METHOD 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Outlined

US_PER_HOUR = 3_600_000_000
MOST_HALVINGS = 40.0
"""A row is never worth less than 2^-40 of the newest: a training block of nothing but zeros could not be fitted."""


def training_weights(
    rows: Outlined,
    uniqueness: NDArray[np.float64],
    train: NDArray[np.intp],
    recency_half_life_hours: float | None = None,
) -> NDArray[np.float32]:
    """Average uniqueness, halved with each half-life of age, float32 (n,).

    Age is counted from the last row of the training block; later rows have none. Scaled to a mean of 1 in the training
    block, so that the meaning of penalties depends neither on the overlap nor on the age of the rows.

    Args:
        rows: in time order, (n,).
        uniqueness: `average_uniqueness` of them, (n,).
        train: indices of the training block, at least one.
        recency_half_life_hours: over 0; None: age does not count.
    """
    weights = uniqueness
    if recency_half_life_hours is not None:
        age = rows.decided_us[train[-1]] - rows.decided_us
        halvings = np.clip(age / (recency_half_life_hours * US_PER_HOUR), 0.0, MOST_HALVINGS)
        weights = weights * np.exp2(-halvings)
    scaled: NDArray[np.float32] = (weights / np.mean(weights[train])).astype(np.float32)
    return scaled


def with_mean_one(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of a part of the training rows on their own, as if no other rows existed, float32 (n,)."""
    if not len(weights):
        return weights
    scaled: NDArray[np.float32] = (weights / np.mean(weights, dtype=np.float64)).astype(np.float32)
    return scaled


def average_uniqueness(dataset: Outlined) -> NDArray[np.float64]:
    """How much of each label interval is its own, float64 (n,) in (0, 1].

    The mean over the interval of 1 / (number of label intervals of the same asset that cover the moment)
    [Lopez de Prado, Advances in Financial Machine Learning, 2018, ch. 4], in continuous time.
    """
    by_asset = np.argsort(dataset.asset_codes, kind="stable")
    starts, ends = dataset.decided_us[by_asset], dataset.exit_us[by_asset]
    borders = np.flatnonzero(np.diff(dataset.asset_codes[by_asset])) + 1
    unique = np.empty(len(dataset), dtype=np.float64)
    for rows in np.split(np.arange(len(dataset)), borders):
        unique[by_asset[rows]] = _interval_uniqueness(starts[rows], ends[rows])
    return unique


def _interval_uniqueness(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of intervals of one asset, (n,): what has been covered, moment by moment shared by all, is added up once."""
    moments = np.concatenate((starts, ends))
    order = np.argsort(moments, kind="stable")  # two runs that rise, nearly: merging them takes one pass
    concurrent = np.cumsum(np.where(order < len(starts), 1, -1))[:-1]
    own = np.zeros(len(moments), dtype=np.float64)
    # Between two intervals nothing is covered, and the difference below never spans such a gap.
    own[order[1:]] = np.cumsum(np.diff(moments[order]) / np.maximum(concurrent, 1))
    shares: NDArray[np.float64] = (own[len(starts) :] - own[: len(starts)]) / (ends - starts)
    return shares
