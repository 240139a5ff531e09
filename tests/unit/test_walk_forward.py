"""The walk-forward report: folds in time, no row of the future in any of them, numbers that others compute too."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

from model_service.learning import walk_forward as walking
from model_service.learning.dataset import Dataset, dataset_from_rows
from model_service.learning.estimators import Block, FitRequest
from model_service.learning.run import prepare, train_candidate
from model_service.learning.walk_forward import Walk, walk_forward
from model_service.learning.weights import average_uniqueness
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import Acting
from model_service.models.features import align_to_side
from tests.support.families import FAMILIES, planted_block
from tests.support.training_rows import (
    HORIZON_SECONDS,
    IMBALANCE,
    STEP_US,
    imbalance_rows,
    training_job,
    training_strategy,
)

HORIZON_US = HORIZON_SECONDS * 1_000_000
AROUND_A_BORDER = HORIZON_US // STEP_US
"""Rows within one horizon: so many are purged before a border, and as many embargoed after it."""


def walk(model_type: str = "xgboost", folds: int = 4, **hyperparameters: Any) -> Walk:
    request = FitRequest(
        model_type, planted_block(10, 1), None, 7, 1, lambda done, most: None, hyperparameters=hyperparameters
    )
    return Walk(request, 40 if model_type == "xgboost" else None, folds, HORIZON_US, Acting(0.5))


@cache
def dataset(count: int = 4000, seed: int = 3) -> Dataset:
    return dataset_from_rows(imbalance_rows(count, seed, assets=3))[0]


def weights_of(rows: Dataset) -> NDArray[np.float32]:
    return average_uniqueness(rows).astype(np.float32)


def folds_of(rows: Dataset, **changes: Any) -> list[dict[str, Any]]:
    report = walk_forward(walk(**changes), rows, weights_of(rows))
    json.dumps(report, allow_nan=False)
    return list(report["folds"])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_planted_edge_shows_in_every_fold(model_type: str) -> None:
    for fold in folds_of(dataset(), model_type=model_type):
        assert fold["roc_auc"] > 0.8
        assert fold["accuracy"] > fold["base_rate"]
        assert fold["brier"] < 0.2
        assert fold["average_return"] > 0


def test_folds_expand_and_the_last_is_judged_on_the_test_block() -> None:
    rows = imbalance_rows(4000, 3, assets=3)
    prepared = prepare(training_job(), rows, {})
    folds = folds_of(dataset())
    assert [fold["fold"] for fold in folds] == [1, 2, 3, 4]
    assert np.all(np.diff([fold["rows_fitting"] for fold in folds]) > 0)
    assert all(one["last_decided_us"] < other["first_decided_us"] for one, other in pairwise(folds))
    test = prepared.plan.split.test
    assert folds[-1]["rows_test"] == len(test)
    assert folds[-1]["first_decided_us"] == rows["decided_us"][test[0]]
    assert folds[-1]["last_decided_us"] == rows["decided_us"][test[-1]]


def test_every_border_is_purged_and_embargoed() -> None:
    """Fold 2 of 4 by hand: 1,600 rows before its test of 800, the last 320 of them to calibrate."""
    fold = folds_of(dataset())[1]
    assert fold["rows_fitting"] == 1280 - AROUND_A_BORDER
    assert fold["rows_calibration"] == 320 - 2 * AROUND_A_BORDER
    assert fold["rows_test"] == 800 - AROUND_A_BORDER


def test_later_rows_change_no_fold_before_them() -> None:
    rows, weights = dataset(), weights_of(dataset())
    end = 2400
    later = np.arange(len(rows)) >= end
    rng = np.random.default_rng(1)
    poisoned = replace(
        rows,
        features=np.where(later[:, None], rng.normal(9, 3, rows.features.shape), rows.features).astype(np.float32),
        labels=np.where(later, rng.integers(0, 2, len(rows)), rows.labels).astype(np.int8),
        net_returns=np.where(later, rng.normal(0, 1, len(rows)), rows.net_returns),
    )
    before, after = (walk_forward(walk(), each, weights)["folds"] for each in (rows, poisoned))
    assert before[:2] == after[:2]
    assert before[2:] != after[2:]


@dataclass(frozen=True)
class Oracle:
    """Says half of what the imbalance says, whatever it is given to fit."""

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-np.nan_to_num(inputs[:, IMBALANCE]).astype(np.float64)))


def test_the_numbers_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration("sigmoid", 0.5, 0.002, -0.002, 100, slope=2.0, intercept=0.1)
    monkeypatch.setattr(walking, "fit_model", lambda request: Oracle())
    monkeypatch.setattr(walking, "fit_calibration", lambda scores, labels, returns: calibration)
    rows = dataset()
    fold = folds_of(rows)[3]
    test = rows.take(np.arange(3200 + AROUND_A_BORDER, 4000))
    own = calibration.probability(Oracle().scores(test.inputs()))
    other = calibration.probability(Oracle().scores(align_to_side(test.features, -test.side_signs)))
    taken = (own >= 0.5) & (own > other)
    assert fold["accuracy"] == pytest.approx(accuracy_score(test.labels, own >= 0.5))
    assert fold["roc_auc"] == pytest.approx(roc_auc_score(test.labels, own))
    assert fold["brier"] == pytest.approx(brier_score_loss(test.labels, own))
    assert fold["base_rate"] == pytest.approx(max(np.mean(test.labels), 1 - np.mean(test.labels)))
    assert fold["trades_taken"] == int(np.sum(taken))
    assert fold["coverage"] == pytest.approx(np.mean(taken))
    assert fold["average_return"] == pytest.approx(np.mean(test.net_returns[taken]))


def test_each_fold_runs_the_rounds_that_the_candidate_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FitRequest] = []

    def fit(request: FitRequest) -> Oracle:
        asked.append(request)
        return Oracle()

    monkeypatch.setattr(walking, "fit_model", fit)
    folds_of(dataset(), rounds=300, max_depth=2)
    assert [request.hyperparameters for request in asked] == [{"rounds": 40, "max_depth": 2}] * 4
    assert all(request.early_stopping is None for request in asked)
    assert [type(request.train) for request in asked] == [Block] * 4


def test_rows_that_became_light_with_age_are_weighed_among_themselves() -> None:
    """With a short half-life the first fold would weigh nothing, and no leaf would be heavy enough."""
    rows = dataset()
    light = np.where(np.arange(4000) < 1000, 2.0**-20, 1.0).astype(np.float32) * weights_of(rows)
    assert walk_forward(walk(), rows, light)["folds"][0] == walk_forward(walk(), rows, weights_of(rows))["folds"][0]


def test_many_rows_are_thinned_evenly_and_the_test_stays_the_test_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "ROWS", 2000)
    report = walk_forward(walk(), dataset(), weights_of(dataset()))
    assert (report["rows"], report["rows_used"]) == (4000, 2000)
    last = report["folds"][-1]
    assert last["rows_test"] == pytest.approx((800 - AROUND_A_BORDER) / 2, abs=2)
    assert last["first_decided_us"] >= dataset().decided_us[3200] + HORIZON_US


def test_what_cannot_be_judged_says_why() -> None:
    few = folds_of(dataset().take(np.arange(1000)))
    assert "rows after purging" in few[0]["skipped"]
    rows = dataset()
    losses = replace(rows, labels=np.where(np.arange(4000) < 1700, 0, rows.labels).astype(np.int8))
    assert folds_of(losses)[0]["skipped"].endswith("of fitting are of one class")


def test_a_number_that_is_not_defined_is_none() -> None:
    rows = dataset()
    only_losses = replace(rows, labels=np.where(np.arange(4000) >= 3200, 0, rows.labels).astype(np.int8))
    fold = folds_of(only_losses)[3]
    assert fold["roc_auc"] is None
    assert fold["base_rate"] == 1.0


@pytest.mark.parametrize("model_type", FAMILIES)
def test_more_threads_give_the_same_numbers(model_type: str) -> None:
    one = walk(model_type, **({"n_estimators": 10} if model_type == "random_forest" else {}))
    three = replace(one, request=replace(one.request, threads=3))
    first, second = (walk_forward(each, dataset(), weights_of(dataset())) for each in (one, three))
    assert first == second


@pytest.mark.parametrize(("folds", "parts"), [(1, 1), (2, 2), (7, 7)])
def test_any_number_of_folds(folds: int, parts: int) -> None:
    found = folds_of(dataset(), folds=folds)
    assert len(found) == parts
    assert found[-1]["rows_test"] == 800 - AROUND_A_BORDER


def run(folds: int) -> Any:
    strategy = training_strategy(training={"walk_forward_folds": folds, "hyperparameters": {"rounds": 40}})
    return train_candidate(training_job(strategy=strategy), imbalance_rows(2000, 3, assets=3), {}, {}, lambda *_: None)


def test_it_is_reported_and_decides_nothing() -> None:
    (with_it, files), (without, same_files) = run(3), run(0)
    assert len(with_it.report["walk_forward"]["folds"]) == 3
    assert with_it.report["walk_forward"]["rounds"] == with_it.training_config["rounds"]
    assert "walk_forward" not in without.report
    assert with_it.gate == without.gate
    assert with_it.metrics == without.metrics
    assert files == same_files


def test_an_increment_has_none() -> None:
    parent, files = run(2)
    job = training_job(
        strategy=training_strategy(training={"hyperparameters": {"rounds": 40}}), training_type="incremental",
        parent_directory="/parent", parent_version="v1", parent_trained_until_us=parent.trained_until_us,
    )  # fmt: skip
    child, _ = train_candidate(job, imbalance_rows(3500, 3, assets=3), {}, files, lambda *_: None)
    assert "walk_forward" not in child.report
