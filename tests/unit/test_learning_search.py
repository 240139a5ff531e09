"""The search sees the training block and nothing else, says what it tried, and is the same from the same seed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from model_service.config.hyperparameters import HYPERPARAMETERS, hyperparameter_fault
from model_service.learning import search as searching
from model_service.learning.estimators import Block, FitRequest
from model_service.learning.machine import require_machine
from model_service.learning.refusal import RunBroken
from model_service.learning.run import prepare, train_candidate
from model_service.learning.search import TrainingRows, search, weighted_log_loss
from model_service.models.job import Candidate
from tests.support.families import FAMILIES, planted_block
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

FEW = {"xgboost": {"rounds": 30}, "random_forest": {"n_estimators": 20}}


def searched(
    rows: NDArray[np.void],
    *,
    model_type: str = "xgboost",
    trials: int = 4,
    seed: int = 7,
    told: Any = None,
    **given: Any,
) -> Candidate:
    training = {
        "search_trials": trials, "walk_forward_folds": 0, "hyperparameters": {**FEW.get(model_type, {}), **given},
    }  # fmt: skip
    job = training_job(strategy=training_strategy(model_type=model_type, training=training), seed=seed)
    return train_candidate(job, rows, {}, {}, told or (lambda *_: None))[0]


@cache
def planted() -> NDArray[np.void]:
    return imbalance_rows(2000, 3, assets=3)


@cache
def plain(model_type: str = "xgboost") -> Candidate:
    return searched(planted(), model_type=model_type)


def poisoned() -> NDArray[np.void]:
    """The same training block; every row after it has other features, labels and returns."""
    rows, rng = planted().copy(), np.random.default_rng(0)
    later = slice(int(prepare(training_job(), rows, {}).plan.split.train[-1]) + 1, None)
    count = len(rows[later])
    rows["features"][later] = rng.normal(5.0, 3.0, (count, rows["features"].shape[1]))
    rows["label"][later] = rng.integers(0, 2, count)
    rows["net_return"][later] = np.where(rows["label"][later] == 1, 0.9, -0.9)
    return rows


@pytest.mark.parametrize("model_type", FAMILIES)
def test_no_later_row_changes_what_is_found(model_type: str) -> None:
    assert (
        searched(poisoned(), model_type=model_type).training_config["search"]
        == plain(model_type).training_config["search"]
    )


def test_a_row_of_the_training_block_does_change_it() -> None:
    rows = planted().copy()
    rows["label"][100:400] = 1 - rows["label"][100:400]
    assert searched(rows).training_config["search"] != plain().training_config["search"]


def test_the_same_seed_tries_the_same() -> None:
    assert searched(planted()).training_config["search"] == plain().training_config["search"]
    assert searched(planted(), seed=8).training_config["search"] != plain().training_config["search"]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_best_of_all_that_was_tried_is_used(model_type: str) -> None:
    config = plain(model_type).training_config
    trials = config["search"]["trials"]
    assert len(trials) == 4
    losses = [trial["log_loss"] for trial in trials]
    assert config["search"]["best_trial"] == 1 + int(np.argmin(losses))
    best = trials[config["search"]["best_trial"] - 1]["hyperparameters"]
    assert {name: config["hyperparameters"][name] for name in best} == best
    for trial in trials:
        assert hyperparameter_fault(model_type, trial["hyperparameters"]) is None


def test_the_first_trial_is_what_would_be_used_without() -> None:
    first = plain().training_config["search"]["trials"][0]["hyperparameters"]
    assert first == {name: HYPERPARAMETERS["xgboost"][name].default for name in first}


def test_what_the_strategy_sets_is_not_searched() -> None:
    config = searched(planted(), trials=3, max_depth=5, eta=0.1).training_config
    for trial in config["search"]["trials"]:
        assert not {"max_depth", "eta"} & set(trial["hyperparameters"])
    assert (config["hyperparameters"]["max_depth"], config["hyperparameters"]["eta"]) == (5, 0.1)


def test_where_all_is_set_nothing_is_tried() -> None:
    config = searched(planted(), model_type="logistic_regression", C=0.5).training_config
    assert config["search"] == {"trials": [], "skipped": "the strategy sets all that would be searched"}
    assert config["hyperparameters"]["C"] == 0.5


def test_progress_names_the_trial() -> None:
    seen: list[tuple[str, float, str]] = []
    searched(planted(), told=lambda phase, fraction, note, report=None: seen.append((phase, fraction, note)))
    assert [note for phase, _, note in seen if phase == "fitting" and note.startswith("trial")] == [
        f"trial {number} of 4" for number in range(1, 5)
    ]
    fractions = [fraction for _, fraction, _ in seen]
    assert fractions == sorted(fractions)


def test_a_training_block_that_is_too_small_keeps_the_defaults_and_says_so() -> None:
    request, rows = by_hand(120)
    found = search(request, rows, 10_000_000, 5, lambda done, most, note: None)
    assert found.hyperparameters == {}
    assert "rows of the training block after purging" in found.report["skipped"]
    one_class = replace(rows, block=replace(rows.block, labels=np.zeros(120, dtype=np.int8)))
    assert "needed" in search(request, one_class, 1, 5, lambda done, most, note: None).report["skipped"]


def by_hand(count: int, **hyperparameters: Any) -> tuple[FitRequest, TrainingRows]:
    """Planted rows, one a second, each judged five seconds later."""
    block = planted_block(count, 1)
    decided = np.arange(count, dtype=np.int64) * 1_000_000
    request = FitRequest("xgboost", block, None, 7, 1, lambda done, most: None, hyperparameters=hyperparameters)
    return request, TrainingRows(block, decided, decided + 5_000_000)


def test_its_own_split_is_purged_and_in_time_order() -> None:
    _, rows = by_hand(1000)
    marked = replace(rows, block=replace(rows.block, inputs=np.tile(np.arange(1000, dtype=np.float32)[:, None], 41)))
    parts = searching._parts(marked, 10_000_000)
    fitting, stopping, validation = (parts[name].inputs[:, 0] for name in ("fitting", "early_stopping", "validation"))
    # Labels reach 5 rows on: the last 5 before a border go, and the 10 of one horizon after it.
    assert (fitting[0], fitting[-1]) == (0, 694)
    assert (stopping[0], stopping[-1]) == (710, 794)
    assert (validation[0], validation[-1]) == (810, 999)


def test_many_rows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SEARCH_ROWS", 500)
    _, rows = by_hand(5000)
    parts = searching._parts(rows, 1_000_000)
    assert sum(len(block.labels) for block in parts.values()) == pytest.approx(500, abs=6)
    assert len(parts["fitting"].labels) == pytest.approx(350, abs=3)


def test_it_finds_what_the_defaults_miss() -> None:
    """Ten rounds at the default learning rate learn next to nothing."""
    request, rows = by_hand(2000, rounds=10)
    found = search(request, rows, 1_000_000, 12, lambda done, most, note: None)
    losses = [trial["log_loss"] for trial in found.report["trials"]]
    assert min(losses) < losses[0] - 0.05
    assert float(found.hyperparameters["eta"]) > 0.1


def test_the_loss_is_the_weighted_log_loss() -> None:
    rng = np.random.default_rng(2)
    scores, labels = rng.random(300), rng.integers(0, 2, 300).astype(np.int8)
    block = Block(np.zeros((300, 1), dtype=np.float32), labels, rng.random(300).astype(np.float32))
    assert weighted_log_loss(scores, block) == pytest.approx(log_loss(labels, scores, sample_weight=block.weights))
    assert np.isfinite(weighted_log_loss(np.zeros(300), block))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_largest_ensemble_that_may_be_set_leaves_room_for_any_depth_tried(model_type: str) -> None:
    given = {"xgboost": {"rounds": 4000}, "random_forest": {"n_estimators": 2000}}.get(model_type, {})
    request = replace(by_hand(10)[0], model_type=model_type, hyperparameters=given)
    space = searching._space(request)
    for end in ("low", "high"):
        values = {name: getattr(limits, end) for name, limits in space.items()}
        chosen = {name: int(value) if space[name].whole else float(value) for name, value in values.items()}
        assert hyperparameter_fault(model_type, {**given, **chosen}) is None


def test_an_increment_does_not_search_and_keeps_what_its_parent_found() -> None:
    rows = imbalance_rows(3500, 3, assets=3)
    training = {"search_trials": 4, "walk_forward_folds": 0, "hyperparameters": {"rounds": 30}}
    strategy = training_strategy(training=training)
    parent, files = train_candidate(training_job(strategy=strategy), rows[:2000], {}, {}, lambda *_: None)
    job = training_job(
        strategy=strategy, training_type="incremental", parent_directory="/parent", parent_version="v1",
        parent_trained_until_us=parent.trained_until_us, parent_files=parent.files,
    )  # fmt: skip
    child, _ = train_candidate(job, rows, {}, files, lambda *_: None)
    assert "search" not in child.training_config
    assert child.training_config["hyperparameters"] == parent.training_config["hyperparameters"]
    assert child.training_config["hyperparameters"]["eta"] != 0.05, "the search found another than the default"


def test_without_optuna_the_run_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "missing_for_search", lambda: 'install: pip install "model-service[tune]".')
    for attempt in (
        lambda: searched(planted()),
        lambda: require_machine(training_job(strategy=training_strategy(training={"search_trials": 1}))),
    ):
        with pytest.raises(RunBroken) as broken:
            attempt()
        assert broken.value.code == "search_unavailable"
        assert 'pip install "model-service[tune]"' in broken.value.hint
    require_machine(training_job())
    increment = training_job(training_type="incremental", strategy=training_strategy(training={"search_trials": 1}))
    require_machine(increment)


def test_a_run_without_a_search_does_not_load_optuna() -> None:
    code = (
        "import sys; from tests.support.training_rows import *; "
        "from model_service.learning.run import train_candidate; "
        "from model_service.learning.machine import require_machine; require_machine(training_job()); "
        "train_candidate(training_job(), imbalance_rows(1200, 3, assets=3), {}, {}, lambda *_: None); "
        "print('optuna' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
