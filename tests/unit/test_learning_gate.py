"""Each condition of the gate can fail alone, and each failure says by how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset
from model_service.learning.evaluation import Evaluation, evaluate
from model_service.learning.gate import judge
from model_service.learning.incumbent import IncumbentModel
from model_service.learning.scorecard import scorecard
from model_service.models.artifact import LoadedModel
from model_service.models.decision_rule import Acting, chosen_sides, chosen_sign, would_take
from model_service.models.intervals import MOVING_BLOCKS, Estimate
from model_service.models.job import GateCondition
from tests.support.evaluations import CALIBRATION, block, good, judged, says_first_feature
from tests.support.training_rows import START_US, STEP_US

THRESHOLD = 0.75
RETURN = "average return of the trades taken (lower bound 99 %)"
VALUE = "off-policy value per trade (lower bound 95 %)"
AGAINST = "value per decision against the incumbent (lower bound 95 %)"


def failures(evaluation: Evaluation) -> list[str]:
    return [condition.condition for condition in judge(evaluation, THRESHOLD) if not condition.passed]


def condition(evaluation: Evaluation, name: str) -> GateCondition:
    return next(found for found in judge(evaluation, THRESHOLD) if found.condition == name)


def on(test: Dataset) -> Evaluation:
    return evaluate(judged(), test)


def labelled(labels: NDArray[np.int8]) -> Evaluation:
    return replace(good(), test=replace(block(), labels=labels))


def test_a_good_candidate_passes_and_every_number_of_the_gate_is_there() -> None:
    assert failures(good()) == []
    assert {found.number for found in judge(good(), THRESHOLD)} == {1, 2, 3, 4, 5, 6, 7}


def test_too_few_rows() -> None:
    assert failures(good(190)) == ["test rows"]


def test_too_few_of_a_class() -> None:
    labels = np.zeros(400, dtype=np.int8)
    labels[:20] = 1
    assert "test rows of the rarer class" in failures(labelled(labels))


def test_no_trades_taken() -> None:
    silent = good(acting=Acting(0.99))
    assert failures(silent) == ["trades taken", RETURN, "effective trades for the off-policy value", VALUE]
    assert condition(silent, RETURN).value is None
    assert condition(silent, RETURN).detail.startswith("not defined for these rows")
    assert "nan" not in " ".join(one.detail for one in judge(silent, 0.5))


def test_accuracy_under_the_threshold() -> None:
    conditions = judge(good(), 0.95)
    assert [found.condition for found in conditions if not found.passed] == ["accuracy"]


def test_always_a_loss_is_no_skill() -> None:
    labels = np.zeros(400, dtype=np.int8)
    labels[::6] = 1
    constant = np.full(400, float(np.mean(labels)))
    failed = failures(replace(labelled(labels), probability=constant))
    assert "accuracy" not in failed
    assert "accuracy above the majority class (lower bound 95 %)" in failed
    assert "Brier better than the base rate" in failed


def test_overconfidence_fails_on_calibration() -> None:
    evaluation = good()
    unsure = np.where(evaluation.probability > 0.5, 0.5001, 0.4999)
    assert failures(replace(evaluation, probability=unsure)) == ["ece"]


def test_right_but_unprofitable() -> None:
    test = block()
    losing = replace(test, net_returns=np.where(test.labels == 1, 0.0001, -0.02))
    assert failures(on(losing)) == [RETURN, VALUE]


def test_it_must_earn_more_than_what_was_logged() -> None:
    """Everybody earned: the logging policy 41 basis points, the candidate 21 with the trades that it takes."""
    test = block()
    rich = replace(test, net_returns=np.where(test.labels == 1, 0.002, 0.006))
    assert failures(on(rich)) == [VALUE]
    assert condition(on(rich), VALUE).threshold == pytest.approx(0.004)


def test_too_little_overlap_is_no_number() -> None:
    """Two thirds of the weight lie on one row that the logging policy hardly ever chose."""
    test = block()
    rare = np.flatnonzero(good().taken)[:2]
    probability_buy, probability_sell = test.probability_buy.copy(), test.probability_sell.copy()
    for own, sign in ((probability_buy, 1), (probability_sell, -1)):
        own[rare[test.side_signs[rare] == sign]] = 0.001
    thin = replace(
        test,
        probability_buy=probability_buy,
        probability_sell=probability_sell,
        probability_none=1.0 - probability_buy - probability_sell,
    )
    assert failures(on(thin)) == ["effective trades for the off-policy value", VALUE]
    metrics, left_out = scorecard(on(thin), 1)
    assert "not enough overlap" in left_out["value_per_trade"]
    assert "value_per_trade" not in {metric.name for metric in metrics}


class Oracle:
    """An incumbent that says the opposite of the candidate, or the same."""

    calibration = CALIBRATION
    break_even = 0.5

    def __init__(self, *, same: bool) -> None:
        self._same = same

    def scores(self, features: NDArray[np.float32], side_signs: NDArray[np.int8]) -> NDArray[np.float64]:
        said = says_first_feature(features, side_signs)
        return said if self._same else 1.0 - said


def against(same: bool, trained_until_us: int = 0) -> Evaluation:
    model: LoadedModel = Oracle(same=same)  # type: ignore[assignment]
    return good(incumbent=IncumbentModel("v3", model, trained_until_us))


def test_a_candidate_as_good_as_the_incumbent_passes() -> None:
    evaluation = against(same=True)
    assert failures(evaluation) == []
    assert condition(evaluation, AGAINST).value == 0.0


def test_a_candidate_far_behind_the_incumbent_fails() -> None:
    """Both sides are priced, so each earns 20 basis points a row where it is right: 0.7 * 0.002 apart either way."""
    ahead = against(same=False)
    assert failures(ahead) == []
    assert ahead.comparison is not None
    assert ahead.comparison.difference.value == pytest.approx(2 * ahead.comparison.value)
    behind = replace(ahead, comparison=replace(ahead.comparison, difference=Estimate(-0.0028, 0.0001)))
    assert failures(behind) == [AGAINST]


def test_rows_that_the_incumbent_has_seen_do_not_count() -> None:
    evaluation = against(same=True, trained_until_us=START_US + 330 * STEP_US)
    assert failures(evaluation) == ["rows that the incumbent has not seen", AGAINST], "nor do so few show an error"
    assert evaluation.comparison is not None
    assert evaluation.comparison.rows == 400 - 330 - 30 - 1, "and one horizon of 30 steps after it"


def test_rows_without_a_path_are_left_out_and_counted() -> None:
    model: LoadedModel = Oracle(same=True)  # type: ignore[assignment]
    test = block()
    unknown = np.where(np.arange(400) < 150, np.nan, test.opposite_net_returns)
    evaluation = evaluate(judged(), replace(test, opposite_net_returns=unknown), None, IncumbentModel("v3", model, 0))
    assert evaluation.comparison is not None
    assert (evaluation.comparison.rows, evaluation.comparison.unpriced) == (250, 150)


def test_an_incumbent_that_cannot_be_read_stops_nobody() -> None:
    evaluation = good(incumbent=IncumbentModel("v3", None, 0, "serving.onnx: sha256 differs"))
    assert failures(evaluation) == []
    assert "v3 cannot be used: serving.onnx" in condition(evaluation, AGAINST).detail


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
    assert chosen_sides(own, other, sides, 0.5).tolist() == [1, -1, 1, 1, 0]


@given(*[st.sampled_from([0.0, 0.4, 0.5, 0.6, 1.0, float("nan")])] * 2, st.sampled_from([0.5, 0.55, 0.6]))
def test_one_decision_is_taken_as_many_are(buy: float, sell: float, floor: float) -> None:
    rows = chosen_sides(np.array([buy]), np.array([sell]), np.array([1], dtype=np.int8), floor)
    assert chosen_sign(buy, sell, floor) == rows[0]


def test_evaluation_reads_both_sides_and_compares_with_the_native_model() -> None:
    test = block(100)

    def buys_win(features: object, sides: NDArray[np.int8]) -> NDArray[np.float64]:
        return np.where(sides > 0, 0.6, 0.4)

    def sells_win(features: object, sides: NDArray[np.int8]) -> NDArray[np.float64]:
        return np.where(sides > 0, 0.4, 0.6)

    same = evaluate(judged(served=buys_win, native=buys_win), test)
    assert same.taken.tolist() == (test.side_signs > 0).tolist()
    assert (same.parity_gap, same.decisions_changed) == (0.0, 0)
    other = evaluate(judged(served=buys_win, native=sells_win), test)
    assert other.parity_gap == pytest.approx(0.2)
    assert other.decisions_changed == 100
    assert not evaluate(judged(served=buys_win, native=buys_win, acting=Acting(0.65)), test).taken.any()


def test_a_tie_that_rounding_breaks_is_no_changed_decision() -> None:
    def tie(features: NDArray[np.float32], sides: NDArray[np.int8]) -> NDArray[np.float64]:
        return np.full(len(features), 0.6)

    def rounded(features: NDArray[np.float32], sides: NDArray[np.int8]) -> NDArray[np.float64]:
        return np.where(sides > 0, 0.6 - 1e-7, 0.6)

    evaluation = evaluate(judged(served=tie, native=rounded), block(100))
    assert 0 < evaluation.parity_gap < 1e-6
    assert evaluation.decisions_changed == 0


def test_what_is_not_finite_is_left_out_with_a_reason() -> None:
    metrics, left_out = scorecard(good(acting=Acting(0.99)), 1)
    names = {metric.name for metric in metrics}
    assert "average_return" not in names
    assert "not defined" in left_out["average_return"]
    accuracy = next(metric for metric in metrics if metric.name == "accuracy")
    assert accuracy.lower is not None
    assert accuracy.upper is not None
    assert accuracy.lower < accuracy.value < accuracy.upper
    assert (accuracy.level, accuracy.method) == (0.90, MOVING_BLOCKS)
