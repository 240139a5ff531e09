"""What a strategy's settings ask for reaches the fit, and what was used reaches the record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_service.learning.fitting import fit_request
from model_service.learning.run import train_candidate
from tests.support.families import planted_block
from tests.support.training_rows import imbalance_rows, training_job, training_strategy


def test_a_job_becomes_a_request() -> None:
    training = {
        "hyperparameters": {"eta": 0.2}, "monotone_constraints": {"rsi_14": -1}, "early_stopping_rounds": 11,
    }  # fmt: skip
    job = training_job(strategy=training_strategy(training=training), seed=5, threads=3, device="cuda")
    told: list[tuple[Any, ...]] = []
    train, stopping = planted_block(30, 1), planted_block(20, 2)
    request = fit_request(job, train, stopping, {}, lambda *line: told.append(line))
    assert (request.model_type, request.seed, request.threads, request.device) == ("xgboost", 5, 3, "cuda")
    assert (request.hyperparameters, request.monotone_constraints) == ({"eta": 0.2}, {"rsi_14": -1})
    assert (request.early_stopping_rounds, request.parent) == (11, None)
    assert (request.train, request.early_stopping) == (train, stopping)
    request.on_round(30, 60)
    assert [line[2] for line in told] == ["xgboost on 30 rows", "round 30 of at most 60"]
    assert told[0][1] < told[1][1] < 0.85


@pytest.mark.parametrize("model_type", ["xgboost", "sgd_classifier"])
def test_what_was_used_is_recorded(model_type: str) -> None:
    choices: dict[str, dict[str, Any]] = {"xgboost": {"rounds": 25, "max_depth": 2}, "sgd_classifier": {"alpha": 0.1}}
    own = choices[model_type]
    training = {
        "hyperparameters": own, "class_weight": 2.5, "early_stopping_rounds": 9, "walk_forward_folds": 0,
        "monotone_constraints": {"book_imbalance": 1} if model_type == "xgboost" else {},
    }  # fmt: skip
    job = training_job(strategy=training_strategy(model_type=model_type, training=training))
    candidate, files = train_candidate(job, imbalance_rows(2000, 3, assets=3), {}, {}, lambda *_: None)
    config = candidate.training_config
    assert own.items() <= config["hyperparameters"].items()
    assert config["weight_of_wins"] == 2.5
    assert config["strategy"]["training"]["class_weight"] == 2.5
    assert own.items() <= json.loads(files["manifest.json"])["hyperparameters"].items()
    if model_type == "xgboost":
        assert (config["monotone_constraints"], config["early_stopping_rounds"]) == ({"book_imbalance": 1}, 9)
        assert (config["device"], config["rounds"] <= 25) == ("cpu", True)
