"""The walk-forward report: how the candidate's way of learning would have done on every part of the past (METHOD 5).

The rows before the test block are cut into k equal parts. Fold i learns from the parts up to i and is judged on the
next; the last fold learns from all of them and is judged on the test block. Every border is purged and embargoed. In
each fold the last fifth of the rows calibrates, so that probabilities and the trades taken mean what they will mean.

A report, and nothing that decides: hyperparameters and rounds are those of the candidate, which has seen rows of the
earlier folds. To stay cheap it uses at most ROWS rows, evenly taken, so its models know less than the candidate does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.config.hyperparameters import chosen_hyperparameters
from model_service.learning.bounds import with_lower_bounds
from model_service.learning.calibrate import fit_calibration
from model_service.learning.dataset import Dataset
from model_service.learning.estimators import Block, FitRequest, fit_model
from model_service.learning.split import block_starts, evenly, purged_blocks
from model_service.learning.weights import with_mean_one
from model_service.models import metrics
from model_service.models.decision_rule import Acting
from model_service.models.features import align_to_side

ROWS = 12_000
FOREST_ROWS = 5_000
FOREST_TREES = 30
LEAST_ROWS = {"fitting": 100, "calibration": 50, "test": 50}
CALIBRATION_SHARE = 1 / 5
_FIT_AT_ONCE = ("xgboost", "random_forest")
_Part = tuple[int, int]
_Numbers = dict[str, Any]


@dataclass(frozen=True)
class Walk:
    """What a walk needs of its run.

    Attributes:
        request: the candidate's, with the hyperparameters that it was fitted with.
        rounds: boosting rounds that the candidate keeps; None for other families.
        folds: k.
        horizon_us: the strategy's.
        acting: what of the strategy says when its models act.
        workers: folds that are fitted at once.
    """

    request: FitRequest
    rounds: int | None
    folds: int
    horizon_us: int
    acting: Acting
    workers: int = 1


def walk_forward(walk: Walk, dataset: Dataset, weights: NDArray[np.float32]) -> dict[str, Any]:
    """Plain numbers for JSON: a fold that cannot be judged says why, and what is not defined is None.

    Args:
        dataset: all rows of the run, in time order.
        weights: of its rows, (n,).
    """
    walk = _cheap(walk)
    kept = evenly(len(dataset), FOREST_ROWS if walk.request.model_type == "random_forest" else ROWS)
    test_start = int(np.searchsorted(kept, block_starts(len(dataset))[-2]))
    thinned, ends = dataset.take(kept), _ends(test_start, len(kept), walk.folds)

    def judged(part: tuple[int, int]) -> dict[str, Any]:
        return _fold(walk, thinned, weights[kept], *part)

    return {
        "rows": len(dataset),
        "rows_used": len(kept),
        "rounds": walk.rounds,
        "hyperparameters": "as the candidate's, which were chosen on rows of the earlier folds too",
        "folds": [
            {"fold": number, **numbers}
            for number, numbers in enumerate(_at_once(walk, judged, pairwise(ends)), start=1)
        ],
    }


def _at_once(walk: Walk, judged: Callable[[_Part], _Numbers], parts: Iterable[_Part]) -> list[_Numbers]:
    """All folds, in their order; as many at once as the run has threads, since a small fit gains little from two."""
    largest_first = list(parts)[::-1]
    with ThreadPoolExecutor(walk.workers) as workers:
        return list(workers.map(judged, largest_first))[::-1]


def _cheap(walk: Walk) -> Walk:
    """Rounds fixed, and of a forest few trees; a thread for each fit."""
    given = dict(walk.request.hyperparameters)
    if walk.rounds is not None:
        given["rounds"] = walk.rounds
    if walk.request.model_type == "random_forest":
        given["n_estimators"] = min(FOREST_TREES, chosen_hyperparameters("random_forest", given)["n_estimators"])
    request = replace(
        walk.request, early_stopping=None, hyperparameters=given, threads=1, on_round=lambda done, most: None
    )
    # Fitting a linear model silences a warning, which is nothing to do in two threads, and takes no time.
    workers = walk.request.threads if walk.request.model_type in _FIT_AT_ONCE else 1
    return replace(walk, request=request, workers=workers)


def _ends(test_start: int, count: int, folds: int) -> list[int]:
    """First row of the test of each fold, and the end of the last."""
    return [round(test_start * part / folds) for part in range(1, folds + 1)] + [count]


def _fold(walk: Walk, rows: Dataset, weights: NDArray[np.float32], start: int, end: int) -> dict[str, Any]:
    borders = [0, round(start * (1 - CALIBRATION_SHARE)), start, end]
    cut = purged_blocks(rows.decided_us[:end], rows.exit_us[:end], walk.horizon_us, borders)
    blocks = dict(zip(LEAST_ROWS, cut.blocks, strict=True))
    reason = _unusable(rows, blocks)
    if reason is not None:
        return {"skipped": reason}
    fitting, calibration, test = (rows.take(blocks[name]) for name in LEAST_ROWS)
    block = Block(fitting.inputs(), fitting.labels, with_mean_one(weights[blocks["fitting"]]))
    model = fit_model(replace(walk.request, train=block))
    scores = model.scores(calibration.inputs())
    known = scores, calibration.labels, calibration.net_returns
    calibrated = fit_calibration(*known)
    if walk.acting.least_kelly_share is not None:
        calibrated = with_lower_bounds(calibrated, *known, calibration.decided_us, walk.horizon_us)
    own = calibrated.probability(model.scores(test.inputs()))
    other = calibrated.probability(model.scores(align_to_side(test.features, -test.side_signs)))
    chosen = walk.acting.rule(calibrated).chosen_sides(own, other, test.side_signs, test.features)
    taken: NDArray[np.bool_] = chosen == test.side_signs
    sizes = {"rows_fitting": len(fitting), "rows_calibration": len(calibration), "rows_test": len(test)}
    span = {"first_decided_us": int(test.decided_us[0]), "last_decided_us": int(test.decided_us[-1])}
    return {**sizes, **span, **_judged(test, own, taken)}


def _unusable(rows: Dataset, blocks: Mapping[str, NDArray[np.intp]]) -> str | None:
    for name, least in LEAST_ROWS.items():
        kept = blocks[name]
        if len(kept) < least:
            return f"{name} keeps {len(kept)} rows after purging, {least} are needed"
        if name != "test" and int(np.sum(rows.labels[kept])) in (0, len(kept)):
            return f"all {len(kept)} rows of {name} are of one class"
    return None


def _judged(test: Dataset, probability: NDArray[np.float64], taken: NDArray[np.bool_]) -> dict[str, Any]:
    numbers = {
        "accuracy": metrics.accuracy(test.labels, probability >= 0.5),
        "base_rate": metrics.base_rate(test.labels),
        "roc_auc": metrics.roc_auc(test.labels, probability),
        "brier": metrics.brier(test.labels, probability),
        "coverage": float(np.mean(taken)),
        "average_return": metrics.average_return(test.net_returns[taken]),
    }
    finite = {name: round(value, 9) if math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "trades_taken": int(np.sum(taken))}
