"""Rows that no market makes: a run ends in a recorded refusal or in a model that can be served, never in an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from model_service.learning.refusal import Refused
from model_service.learning.run import prepare, train_candidate
from model_service.models.artifact import LoadedModel
from model_service.models.job import Candidate
from tests.support.training_rows import (
    HORIZON_SECONDS,
    IMBALANCE,
    STEP_US,
    imbalance_rows,
    training_job,
    training_strategy,
)

FAMILIES = ["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
HOUR_US = 3_600_000_000
WEEK_US = 7 * 24 * HOUR_US


def rows_of(count: int = 1500) -> Any:
    return imbalance_rows(count, seed=3, assets=3)


def train(rows: Any, model_type: str = "xgboost", **job: Any) -> tuple[Candidate, LoadedModel]:
    """The candidate as it would be told to the service, and its model as the service would load it."""
    strategy = training_strategy(model_type=model_type, training={"walk_forward_folds": 2})
    candidate, files = train_candidate(training_job(strategy=strategy, **job), rows, {}, {}, lambda *_: None)
    json.dumps(candidate.model_dump(mode="json"), allow_nan=False)
    return candidate, LoadedModel.from_files(files, candidate.files)


def refusal_of(rows: Any, **job: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        prepare(training_job(**job), rows, {})
    json.dumps(dict(refused.value.report), allow_nan=False)
    return refused.value


def metric(candidate: Candidate, name: str) -> float:
    return next(metric.value for metric in candidate.metrics if metric.name == name)


def failed(candidate: Candidate) -> list[int]:
    return [condition.number for condition in candidate.gate if not condition.passed]


def served_probabilities(model: LoadedModel, features: Any) -> Any:
    both = np.tile(np.array([1, -1], dtype=np.int8), len(features))[: len(features)]
    return model.predict(features, both).probability


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_refused(label: int) -> None:
    rows = rows_of()
    rows["label"], rows["net_return"] = label, 0.01 if label else -0.01
    refused = refusal_of(rows)
    assert refused.code == "one_class"
    assert refused.report["share_of_wins"] == label


def only_one_value(rows: Any) -> None:
    rows["features"] = 0.25


def nothing_known(rows: Any) -> None:
    rows["features"] = np.nan


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("spoil", [only_one_value, nothing_known])
def test_features_that_say_nothing_make_a_model_that_does_not_pass(
    model_type: str, spoil: Callable[[Any], None]
) -> None:
    rows = rows_of()
    spoil(rows)
    candidate, model = train(rows, model_type)
    assert not candidate.gate_passed
    assert 4 in failed(candidate) or 1 in failed(candidate)
    assert metric(candidate, "roc_auc") == pytest.approx(0.5, abs=0.1)
    named = candidate.report["features_constant"] + candidate.report["features_unknown_everywhere"]
    assert len(named) == rows["features"].shape[1]
    assert np.isfinite(served_probabilities(model, rows["features"][:20])).all()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_outliers_do_not_take_the_edge_away(model_type: str) -> None:
    """One value in fifty is +-1e30 or infinite, in every feature but one, and in some rows of that one too."""
    rows = rows_of(3000)
    rng = np.random.default_rng(1)
    kept = rows["features"][:, IMBALANCE].copy()
    where = rng.random(rows["features"].shape) < 0.02
    rows["features"][where] = rng.choice([1e30, -1e30, np.inf, -np.inf, 3.4e38], int(where.sum()))
    rows["features"][::2, IMBALANCE] = kept[::2]
    candidate, model = train(rows, model_type)
    assert metric(candidate, "roc_auc") > 0.7
    assert np.isfinite(served_probabilities(model, rows["features"])).all()


def test_the_same_content_twice_weighs_once() -> None:
    rows = rows_of()
    again = rows.copy()
    again["signal_id"] = np.random.default_rng(9).integers(0, 256, again["signal_id"].shape, dtype=np.uint8)
    doubled = np.concatenate((rows, again))
    once, twice = prepare(training_job(), rows, {}), prepare(training_job(), doubled, {})
    assert once.plan.report["rows_duplicate"] == 0
    assert twice.plan.report["rows_duplicate"] == len(rows)
    before, after = (prepared.plan.report["average_uniqueness"] for prepared in (once, twice))
    assert after == pytest.approx(before / 2, abs=1e-6)
    candidate, _ = train(doubled)
    assert metric(candidate, "roc_auc") > 0.7


def test_one_asset_only() -> None:
    candidate, _ = train(imbalance_rows(3000, seed=3))
    assert list(candidate.report["rows_by_asset_code"]) == ["1"]
    assert metric(candidate, "roc_auc") > 0.7


def test_gaps_of_weeks() -> None:
    rows = rows_of()
    for first in (300, 700, 1400):
        for name in ("decided_us", "exit_us"):
            rows[name][first:] += 2 * WEEK_US
    candidate, _ = train(rows)
    assert candidate.report["gaps"] == 3
    expected = (2 * WEEK_US + STEP_US) / (HORIZON_SECONDS * 1_000_000)
    assert candidate.report["longest_gap_horizons"] == pytest.approx(expected, abs=0.001)


def test_a_clock_that_was_set_back_mixes_rows_and_leaks_none() -> None:
    """From row 1,500 on the clock is an hour behind: rows are sorted by what it said, and borders hold by it."""
    rows = rows_of(3000)
    for name in ("decided_us", "exit_us"):
        rows[name][1500:] -= HOUR_US
    prepared = prepare(training_job(), rows, {})
    decided, ended = prepared.dataset.decided_us, prepared.dataset.exit_us
    assert np.all(np.diff(decided) >= 0)
    blocks = list(prepared.plan.split.blocks().values())
    for earlier, later in pairwise(blocks):
        assert ended[earlier].max() < decided[later].min()
    train(rows)


def test_a_clock_that_was_set_back_within_a_trade_drops_it() -> None:
    rows = rows_of()
    rows["exit_us"][:100] = rows["decided_us"][:100] - HOUR_US
    candidate, _ = train(rows)
    assert candidate.report["dropped"] == {"interval_backwards": 100}
    assert candidate.report["rows"] == len(rows) - 100


def test_labels_in_the_future_do_not_exist_yet() -> None:
    rows = rows_of()
    as_of_us = int(rows["exit_us"][1199])
    candidate, _ = train(rows, as_of_us=as_of_us)
    assert candidate.report["dropped"] == {"label_in_the_future": 300}
    assert candidate.trained_until_us <= as_of_us
    refused = refusal_of(rows, as_of_us=int(rows["decided_us"][0]))
    assert (refused.code, refused.report["dropped"]) == ("too_few_rows", {"label_in_the_future": len(rows)})


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300, -1e30])
def test_returns_that_cannot_be_are_dropped(wrong: float) -> None:
    rows = rows_of()
    rows["net_return"][::10] = wrong
    candidate, _ = train(rows)
    assert sum(candidate.report["dropped"].values()) == 150
    assert abs(metric(candidate, "logged_average_return")) < 0.01


def test_probabilities_that_cannot_be_make_no_value_and_no_error() -> None:
    rows = rows_of()
    rows["probability_buy"], rows["probability_sell"] = np.nan, 2.0
    candidate, _ = train(rows)
    assert 6 in failed(candidate)


def test_no_rows_are_refused() -> None:
    assert refusal_of(rows_of()[:0]).code == "too_few_rows"
