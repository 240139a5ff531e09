"""A market with an edge, long after the first promotion: what becomes of the version that speaks?

The strategy goes on as the warm-up policy, so that every history is the same whatever was promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from studies.candidates import Made, quality, successive
from studies.edges import ASSETS, PROCESSES, fresh
from studies.findings import Finding, figure
from studies.study import Result, Study
from studies.world import World, play

SEEDS = 20
CANDIDATES = 12
EDGE = "imbalance"
_REFUSED_RUNS = 3
_COMPARED = "value per decision against the incumbent"


def studies() -> list[Study]:
    """One study; it promises nothing beyond the other ones."""
    return [Study("replacement", SEEDS, partial(_run, EDGE), _conclude, weight=6.0)]


def _run(edge: str, seed: int) -> Result:
    world = World(PROCESSES[edge], ASSETS)
    strategy = world.strategy
    most = strategy.minimum_dataset_size + (CANDIDATES + _REFUSED_RUNS) * strategy.retrain_after_outcomes
    history = play(world, most, np.random.default_rng(seed))
    speaking: list[float] = []
    later = replaced = refused = 0
    for made in successive(history, strategy, CANDIDATES):
        if speaking:
            later += 1
            replaced += made.candidate.gate_passed
            refused += any(condition.startswith(_COMPARED) for condition in made.failed)
        if made.candidate.gate_passed:
            speaking.append(_share_of_oracle(made, edge, strategy.action_threshold))
    return {"speaking": speaking, "later": later, "replaced": replaced, "refused_by_comparison": refused}


def _share_of_oracle(made: Made, edge: str, action_threshold: float) -> float:
    judged = quality(made.model, fresh(edge, ASSETS), action_threshold)
    return judged.earned / judged.oracle


def _conclude(results: Sequence[Result]) -> list[Finding]:
    spoke = [result for result in results if result["speaking"]]
    later = [result for result in spoke if result["later"]]
    first = [result["speaking"][0] for result in spoke]
    gained = [result["speaking"][-1] - result["speaking"][0] for result in spoke]
    note = f"{len(spoke)} of {len(results)} markets promoted within {CANDIDATES} candidates"
    return [
        figure("replacement", "share of the oracle's net return, first version", first, note),
        figure("replacement", "the same, what the last version added", gained),
        figure(
            "replacement",
            "later candidates that replaced the version that spoke",
            [result["replaced"] / result["later"] for result in later],
        ),
        figure(
            "replacement",
            "later candidates that condition 5 refused",
            [result["refused_by_comparison"] / result["later"] for result in later],
        ),
    ]
