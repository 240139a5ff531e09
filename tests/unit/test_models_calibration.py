"""Calibration: what is fitted, what is applied, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from model_service.learning.calibrate import fit_calibration, fit_isotonic, fit_sigmoid
from model_service.models.calibration import Calibration, log_odds, sigmoid

Draw = tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float64]]


def drawn(rows: int, seed: int, *, slope: float = 1.0) -> Draw:
    """Scores whose true probability is sigmoid(slope * log-odds), labels, and returns of +2 and -1 percent."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 0.95, rows)
    labels = (rng.random(rows) < sigmoid(slope * log_odds(scores))).astype(np.int8)
    return scores, labels, np.where(labels == 1, 0.02, -0.01)


def test_sigmoid_is_the_unpenalised_maximum_likelihood() -> None:
    scores, labels, _ = drawn(20_000, 3, slope=0.6)
    slope, intercept = fit_sigmoid(log_odds(scores), labels == 1)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds(scores)[:, None], labels)
    assert slope == pytest.approx(float(reference.coef_[0, 0]), abs=2e-3)
    assert intercept == pytest.approx(float(reference.intercept_[0]), abs=2e-3)


def test_separable_rows_have_a_finite_slope() -> None:
    scores = np.linspace(0.1, 0.9, 60)
    slope, intercept = fit_sigmoid(log_odds(scores), scores > 0.5)
    assert 0 < slope < 100
    assert np.isfinite(intercept)


def test_isotonic_agrees_with_scikit_learn() -> None:
    scores, labels, returns = drawn(1500, 4)
    scores = np.round(scores, 2)
    calibration = fit_calibration(scores, labels, returns)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(scores)
    assert calibration.method == "isotonic"
    assert calibration.probability(scores) == pytest.approx(np.clip(expected, 1 / 1502, 1 - 1 / 1502), abs=1e-12)


def test_isotonic_is_never_certain() -> None:
    scores = np.linspace(0.0, 1.0, 1000)
    _, probabilities = fit_isotonic(scores, scores > 0.5)
    assert 0 < probabilities[0] < probabilities[-1] < 1


def test_sigmoid_is_the_same_as_scikit_learns() -> None:
    """Its own calibrator, given the log-odds as decision values: Platt's targets and no penalty there too."""
    scores, labels, returns = drawn(400, 3, slope=0.6)
    reference = _SigmoidCalibration().fit(log_odds(scores), labels)
    calibration = fit_calibration(scores, labels, returns)
    assert calibration.slope == pytest.approx(-float(reference.a_), rel=1e-3)
    assert calibration.intercept == pytest.approx(-float(reference.b_), abs=1e-3)
    assert calibration.probability(scores) == pytest.approx(reference.predict(log_odds(scores)), abs=1e-4)


@pytest.mark.parametrize("rows", [60, 999, 1000, 20_000])
def test_isotonic_from_a_thousand_rows_on(rows: int) -> None:
    assert fit_calibration(*drawn(rows, 7)).method == ("sigmoid" if rows < 1000 else "isotonic")


@pytest.mark.parametrize("rows", [300, 2000, 30_000])
def test_a_score_that_points_the_wrong_way_becomes_the_base_rate(rows: int) -> None:
    scores, labels, returns = drawn(rows, 5, slope=-0.5)
    calibration = fit_calibration(scores, labels, returns)
    assert calibration.method == "constant"
    assert np.all(calibration.probability(scores) == np.mean(labels))


@pytest.mark.parametrize("rows", [300, 2000])
@pytest.mark.parametrize("score", [0.0, 0.37, 1.0])
def test_a_model_that_says_one_thing_becomes_the_base_rate(rows: int, score: float) -> None:
    _, labels, returns = drawn(rows, 5)
    calibration = fit_calibration(np.full(rows, score), labels, returns)
    assert calibration.method == "constant"
    assert calibration.probability(np.array([0.1, 0.9])) == pytest.approx(np.mean(labels))


