"""Markets in which there is nothing to learn: how often does a candidate get through all the same?

A market counts as soon as one of its 20 successive candidates has passed the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from studies.candidates import successive
from studies.findings import Finding, share_at_most
from studies.market import Process
from studies.study import Result, Study
from studies.world import World, play

CANDIDATES = 20
MARKETS = 200
LIMIT = 0.05
ASSETS = (1, 6)
"""Markets take turns: one asset, whose labels overlap fifteenfold, and six with half of their noise in common."""
_REFUSED_RUNS = 3
"""The first runs may be refused, since blocks are too small; candidates come later then."""


def studies() -> list[Study]:
    """One study for each kind of market."""
    kinds = {
        "no-structure-free": (Process(), False),
        "no-structure-costs": (Process(), True),
        "clustered-free": (Process(clustered=True), False),
        "clustered-costs": (Process(clustered=True), True),
    }
    return [
        Study(
            name,
            MARKETS,
            partial(_run, process, costs),
            partial(_conclude, name),
            weight=4.0,
        )
        for name, (process, costs) in kinds.items()
    ]


def _run(process: Process, costs: bool, seed: int) -> Result:
    world = World(process, ASSETS[seed % len(ASSETS)], costs)
    strategy = world.strategy
    most = strategy.minimum_dataset_size + (CANDIDATES + _REFUSED_RUNS) * strategy.retrain_after_outcomes
    history = play(world, most, np.random.default_rng(seed))
    conditions: Counter[str] = Counter()
    made = 0
    for candidate in successive(history, strategy, CANDIDATES):
        made += 1
        conditions.update(candidate.failed)
        if candidate.candidate.gate_passed:
            return _result(world, made, candidate.outcomes, conditions)
    return _result(world, made, None, conditions)


def _result(world: World, made: int, promoted_at: int | None, conditions: Counter[str]) -> Result:
    return {"assets": world.assets, "candidates": made, "promoted_at": promoted_at, "failed": dict(conditions)}


def _conclude(name: str, results: Sequence[Result]) -> list[Finding]:
    promoted = [result for result in results if result["promoted_at"] is not None]
    parts = ", ".join(
        f"{sum(result['assets'] == assets for result in promoted)} of "
        f"{sum(result['assets'] == assets for result in results)} with {assets} asset{'s' if assets > 1 else ''}"
        for assets in ASSETS
    )
    return [
        share_at_most(
            name, f"markets that ever promote in {CANDIDATES} candidates", len(promoted), len(results), LIMIT, parts
        )
    ]
