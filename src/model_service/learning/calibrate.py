"""Fits the map from score to probability on its own block of later rows (METHOD 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.models.calibration import Calibration, log_odds, sigmoid

Floats = NDArray[np.float64]
ISOTONIC_FROM_ROWS = 1000
_NEWTON_STEPS = 100
_TOLERANCE = 1e-10
_WORTHWHILE = 0.9
"""A pass that leaves a larger share of the blocks than this is not repeated."""


def fit_calibration(scores: Floats, labels: NDArray[Any], net_returns: Floats) -> Calibration:
    """Sigmoid under 1,000 rows, else isotonic; the constant base rate where the sigmoid's slope is not positive.

    Args:
        scores: raw probabilities, float64 (n,).
        labels: 0 or 1 (n,), both present.
        net_returns: fractions (n,).

    Raises:
        ValueError: the labels hold one class only.
    """
    wins = labels == 1
    if not 0 < int(np.sum(wins)) < len(labels):
        raise ValueError(f"calibration needs both classes, got {int(np.sum(wins))} wins in {len(labels)} rows")
    known: dict[str, Any] = {
        "base_rate": float(np.mean(wins)),
        "mean_return_of_wins": float(np.mean(net_returns[wins])),
        "mean_return_of_losses": float(np.mean(net_returns[~wins])),
        "rows": len(labels),
    }
    slope, intercept = fit_sigmoid(log_odds(scores), wins)
    if slope <= 0:  # also with many rows: a non-falling step function of a falling relation would promise its end steps
        return Calibration("constant", **known)
    if len(labels) < ISOTONIC_FROM_ROWS:
        return Calibration("sigmoid", slope=slope, intercept=intercept, **known)
    knot_scores, knot_probabilities = fit_isotonic(scores, wins)
    if knot_probabilities[-1] <= knot_probabilities[0]:
        return Calibration("constant", **known)
    return Calibration("isotonic", knot_scores=knot_scores, knot_probabilities=knot_probabilities, **known)


def fit_sigmoid(values: Floats, wins: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of p = sigmoid(slope * value + intercept) by maximum likelihood, without a penalty.

    Platt's targets (N1 + 1) / (N1 + 2) and 1 / (N0 + 2) stand for 1 and 0, so that separable rows have a finite answer
    [Platt 1999]; Newton's method with step halving [Lin, Lin & Weng 2007].
    """
    positives = int(np.sum(wins))
    targets = np.where(wins, (positives + 1.0) / (positives + 2.0), 1.0 / (len(wins) - positives + 2.0))
    centre, spread = float(np.mean(values)), float(np.std(values))
    if spread < _TOLERANCE:
        return 0.0, float(log_odds(np.array([np.mean(targets)]))[0])
    slope, offset = _newton((values - centre) / spread, targets)
    return slope / spread, offset - slope * centre / spread


def fit_isotonic(scores: Floats, wins: NDArray[np.bool_]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of the best non-falling step function of the score, by pooling adjacent violators.

    Probabilities are held inside 1 / (n + 2) and 1 - 1 / (n + 2): n rows cannot show that anything is certain.
    """
    order = np.argsort(scores)
    ordered = scores[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    unique, counts = ordered[first], np.diff(np.append(first, len(scores)))
    starts, pooled = _pool_adjacent_violators(np.add.reduceat(wins[order].astype(np.float64), first), counts)
    floor = 1.0 / (len(scores) + 2.0)
    held = np.clip(pooled, floor, 1.0 - floor)
    ends = np.append(starts[1:], len(unique)) - 1
    knots = np.unique(np.concatenate((starts, ends)))
    level = np.searchsorted(starts, knots, side="right") - 1
    return tuple(unique[knots].tolist()), tuple(held[level].tolist())


def _newton(values: Floats, targets: Floats) -> tuple[float, float]:
    design = np.column_stack((values, np.ones_like(values)))
    share = float(np.mean(targets))
    weights = np.array([0.0, np.log(share / (1.0 - share))])
    loss = _loss(design @ weights, targets)
    for _ in range(_NEWTON_STEPS):
        probability = sigmoid(design @ weights)
        gradient = design.T @ (probability - targets)
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design
        step = np.asarray(np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient), dtype=np.float64)
        weights, improved = _descend(design, targets, weights, step, loss)
        if loss - improved < _TOLERANCE * max(1.0, abs(loss)):
            break
        loss = improved
    return float(weights[0]), float(weights[1])


def _descend(design: Floats, targets: Floats, weights: Floats, step: Floats, loss: float) -> tuple[Floats, float]:
    for halving in range(30):
        trial = weights - step * 0.5**halving
        improved = _loss(design @ trial, targets)
        if improved <= loss:
            return trial, improved
    return weights, loss


def _loss(margins: Floats, targets: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, margins) - targets * margins))


def _pool_adjacent_violators(sums: Floats, counts: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """Starts and means of the blocks of the best non-falling fit to the means sums / counts.

    Which violators are pooled first does not matter. So whole runs that do not rise are pooled at once for as long as
    that leaves much less to do, and what remains is gone through once from the left.
    """
    starts = np.arange(len(sums))
    weights = counts.astype(np.float64)
    while True:
        means = sums / weights
        rising = np.flatnonzero(np.append(True, means[1:] > means[:-1]))
        if len(rising) > _WORTHWHILE * len(means):
            break
        starts, sums, weights = starts[rising], np.add.reduceat(sums, rising), np.add.reduceat(weights, rising)
    return _pool_from_the_left(starts, sums, weights)


def _pool_from_the_left(starts: NDArray[np.intp], sums: Floats, weights: Floats) -> tuple[NDArray[np.intp], Floats]:
    blocks: list[tuple[int, float, float]] = []
    for block in zip(starts.tolist(), sums.tolist(), weights.tolist(), strict=True):
        pooled = block
        while blocks and blocks[-1][1] * pooled[2] >= pooled[1] * blocks[-1][2]:
            start, total, weight = blocks.pop()
            pooled = start, total + pooled[1], weight + pooled[2]
        blocks.append(pooled)
    return np.array([start for start, _, _ in blocks], dtype=np.intp), np.array([total / w for _, total, w in blocks])
