"""Each condition of the gate can fail alone, and the trades taken are those of the better side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_service.learning.dataset import dataset_from_rows
from model_service.learning.evaluation import Evaluation, evaluate
from model_service.learning.gate import judge
from model_service.learning.scorecard import scorecard
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import would_take
from tests.support.training_rows import blank_rows

THRESHOLD = 0.75


def good(rows: int = 400) -> Evaluation:
    """A calibrated candidate that is right in 85 % of the rows and takes half of them, at a profit."""
    rng = np.random.default_rng(1)
    sample = blank_rows(rows, rng)
    sample["label"] = np.arange(rows) % 2
    probability = np.where(rng.random(rows) < 0.85, sample["label"], 1 - sample["label"]) * 0.7 + 0.15
    sample["net_return"] = np.where(sample["label"] == 1, 0.002, -0.002)
    test, _ = dataset_from_rows(sample)
    return Evaluation(test, probability, probability, probability > 0.5, 0, 1e-7, 0, 0.5)


def failures(evaluation: Evaluation) -> list[str]:
    return [condition.condition for condition in judge(evaluation, THRESHOLD) if not condition.passed]


def with_labels(evaluation: Evaluation, labels: np.ndarray[tuple[int], np.dtype[np.int8]]) -> Evaluation:
    return replace(evaluation, test=replace(evaluation.test, labels=labels))


def test_a_good_candidate_passes() -> None:
    assert failures(good()) == []


def test_too_few_rows() -> None:
    assert failures(good(190)) == ["test rows"]


def test_too_few_of_a_class() -> None:
    evaluation = good()
    labels = np.zeros(400, dtype=np.int8)
    labels[:20] = 1
    assert "test rows of the rarer class" in failures(with_labels(evaluation, labels))


def test_no_trades_taken() -> None:
    evaluation = replace(good(), taken=np.zeros(400, dtype=bool))
    assert failures(evaluation) == ["trades taken", "average return of the trades taken (lower bound 99 %)"]
    last = judge(evaluation, THRESHOLD)[-3]
    assert last.value is None
    assert last.detail == "not defined for these rows"


def test_accuracy_under_the_threshold() -> None:
    conditions = judge(good(), 0.95)
    assert [condition.condition for condition in conditions if not condition.passed] == ["accuracy"]


def test_always_a_loss_is_no_skill() -> None:
    evaluation = good()
    labels = np.zeros(400, dtype=np.int8)
    labels[::6] = 1
    constant = np.full(400, float(np.mean(labels)))
    evaluation = replace(with_labels(evaluation, labels), probability=constant, taken=np.zeros(400, dtype=bool))
    failed = failures(evaluation)
    assert "accuracy" not in failed
    assert "accuracy above the majority class (lower bound 95 %)" in failed
    assert "Brier better than the base rate" in failed


def test_overconfidence_fails_on_calibration() -> None:
    evaluation = good()
    overconfident = np.where(evaluation.probability > 0.5, 0.5001, 0.4999)
    assert failures(replace(evaluation, probability=overconfident)) == ["ece"]


def test_right_but_unprofitable() -> None:
    evaluation = good()
    losing = replace(evaluation.test, net_returns=np.where(evaluation.labels == 1, 0.0001, -0.02))
    assert failures(replace(evaluation, test=losing)) == ["average return of the trades taken (lower bound 99 %)"]


def test_an_artifact_that_differs() -> None:
    evaluation = replace(good(), parity_gap=2e-5, decisions_changed=1)
    assert failures(evaluation) == ["artifact parity", "decisions changed by the artifact"]


def test_nan_never_passes() -> None:
    evaluation = replace(good(), parity_gap=float("nan"))
    assert failures(evaluation) == ["artifact parity"]


def test_the_better_side_is_taken_and_ties_go_to_buy() -> None:
    own, other = np.array([0.7, 0.7, 0.6, 0.6, 0.4]), np.array([0.6, 0.8, 0.6, 0.6, 0.1])
    sides = np.array([1, 1, 1, -1, 1], dtype=np.int8)
    assert would_take(own, other, sides, 0.5).tolist() == [True, False, True, False, False]


def test_evaluation_reads_both_sides_and_compares_with_the_native_model() -> None:
    test, _ = dataset_from_rows(blank_rows(100, np.random.default_rng(2)))
    calibration = Calibration("sigmoid", 0.5, 0.01, -0.01, 100, slope=1.0)

    def buys_win(
        features: object, sides: np.ndarray[tuple[int], np.dtype[np.int8]]
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.where(sides > 0, 0.6, 0.4)

    def sells_win(
        features: object, sides: np.ndarray[tuple[int], np.dtype[np.int8]]
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.where(sides > 0, 0.4, 0.6)

    same = evaluate(test, buys_win, buys_win, calibration, 0, 0.5)
    assert same.taken.tolist() == (test.side_signs > 0).tolist()
    assert (same.parity_gap, same.decisions_changed) == (0.0, 0)
    other = evaluate(test, buys_win, sells_win, calibration, 0, 0.5)
    assert other.parity_gap == pytest.approx(0.2)
    assert other.decisions_changed == 100
    assert not evaluate(test, buys_win, buys_win, calibration, 0, 0.65).taken.any()


def test_what_is_not_finite_is_left_out_with_a_reason() -> None:
    metrics, left_out = scorecard(replace(good(), taken=np.zeros(400, dtype=bool)), 1)
    names = {metric.name for metric in metrics}
    assert "average_return" not in names
    assert "not defined" in left_out["average_return"]
    accuracy = next(metric for metric in metrics if metric.name == "accuracy")
    assert accuracy.lower is not None
    assert accuracy.upper is not None
    assert accuracy.lower < accuracy.value < accuracy.upper
    assert accuracy.level == 0.95
