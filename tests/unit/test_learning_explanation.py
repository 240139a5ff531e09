"""Contributions add up to what the model says, whatever the family, and importance finds what was planted."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from model_service.learning.dataset import Dataset, dataset_from_rows
from model_service.learning.estimators import Block, FitRequest, FittedModel, fit_model
from model_service.learning.explain_booster import BoosterExplainer
from model_service.learning.explain_pipeline import ForestExplainer
from model_service.learning.explanation import read_explainer
from model_service.learning.importance import importance, permutation_importance, spread
from model_service.models.features import MODEL_INPUT_NAMES
from tests.support.training_rows import imbalance_rows

FAMILIES = ["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
WIDTH = len(MODEL_INPUT_NAMES)


@cache
def planted() -> Dataset:
    return dataset_from_rows(imbalance_rows(2000, 3, assets=3))[0]


@cache
def fitted(model_type: str) -> FittedModel:
    inputs, labels = planted().inputs(), planted().labels
    train, stopping = (
        Block(inputs[part], labels[part], np.ones(len(labels[part]), dtype=np.float32))
        for part in (slice(0, 1200), slice(1200, 1500))
    )
    return fit_model(FitRequest(model_type, train, stopping, seed=7, threads=1, on_round=lambda *_: None))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_contributions_sum_to_what_the_native_model_says(model_type: str) -> None:
    inputs = planted().inputs()[1500:]
    model = fitted(model_type)
    parts = model.explainer().contributions(inputs)
    scores = model.scores(inputs)
    assert parts.values.shape == inputs.shape
    assert np.max(np.abs(parts.scores - scores)) < 1e-6
    assert np.ptp(parts.totals) > 0.1


@pytest.mark.parametrize("model_type", ["logistic_regression", "sgd_classifier"])
def test_linear_terms_sum_to_the_decision_function(model_type: str) -> None:
    model: Any = fitted(model_type)
    inputs = planted().inputs()
    totals = model.explainer().contributions(inputs).totals
    assert np.max(np.abs(totals - model.pipeline.decision_function(inputs))) < 1e-5


def test_tree_shap_sums_to_the_margin_itself() -> None:
    model, inputs = fitted("xgboost"), planted().inputs()
    explainer = model.explainer()
    assert isinstance(explainer, BoosterExplainer)
    margin = explainer.booster.predict(xgboost.DMatrix(inputs), output_margin=True)
    assert np.max(np.abs(explainer.contributions(inputs).totals - margin)) < 1e-5


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_native_file_gives_the_same_reasons(model_type: str) -> None:
    inputs, model = planted().inputs()[:50], fitted(model_type)
    read = read_explainer(model_type, model.native())
    one, other = model.explainer(), read
    assert one.method == other.method
    assert np.array_equal(one.contributions(inputs).values, other.contributions(inputs).values)
    assert np.array_equal(one.native_importance().values, other.native_importance().values)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 not a zip", b"\x80\x04N."])
def test_a_file_that_is_none_is_a_value_error(model_type: str, content: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        read_explainer(model_type, content)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_unknown_input_has_a_finite_part(model_type: str) -> None:
    nothing = np.full((3, WIDTH), np.nan, dtype=np.float32)
    parts = fitted(model_type).explainer().contributions(nothing)
    assert np.all(np.isfinite(parts.values))
    assert np.allclose(parts.scores, fitted(model_type).scores(nothing), atol=1e-6)


def test_a_forest_books_each_change_of_the_mean_to_the_input_that_was_asked() -> None:
    # One tree: input 0 at 0.5, then on its right input 1. Means: root 8/15, left 0, right 0.8, below that 0.6 and 1.
    rows = np.array([[0, 0]] * 5 + [[1, 0]] * 5 + [[1, 1]] * 5, dtype=np.float32)
    labels = np.array([0] * 5 + [1, 1, 1, 0, 0] + [1] * 5)
    forest = RandomForestClassifier(n_estimators=1, bootstrap=False, max_features=None, random_state=1)
    pipeline = Pipeline([("nothing", FunctionTransformer()), ("estimator", forest)]).fit(rows, labels)
    parts = ForestExplainer(pipeline).contributions(rows[[0, 5, 10]])
    assert parts.base_value == pytest.approx(8 / 15)
    assert parts.values == pytest.approx(
        np.array([[-8 / 15, 0.0], [0.8 - 8 / 15, -0.2], [0.8 - 8 / 15, 0.2]]), abs=1e-12
    )
    assert parts.totals == pytest.approx(pipeline.predict_proba(rows[[0, 5, 10]])[:, 1])


def test_a_tree_sends_the_unknown_where_it_was_trained_to() -> None:
    rows = np.array([[0.0]] * 10 + [[1.0]] * 10 + [[np.nan]] * 10, dtype=np.float32)
    labels = np.array([0] * 10 + [1] * 10 + [0] * 10)
    forest = RandomForestClassifier(n_estimators=3, max_features=None, random_state=1)
    pipeline = Pipeline([("nothing", FunctionTransformer()), ("estimator", forest)]).fit(rows, labels)
    parts = ForestExplainer(pipeline).contributions(rows)
    assert parts.totals == pytest.approx(pipeline.predict_proba(rows)[:, 1])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_importance_finds_the_planted_edge_in_all_three_ways(model_type: str) -> None:
    report = importance(fitted(model_type), planted().take(np.arange(1500, 2000)), seed=1)
    inputs = report["features"]
    assert inputs[0]["feature"] == "book_imbalance"
    assert {item["feature"] for item in inputs} == set(MODEL_INPUT_NAMES)
    for name in ("mean_absolute_contribution", "native", "log_loss_rise"):
        values = [item[name] for item in inputs]
        assert max(values) == values[0], name
        assert values[0] > 3 * sorted(values)[-2], name
    weights = [item["mean_absolute_contribution"] for item in inputs]
    assert weights == sorted(weights, reverse=True)
    assert sum(item["share"] for item in inputs) == pytest.approx(1.0, abs=1e-4)
    assert report["rows"] == 500


class _OnlyReads:
    """A model that reads one input alone."""

    def __init__(self, column: int) -> None:
        self.column, self.asked = column, 0

    def scores(self, inputs: Any) -> Any:
        self.asked += 1
        return np.where(inputs[:, self.column] > 0, 0.9, 0.1)


def test_shuffling_an_input_that_is_not_read_changes_nothing() -> None:
    inputs = np.random.default_rng(1).standard_normal((400, 3)).astype(np.float32)
    labels = (inputs[:, 1] > 0).astype(np.int8)
    model: Any = _OnlyReads(1)
    rises = permutation_importance(model, inputs, labels, seed=5)
    # Shuffled, half of the rows are wrong: -log 0.1 in the place of -log 0.9.
    assert rises == pytest.approx([0.0, 0.5 * np.log(9), 0.0], abs=0.1)
    assert (rises[0], rises[2]) == (0.0, 0.0)
    assert model.asked == 1
    assert np.array_equal(rises, permutation_importance(model, inputs, labels, seed=5))


def test_rows_are_spread_over_the_whole_block() -> None:
    assert spread(3, 10).tolist() == [0, 1, 2]
    assert spread(0, 10).tolist() == []
    positions = spread(100_000, 1000)
    assert (len(positions), positions[0], positions[-1]) == (1000, 0, 99_900)
    assert len(set(positions.tolist())) == 1000
