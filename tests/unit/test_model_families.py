"""One contract for the four model types: what is fitted, exported and continued, whatever the inputs hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from model_service.config.hyperparameters import HYPERPARAMETERS
from model_service.learning.estimators import Block, FittedModel
from model_service.learning.refusal import Refused
from tests.support.families import (
    EDGE,
    FAMILIES,
    INCREMENTAL,
    WIDTH,
    extreme_inputs,
    fitted,
    planted_block,
    served_scores,
)

OTHER_VALUES: dict[str, dict[str, Any]] = {
    "xgboost": {
        "rounds": 12, "max_depth": 2, "eta": 0.2, "min_child_weight": 1, "subsample": 0.5, "colsample_bytree": 0.3,
        "lambda": 0.1, "alpha": 1.5, "gamma": 3, "max_delta_step": 0.05, "max_bin": 16,
    },
    "random_forest": {
        "n_estimators": 15, "max_depth": 2, "min_samples_leaf": 60, "max_features": 0.9, "max_samples": 150,
    },
    "logistic_regression": {"C": 0.001, "max_iter": 1},
    "sgd_classifier": {"alpha": 1.0, "l1_ratio": 0.9, "max_iter": 1, "average": False},
}  # fmt: skip
"""For each hyperparameter a value that must change the model, and does not slow the test."""


@cache
def plain(model_type: str) -> FittedModel:
    return fitted(model_type, hyperparameters=few_trees(model_type))


def auc(model: FittedModel) -> float:
    fresh = planted_block(2000, 9)
    return float(roc_auc_score(fresh.labels, model.scores(fresh.inputs)))


def with_column(block: Block, values: Any, column: int = 3) -> Block:
    inputs = block.inputs.copy()
    inputs[:, column] = values
    return replace(block, inputs=inputs)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_planted_edge_is_learned(model_type: str) -> None:
    assert auc(plain(model_type)) > 0.78


@pytest.mark.parametrize("model_type", FAMILIES)
def test_any_float_gives_a_probability(model_type: str) -> None:
    scores = plain(model_type).scores(extreme_inputs())
    assert np.all((scores >= 0.0) & (scores <= 1.0))


@pytest.mark.parametrize("model_type", FAMILIES)
@given(row=st.lists(st.floats(width=32), min_size=WIDTH, max_size=WIDTH))
@settings(max_examples=40, deadline=None)
def test_any_row_gives_the_same_probability_natively_and_served(model_type: str, row: list[float]) -> None:
    inputs = np.array([row, row], dtype=np.float32)
    scores = plain(model_type).scores(inputs)
    assert np.all((scores >= 0.0) & (scores <= 1.0))
    assert session_of(model_type)(inputs) == pytest.approx(scores, abs=1e-5)


@cache
def session_of(model_type: str) -> Any:
    """The graph is made once: Hypothesis asks it many times."""
    graph = plain(model_type).onnx()

    class Once:
        def onnx(self) -> bytes:
            return graph

    return lambda inputs: served_scores(Once(), inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("rows", ["random", "unknown", "extreme"])
def test_the_graph_says_what_the_native_model_says(model_type: str, rows: str) -> None:
    inputs: NDArray[np.float32] = {
        "random": planted_block(1000, 5).inputs,
        "unknown": np.full((3, WIDTH), np.nan, dtype=np.float32),
        "extreme": extreme_inputs(),
    }[rows]
    native, served = plain(model_type).scores(inputs), served_scores(plain(model_type), inputs)
    assert np.max(np.abs(native - served)) <= 1e-5
    assert np.array_equal(native >= 0.5, served >= 0.5)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_inputs_that_hardly_move_agree_too(model_type: str) -> None:
    train = planted_block(800, 1)
    for column, level in ((2, 1000.0), (4, -3e4), (5, 1e-8)):
        train = with_column(train, level * (1 + 1e-6 * train.inputs[:, column]), column)
    model = fitted(model_type, train, hyperparameters=few_trees(model_type))
    assert np.max(np.abs(model.scores(train.inputs) - served_scores(model, train.inputs))) <= 1e-5


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_and_threads_give_the_same_bytes(model_type: str, threads: int) -> None:
    # Few rounds: threads that wait for each other are slow beside other tests.
    few = {**few_trees(model_type), **({"rounds": 15} if model_type == "xgboost" else {})}
    first, again = (fitted(model_type, hyperparameters=few, threads=threads) for _ in range(2))
    assert again.native() == first.native()
    assert again.onnx() == first.onnx()


@pytest.mark.parametrize("model_type", ["xgboost", "random_forest", "sgd_classifier"])
def test_another_seed_gives_another_model(model_type: str) -> None:
    assert fitted(model_type, seed=8, hyperparameters=few_trees(model_type)).onnx() != plain(model_type).onnx()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_weights_matter(model_type: str) -> None:
    train = planted_block(800, 1)
    heavy = replace(train, weights=np.where(train.labels == 1, 4.0, 0.4).astype(np.float32))
    raised = fitted(model_type, heavy, hyperparameters=few_trees(model_type)).scores(train.inputs)
    assert np.mean(raised - plain(model_type).scores(train.inputs)) > 0.1


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("column", [3, WIDTH - 1])
@pytest.mark.parametrize("value", [0.0, 7.5, np.nan, 1e30])
def test_an_input_that_says_nothing_does_no_harm(model_type: str, column: int, value: float) -> None:
    train = with_column(planted_block(800, 1), value, column)
    model = fitted(model_type, train, hyperparameters=few_trees(model_type))
    assert auc(model) > 0.78
    assert np.max(np.abs(model.scores(extreme_inputs()) - served_scores(model, extreme_inputs()))) <= 1e-5


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("value", [np.nan, 0.0, -1e30])
def test_inputs_that_all_say_nothing_give_one_score(model_type: str, value: float) -> None:
    train = planted_block(800, 1)
    empty = replace(train, inputs=np.full_like(train.inputs, value))
    model = fitted(model_type, empty, hyperparameters=few_trees(model_type))
    scores = model.scores(empty.inputs)
    assert np.ptp(scores) == 0.0
    assert scores[0] == pytest.approx(np.mean(train.labels), abs=0.05)
    assert served_scores(model, empty.inputs) == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_outliers_cost_nothing_but_themselves(model_type: str) -> None:
    train = planted_block(800, 1)
    rng = np.random.default_rng(5)
    inputs = train.inputs.copy()
    inputs[rng.random(inputs.shape) < 0.02] = 1e30
    inputs[rng.random(inputs.shape) < 0.02] = -1e30
    assert auc(fitted(model_type, replace(train, inputs=inputs), hyperparameters=few_trees(model_type))) > 0.78


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("count", [2, 21])
def test_a_tiny_block_can_be_fitted(model_type: str, count: int) -> None:
    train = planted_block(count, 6)
    labels = np.arange(count, dtype=np.int8) % 2
    tiny = replace(train, labels=labels)
    model = fitted(model_type, tiny, early_stopping=planted_block(2, 7), hyperparameters=few_trees(model_type))
    scores = model.scores(extreme_inputs())
    assert np.all((scores >= 0.0) & (scores <= 1.0))
    assert np.max(np.abs(scores - served_scores(model, extreme_inputs()))) <= 1e-5


def test_every_hyperparameter_is_tried() -> None:
    assert {model_type: set(values) for model_type, values in OTHER_VALUES.items()} == {
        model_type: set(known) for model_type, known in HYPERPARAMETERS.items()
    }


@pytest.mark.parametrize(
    ("model_type", "name"), [(model_type, name) for model_type in FAMILIES for name in HYPERPARAMETERS[model_type]]
)
def test_every_hyperparameter_reaches_the_model_and_is_recorded(model_type: str, name: str) -> None:
    base = few_trees(model_type)
    changed = fitted(model_type, hyperparameters={**base, name: OTHER_VALUES[model_type][name]})
    assert changed.onnx() != fitted(model_type, hyperparameters=base).onnx()
    assert changed.details()["hyperparameters"][name] == OTHER_VALUES[model_type][name]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_recorded_makes_the_same_model_again(model_type: str) -> None:
    used = plain(model_type).details()["hyperparameters"]
    again = {name: used[name] for name in HYPERPARAMETERS[model_type]}
    assert fitted(model_type, hyperparameters=again).onnx() == plain(model_type).onnx()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_progress_is_told_up_to_the_end(model_type: str) -> None:
    told: list[tuple[int, int]] = []
    fitted(model_type, on_round=lambda done, most: told.append((done, most)))
    assert told == sorted(told)
    if model_type == "random_forest":
        assert told == [(done, 200) for done in range(10, 201, 10)]


@pytest.mark.parametrize("model_type", INCREMENTAL)
def test_an_increment_continues_its_parent(model_type: str) -> None:
    parent, turned, few = plain(model_type), planted_block(800, 8, strength=-2.0), planted_block(60, 8)
    child = fitted(model_type, turned, parent=parent.native(), early_stopping=turned)
    assert fitted(model_type, turned, parent=parent.native(), early_stopping=turned).onnx() == child.onnx()
    assert auc(child) < auc(parent), "new rows count"
    assert auc(fitted(model_type, few, parent=parent.native())) > auc(fitted(model_type, few)) + 0.05, "old ones too"


@pytest.mark.parametrize("model_type", ["random_forest", "logistic_regression"])
def test_the_others_refuse_to_continue(model_type: str) -> None:
    with pytest.raises(Refused) as refused:
        fitted(model_type, parent=plain(model_type).native())
    assert refused.value.code == "increment_unsupported"


@pytest.mark.parametrize("model_type", INCREMENTAL)
@pytest.mark.parametrize("damage", ["empty", "an object", "half", "one byte short"])
def test_a_parent_that_cannot_be_read_is_refused(model_type: str, damage: str) -> None:
    content = plain(model_type).native()
    parent = {
        "empty": b"", "an object": b"{}", "half": content[: len(content) // 2], "one byte short": content[:-1],
    }[damage]  # fmt: skip
    with pytest.raises(Refused) as refused:
        fitted(model_type, parent=parent)
    assert refused.value.code == "parent_incompatible"


@pytest.mark.parametrize("model_type", INCREMENTAL)
def test_a_parent_of_other_inputs_is_refused(model_type: str) -> None:
    train = planted_block(100, 1)
    narrow = replace(train, inputs=np.ascontiguousarray(train.inputs[:, :-1]))
    with pytest.raises(Refused) as refused:
        fitted(model_type, narrow, early_stopping=narrow, parent=plain(model_type).native())
    assert refused.value.code == "parent_incompatible"


def few_trees(model_type: str) -> dict[str, Any]:
    return {"random_forest": {"n_estimators": 30}, "xgboost": {"rounds": 80}}.get(model_type, {})


def test_the_edge_stands_where_the_tests_think() -> None:
    assert np.corrcoef(np.nan_to_num(planted_block(800, 1).inputs[:, EDGE]), planted_block(800, 1).labels)[0, 1] > 0.4
