"""Logistic regression finds the optimum, and robust inputs mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from model_service.learning.pipelines import PipelineModel
from model_service.learning.robust_inputs import input_steps
from tests.support.families import fitted, planted_block


def test_logistic_regression_is_at_the_optimum() -> None:
    model = fitted("logistic_regression")
    assert isinstance(model, PipelineModel)
    train = planted_block(800, 1)
    design = model.pipeline[:-1].transform(train.inputs).astype(np.float64)
    signs = 2.0 * train.labels - 1.0

    def loss(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        """sum log(1 + exp(-y f)) + |w|^2 / (2 C), the definition that scikit-learn documents."""
        margins = signs * (design @ weights[:-1] + weights[-1])
        return float(np.sum(np.logaddexp(0, -margins)) + weights[:-1] @ weights[:-1] / (2 * 0.1))

    best = minimize(loss, np.zeros(design.shape[1] + 1), method="BFGS").x
    expected = 1 / (1 + np.exp(-(design @ best[:-1] + best[-1])))
    assert model.scores(train.inputs) == pytest.approx(expected, abs=2e-4)


def column(values: object, rows: int = 1000) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.broadcast_to(np.asarray(values, dtype=np.float32), rows).reshape(-1, 1).copy()


def through(values: np.ndarray[tuple[int, int], np.dtype[np.float32]], *asked: float) -> list[float]:
    """What the steps that were fitted to one column make of the values asked."""
    inputs = np.array(asked, dtype=np.float32).reshape(-1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for _, step in input_steps(values, scaled=True):
            inputs = step.transform(inputs)
    return [float(value) for value in inputs[:, 0]]


def test_values_in_the_middle_are_scaled_and_those_far_out_are_held() -> None:
    normal = column(np.random.default_rng(0).normal(50.0, 2.0, 1000))
    low, middle, high, far, farther = through(normal, 46.0, 50.0, 54.0, 70.0, 1e30)
    assert [middle - low, high - middle] == pytest.approx([2.0, 2.0], abs=0.15)
    assert far == farther == pytest.approx(5.0, abs=0.4)


def test_unknown_is_the_median() -> None:
    values = column(np.random.default_rng(0).exponential(1.0, 1000))
    values[::3] = np.nan
    unknown, median = through(values, np.nan, float(np.nanmedian(values)))
    assert unknown == pytest.approx(median, abs=1e-6)


@pytest.mark.parametrize(("every", "least"), [(100, 1.5), (25, 0.8)])
def test_outliers_on_both_sides_leave_a_scale_to_the_others(every: int, least: float) -> None:
    """Two deviations are two units without them; means and extremes would leave 1e-29."""
    dirty = column(np.random.default_rng(0).normal(0.0, 1.0, 1000))
    dirty[::every], dirty[1::every] = 1e30, -1e30
    assert np.diff(through(dirty, -1.0, 1.0))[0] > least


def test_a_rare_value_of_a_column_that_is_constant_otherwise_counts() -> None:
    rare = column(np.arange(1000) % 50 == 0)
    zero, one, more = through(rare, 0.0, 1.0, 1e9)
    assert one - zero > 1.0
    assert more == one


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, 1e30, -3.4e38])
def test_a_column_without_any_change_is_harmless(value: float) -> None:
    assert np.all(np.isfinite(through(column(value), value, 0.0, 1e30, -1e30, np.nan)))


def test_a_forest_needs_no_scale() -> None:
    assert [name for name, _ in input_steps(column(1.0), scaled=False)] == ["imputer"]