@pytest.mark.parametrize("rows", [300, 2000])
def test_scores_of_exactly_zero_and_one_can_be_calibrated(rows: int) -> None:
    scores, labels, returns = drawn(rows, 5)
    extreme = np.where(scores < 0.3, 0.0, np.where(scores > 0.7, 1.0, scores))
    probability = fit_calibration(extreme, labels, returns).probability(extreme)
    assert np.all((probability > 0.0) & (probability < 1.0))


@pytest.mark.parametrize("rows", [800, 5000])
def test_calibrated_probabilities_are_true_on_other_rows(rows: int) -> None:
    """Scores that are twice too sure: true log-odds are half of what they say."""
    calibration = fit_calibration(*drawn(rows, 11, slope=0.5))
    fresh = np.linspace(0.1, 0.9, 200)
    truth = sigmoid(0.5 * log_odds(fresh))
    assert np.mean(np.abs(calibration.probability(fresh) - truth)) < 0.5 * np.mean(np.abs(fresh - truth))


def test_few_rows_use_the_sigmoid() -> None:
    scores, labels, returns = drawn(400, 6)
    assert fit_calibration(scores, labels, returns).method == "sigmoid"


def test_one_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_calibration(np.linspace(0.1, 0.9, 50), np.ones(50), np.ones(50))


def test_expected_return_and_break_even() -> None:
    calibration = Calibration("constant", 0.5, 0.02, -0.01, 100)
    assert calibration.break_even == pytest.approx(1 / 3)
    assert calibration.expected_net_return(np.array([1 / 3, 1.0])) == pytest.approx([0.0, 0.02])
    assert Calibration("constant", 0.5, -0.001, -0.01, 100).break_even == 1.0


@pytest.mark.parametrize("rows", [400, 1500])
def test_json_returns_the_same_numbers(rows: int) -> None:
    calibration = fit_calibration(*drawn(rows, 7))
    again = Calibration.from_json(calibration.to_json())
    assert again == calibration
    assert again.to_json() == calibration.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"}, {"slope": -1.0}, {"slope": float("nan")}, {"base_rate": 2.0}, {"unknown": 1},
        {"method": "isotonic"}, {"method": "isotonic", "knot_scores": [0.2, 0.1], "knot_probabilities": [0.1, 0.2]},
        {"method": "isotonic", "knot_scores": [0.1, 0.2], "knot_probabilities": [0.3, 0.2]}, {"slope": "1"},
    ],
)  # fmt: skip
def test_damaged_numbers_are_refused(change: dict[str, object]) -> None:
    good = json.loads(fit_calibration(*drawn(400, 8)).to_json())
    with pytest.raises(ValueError, match=r"calibration|could not convert"):
        Calibration.from_json(json.dumps({**good, **change}).encode())
    with pytest.raises(ValueError, match=r"."):
        Calibration.from_json(b"[]")


CALIBRATIONS = [
    Calibration("sigmoid", 0.5, 0.02, -0.01, 100, slope=0.7, intercept=-0.2),
    Calibration("constant", 0.4, 0.02, -0.01, 100),
    Calibration("isotonic", 0.5, 0.02, -0.01, 100, knot_scores=(0.2, 0.5, 0.9), knot_probabilities=(0.1, 0.1, 0.7)),
    Calibration("isotonic", 0.5, 0.02, -0.01, 100, knot_scores=(0.5,), knot_probabilities=(0.3,)),
]


@given(st.sampled_from(CALIBRATIONS), st.floats(0, 1) | st.sampled_from([0.2, 0.5, 0.9]))
def test_one_score_is_calibrated_as_many_are(calibration: Calibration, score: float) -> None:
    many = calibration.probability(np.array([score]))
    one = calibration.probability_of(score)
    assert one == pytest.approx(many[0], abs=1e-14)
    assert calibration.expected_net_return_of(one) == calibration.expected_net_return(np.array([one]))[0]
