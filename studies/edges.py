"""Markets in which there is something to learn: does the gate let it through, and is it learned well?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

import numpy as np

from studies.bayes import bayes_accuracy
from studies.candidates import make_candidate, quality
from studies.findings import Finding, figure, mean_at_least, mean_at_most, share_at_least
from studies.market import Process
from studies.study import Result, Study
from studies.world import History, World, play

SEEDS = 60
ASSETS = 6
FRESH_OUTCOMES = 50_000
FRESH_SEED = 987_654_321
LEAST_POWER = 0.85
LARGEST_GAP = {2_000: 0.06, 20_000: 0.03}
LEAST_ORACLE_SHARE = 0.80
LARGEST_ECE = 0.05

MOMENTUM = Process("momentum", volatility=0.0005, strength=1.09)
IMBALANCE = Process("imbalance", strength=0.226)
REGIME = Process("regime", strength=0.207)
PROCESSES = {"momentum": MOMENTUM, "imbalance": IMBALANCE, "regime": REGIME}
"""Strengths that give the Bayes accuracies of 0.75, 0.675 and 0.67 after costs; the studies measure and state them."""


@dataclass(frozen=True)
class Task:
    """One candidate of an edge at so many outcomes.

    Attributes:
        power: whether it must pass the gate in most seeds.
        accurate: whether its accuracy must come near the best possible one.
    """

    edge: str
    outcomes: int
    power: bool = False
    accurate: bool = True
    assets: int = ASSETS

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        alone = "-one-asset" if self.assets == 1 else ""
        return f"{self.edge}-{self.outcomes}{alone}"

    @property
    def world(self) -> World:
        """Its market, with costs."""
        return World(PROCESSES[self.edge], self.assets)


TASKS = (
    Task("momentum", 2_000, power=True),
    Task("momentum", 20_000),
    Task("imbalance", 2_000),
    Task("imbalance", 5_000, power=True),
    Task("imbalance", 20_000),
    Task("regime", 2_000),
    Task("regime", 20_000, power=True),
    Task("momentum", 2_000, assets=1, accurate=False),
)


def studies() -> list[Study]:
    """One study for each edge and number of outcomes."""
    return [
        Study(task.name, SEEDS, partial(_run, task), partial(_conclude, task), weight=1.0 + task.outcomes / 10_000)
        for task in TASKS
    ]


def _run(task: Task, seed: int) -> Result:
    strategy = task.world.strategy
    history = play(task.world, task.outcomes, np.random.default_rng(seed))
    made = make_candidate(history, strategy, task.outcomes)
    if made is None:
        return {"passed": False, "failed": ["refused"]}
    return {
        "passed": made.candidate.gate_passed,
        "failed": made.failed,
        "test_accuracy": made.metric("accuracy"),
        "rounds": made.candidate.training_config.get("rounds"),
        **asdict(quality(made.model, fresh(task.edge, task.assets), strategy.action_threshold)),
    }


@lru_cache(maxsize=1)
def fresh(edge: str, assets: int) -> History:
    """Outcomes of a market of this kind that no candidate has seen; the same for all seeds."""
    return play(World(PROCESSES[edge], assets), FRESH_OUTCOMES, np.random.default_rng(FRESH_SEED))


def _conclude(task: Task, results: Sequence[Result]) -> list[Finding]:
    made = [result for result in results if "bayes" in result]
    found = [_power(task, results)]
    if not made or not task.accurate:
        return found
    note = f"Bayes {np.mean([result['bayes'] for result in made]):.3f}"
    gaps = [result["bayes"] - result["accuracy"] for result in made]
    if task.outcomes in LARGEST_GAP:
        promise = "accuracy below Bayes on fresh outcomes"
        found.append(mean_at_most(task.name, promise, gaps, LARGEST_GAP[task.outcomes], note))
    if task.outcomes == 20_000:
        shares = [result["earned"] / result["oracle"] for result in made]
        oracle = f"oracle {1e4 * np.mean([result['oracle'] for result in made]):.2f} bp per decision"
        found.append(mean_at_least(task.name, "share of the oracle's net return", shares, LEAST_ORACLE_SHARE, oracle))
        ece = [result["ece"] for result in made]
        found.append(mean_at_most(task.name, "ece on fresh outcomes", ece, LARGEST_ECE, f"worst {max(ece):.3f}"))
    return found


def _power(task: Task, results: Sequence[Result]) -> Finding:
    passed = [bool(result["passed"]) for result in results]
    failed = Counter(condition for result in results for condition in result["failed"])
    why = "; ".join(f"{count} failed {condition}" for condition, count in failed.most_common(3))
    if task.power:
        return share_at_least(task.name, "candidates that pass", sum(passed), len(passed), LEAST_POWER, why)
    return figure(task.name, "candidates that pass", [float(one) for one in passed], why)


def measured_bayes(edge: str) -> float:
    """The Bayes accuracy of an edge, after costs, on the fresh outcomes."""
    history = fresh(edge, ASSETS)
    assert history.outlook is not None, "the market is simulated"
    return bayes_accuracy(history.outlook.win(history.rows["side"].astype(np.int8)))
