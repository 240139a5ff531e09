"""A few seeds of the studies that `make study` runs by the hundred, and how it counts and keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies.candidates import make_candidate, successive
from studies.edges import MOMENTUM, TASKS, _run, studies
from studies.false_promotions import _conclude
from studies.findings import mean_at_most, share_at_least, share_interval
from studies.market import Process
from studies.results import ResultFile
from studies.world import World, play


def test_without_structure_none_of_eight_candidates_passes() -> None:
    world = World(Process(clustered=True), assets=6, costs=False)
    history = play(world, 11_000, np.random.default_rng(21))
    made = list(successive(history, world.strategy, 8))
    assert [one.candidate.gate_passed for one in made] == [False] * 8
    assert [one.candidate.training_config["candidates_tried"] for one in made] == list(range(1, 9))


def test_a_momentum_edge_passes_and_is_learned() -> None:
    task = next(task for task in TASKS if task.name == "momentum-2000")
    results = [_run(task, seed) for seed in (31, 32, 33)]
    assert sum(result["passed"] for result in results) >= 2, [result["failed"] for result in results]
    assert np.mean([result["bayes"] - result["accuracy"] for result in results]) < 0.06


def test_a_candidate_after_a_promotion_is_held_against_it() -> None:
    world = World(MOMENTUM, assets=6)
    history = play(world, 4_100, np.random.default_rng(31))
    made = list(successive(history, world.strategy, 3))
    first = next(index for index, one in enumerate(made) if one.candidate.gate_passed)
    waived = [one.candidate.gate[_index(one, "incumbent")].detail == "no model speaks yet" for one in made]
    assert waived == [index <= first for index in range(3)]
    assert made[first + 1].candidate.training_config["candidates_tried"] == 1


def _index(made: object, word: str) -> int:
    from studies.candidates import Made

    assert isinstance(made, Made)
    return next(index for index, condition in enumerate(made.candidate.gate) if word in condition.condition)


def test_too_few_outcomes_make_no_candidate() -> None:
    world = World(Process())
    assert make_candidate(play(world, 600, np.random.default_rng(1)), world.strategy, 600) is None


def test_the_exact_interval_of_a_share() -> None:
    # The two closed forms: 1 - (alpha / 2) ** (1 / n) for none, and its mirror for all.
    assert share_interval(0, 200) == pytest.approx((0.0, 1 - 0.025 ** (1 / 200)))
    assert share_interval(200, 200) == pytest.approx((0.025 ** (1 / 200), 1.0))
    # Tabulated: 10 of 100.
    assert share_interval(10, 100) == pytest.approx((0.0490, 0.1762), abs=1e-4)


def test_promises_fail_where_they_should() -> None:
    markets = [{"assets": 1, "promoted_at": 5000}] * 11 + [{"assets": 6, "promoted_at": None}] * 189
    assert _conclude("x", markets)[0].passed is False
    assert _conclude("x", [*markets[1:], {"assets": 6, "promoted_at": None}])[0].passed is True
    assert share_at_least("x", "y", 33, 40, 0.85).passed is False
    assert mean_at_most("x", "y", [0.07, 0.06], 0.06).passed is False
    assert mean_at_most("x", "y", [float("nan"), 0.01], 0.06).passed is False


def test_every_edge_that_must_pass_has_a_study() -> None:
    assert {task.name for task in TASKS if task.power} == {"momentum-2000", "imbalance-5000", "regime-20000"}
    assert all(study.repetitions >= 40 for study in studies())


def test_an_interrupted_study_goes_on_with_what_the_same_code_found(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ResultFile(path, "new").add("a", 1, {"passed": True})
    ResultFile(path, "old").add("a", 2, {"passed": True})
    with path.open("a") as file:
        file.write(json.dumps({"study": "a", "seed": 3, "code": "new"})[:20])
    assert ResultFile(path, "new").known() == {("a", 1): {"passed": True}}
