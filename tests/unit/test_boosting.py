"""What XGBoost alone can do: stop early, be cut to its best round, be held monotone, continue up to a cap."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from model_service.learning.boosting import BoostedModel, require_device
from model_service.learning.estimators import Block
from model_service.learning.machine import require_machine
from model_service.learning.refusal import Refused, RunBroken
from tests.support.families import EDGE, WIDTH, fitted, planted_block, served_scores
from tests.support.training_rows import training_job, training_strategy


def boosted(train: Block | None = None, **changes: Any) -> BoostedModel:
    model = fitted("xgboost", train, **changes)
    assert isinstance(model, BoostedModel)
    return model


def log_losses(model: BoostedModel, rows: Block) -> list[float]:
    """Of the first k rounds, for every k."""
    losses = []
    for rounds in range(1, model.booster.num_boosted_rounds() + 1):
        scores = model.booster[:rounds].inplace_predict(rows.inputs)
        losses.append(float(-np.mean(np.log(np.where(rows.labels == 1, scores, 1 - scores)))))
    return losses


def test_it_is_cut_to_its_best_round_for_every_way_of_using_it() -> None:
    stopping = planted_block(200, 2)
    model = boosted(early_stopping=stopping, hyperparameters={"eta": 0.3}, early_stopping_rounds=15)
    losses = log_losses(model, stopping)
    assert 5 < len(losses) < 380, "it stopped early"
    assert np.argmin(losses) == len(losses) - 1
    assert model.details()["early_stopping_log_loss"] == pytest.approx(min(losses), abs=1e-6)
    again = xgboost.Booster(model_file=bytearray(model.native()))
    assert again.num_boosted_rounds() == len(losses) == model.details()["rounds"]
    fresh = planted_block(300, 3)
    assert np.array_equal(again.inplace_predict(fresh.inputs), again.predict(xgboost.DMatrix(fresh.inputs)))
    assert served_scores(model, fresh.inputs) == pytest.approx(model.scores(fresh.inputs), abs=1e-6)


def test_patience_is_a_setting() -> None:
    noise = replace(planted_block(800, 1), labels=np.random.default_rng(0).integers(0, 2, 800).astype(np.int8))
    told: dict[int, int] = {}
    for patience in (1, 60):
        boosted(noise, early_stopping_rounds=patience, hyperparameters={"eta": 0.5, "min_child_weight": 1},
                on_round=lambda done, most, patience=patience: told.__setitem__(patience, done))  # fmt: skip
    assert 1 not in told, "it ended before the tenth round"
    assert told[60] >= 60


def test_without_a_block_to_stop_on_all_rounds_are_kept() -> None:
    model = boosted(early_stopping=None, hyperparameters={"rounds": 37})
    assert model.booster.num_boosted_rounds() == 37
    assert model.details()["early_stopping_log_loss"] is None


def along_the_edge(model: BoostedModel) -> NDArray[np.float64]:
    """Changes of the score while the book imbalance rises and all else stands, (rows, steps)."""
    rows = planted_block(40, 11).inputs
    scores = []
    for value in np.linspace(-4, 4, 60, dtype=np.float32):
        rows[:, EDGE] = value
        scores.append(model.scores(rows))
    return np.diff(np.array(scores), axis=0)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_monotone_constraint_holds(direction: int) -> None:
    free = along_the_edge(boosted(hyperparameters={"max_depth": 4, "min_child_weight": 2}))
    assert np.any(free > 1e-6)
    assert np.any(free < -1e-6)
    held = boosted(
        planted_block(800, 1, strength=2.0 * direction),
        early_stopping=planted_block(200, 2, strength=2.0 * direction),
        monotone_constraints={"book_imbalance": direction},
        hyperparameters={"max_depth": 4, "min_child_weight": 2},
    )
    changes = along_the_edge(held) * direction
    assert np.all(changes >= -1e-7)
    assert np.max(changes) > 0.01
    assert held.details()["monotone_constraints"] == {"book_imbalance": direction}


def test_a_constraint_against_the_edge_leaves_nothing_of_it() -> None:
    against = boosted(monotone_constraints={"book_imbalance": -1}, hyperparameters={"rounds": 50})
    assert np.max(np.abs(along_the_edge(against))) == 0.0


def test_a_constraint_on_an_unknown_feature_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        boosted(monotone_constraints={"moon_phase": 1})
    assert refused.value.code == "unknown_feature"
    assert "moon_phase" in refused.value.hint


def test_an_increment_must_be_held_as_its_parent_was() -> None:
    parent = boosted(monotone_constraints={"book_imbalance": 1}, hyperparameters={"rounds": 20}).native()
    boosted(parent=parent, monotone_constraints={"book_imbalance": 1}, hyperparameters={"rounds": 20})
    for other in ({}, {"book_imbalance": -1}, {"book_imbalance": 1, "rsi_14": 1}):
        with pytest.raises(Refused) as refused:
            boosted(parent=parent, monotone_constraints=other, hyperparameters={"rounds": 20})
        assert refused.value.code == "parent_incompatible"


def test_increments_end_at_twice_the_rounds() -> None:
    few = {"rounds": 30}
    parent = boosted(early_stopping=None, hyperparameters=few)
    child = boosted(early_stopping=None, hyperparameters=few, parent=parent.native())
    assert (child.details()["parent_rounds"], child.details()["rounds"]) == (30, 60)
    with pytest.raises(Refused) as refused:
        boosted(early_stopping=None, hyperparameters=few, parent=child.native())
    assert refused.value.code == "increment_round_cap"
    assert "60 rounds, 60 are the most" in refused.value.hint


def test_an_increment_adds_at_most_150_rounds() -> None:
    parent = boosted(early_stopping=None, hyperparameters={"rounds": 1})
    child = boosted(early_stopping=None, hyperparameters={"rounds": 400}, parent=parent.native())
    assert child.details()["rounds"] == 151


def test_the_file_names_neither_device_nor_threads() -> None:
    learner = json.loads(boosted(hyperparameters={"rounds": 5}).native())["learner"]
    assert set(learner) == {
        "attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param", "objective",
    }  # fmt: skip
    assert int(learner["learner_model_param"]["num_feature"]) == WIDTH


def test_a_device_that_this_xgboost_cannot_use_is_named_before_any_fit() -> None:
    require_device("cpu")
    with pytest.raises(RunBroken) as broken:
        require_device("cuda")
    assert broken.value.code == "device_unavailable"
    assert "MODEL_TRAINING_DEVICE is cuda" in broken.value.hint
    assert "install the extra `gpu`" in broken.value.hint


def test_a_machine_without_a_gpu_is_found_by_where_a_probe_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGBoost goes on with the CPU by itself, and only warns."""
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})
    with pytest.raises(RunBroken) as broken, pytest.warns(UserWarning, match="Device is changed from GPU to CPU"):
        require_device("cuda")
    assert broken.value.code == "device_unavailable"
    assert "no GPU can be used here" in broken.value.hint


def test_the_device_reaches_xgboost_and_not_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    train = xgboost.train

    def spy(parameters: dict[str, Any], *arguments: Any, **options: Any) -> xgboost.Booster:
        asked.append(parameters["device"])
        return train({**parameters, "device": "cpu"}, *arguments, **options)

    monkeypatch.setattr(xgboost, "train", spy)
    on_gpu = boosted(device="cuda", hyperparameters={"rounds": 5})
    on_cpu = boosted(hyperparameters={"rounds": 5})
    assert asked == ["cuda", "cpu"]
    assert (on_gpu.native(), on_gpu.details()["device"]) == (on_cpu.native(), "cuda")


@pytest.mark.parametrize("model_type", ["random_forest", "sgd_classifier"])
def test_only_xgboost_needs_the_device(model_type: str) -> None:
    require_machine(training_job(strategy=training_strategy(model_type=model_type), device="cuda"))
    with pytest.raises(RunBroken, match="device_unavailable"):
        require_machine(training_job(device="cuda"))
