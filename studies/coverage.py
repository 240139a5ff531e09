"""How often the intervals of a report cover the truth, with overlapping labels and clustered volatility.

A model that is not fitted but given judges rows that it has not shaped, through the same functions as in a run; the
truth is what it shows on very many other rows of the same market. Volatility comes in clusters of minutes to hours.
The wave of many hours is left out, except in one study that promises nothing: under it the edge itself is another one
in each stretch of time, and no method can tell from a stretch what all of time would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import dataset_from_rows, idle_draws_from_rows
from model_service.learning.evaluation import Evaluation, Judged, evaluate
from model_service.learning.scorecard import scorecard
from model_service.models.calibration import Calibration, sigmoid
from model_service.models.decision_rule import Acting
from model_service.models.features import FEATURE_NAMES
from model_service.models.intervals import block_ratio
from model_service.models.samples import Rows
from studies.edges import IMBALANCE
from studies.findings import Finding, share_between
from studies.market import Process
from studies.study import Result, Study
from studies.world import History, World, play

REPETITIONS = 2_000
ROWS = (200, 400, 4_000)
"""What the gate asks for at least, and the test blocks of 2,000 and of 20,000 outcomes."""
NUMBERS = (
    "accuracy", "brier", "log_loss", "roc_auc", "win_rate", "average_return", "value_per_trade", "value_per_decision",
)  # fmt: skip
TEN_BLOCKS = "average_return_by_ten_blocks"
"""What ten contiguous blocks, as METHOD names them, would say of the average return: the reason for the other way."""
DEFLATED = "deflated_sharpe_ratio"
LOWER_BOUND, TWO_SIDED = (0.91, 0.99), (0.86, 0.94)
"""Allowed coverage of bounds stated at 95 % and of intervals stated at 90 %."""
TRUTH_ROWS, TRUTH_HISTORIES, TRUTH_SEED = 100_000, 6, 876_543_210
_SLOPE = 1.5
_WEEK_US = 7 * 86_400_000_000
_IMBALANCE = FEATURE_NAMES.index("book_imbalance")
_AS_SCORED = Calibration("sigmoid", 0.5, 0.004, -0.004, 1_000, slope=1.0)

CLUSTERED = Process(clustered=True, wave=0.0)
EDGE = replace(IMBALANCE, clustered=True, wave=0.0)
WORLDS = {
    "free": World(Process(clustered=True), costs=False),
    "costs": World(CLUSTERED),
    "edge": World(EDGE),
    "edge-six-assets": World(EDGE, assets=6),
    "free-pause": World(Process(clustered=True), costs=False),
    "edge-wave": World(replace(EDGE, wave=0.4)),
}
PAUSES = {"free-pause": 3}
"""Weeks that pass after nine tenths of the rows, which otherwise are those of that world."""
_NOTHING_PROMISED = "edge-wave"


@dataclass(frozen=True)
class Covered:
    """How often the truth of a number lay above its lower bound, and inside its interval, of `count` times."""

    above: int
    inside: int
    count: int


def studies() -> list[Study]:
    """One study for each market and number of rows."""
    return [
        Study(f"coverage-{name}-{rows}", REPETITIONS, partial(_run, name, rows), partial(_conclude, name, rows), 0.05)
        for name in WORLDS
        for rows in ROWS
    ]


def _run(world: str, rows: int, seed: int) -> Result:
    """Of each number its value and the two ends; none where the rows say too little."""
    evaluation = judged(WORLDS[world], rows, seed, PAUSES.get(world, 0))
    metrics = scorecard(evaluation, candidates_tried=1)[0]
    by_blocks = block_ratio(evaluation.test.net_returns * evaluation.taken, evaluation.taken)
    return {
        **{one.name: [one.value, one.lower, one.upper] for one in metrics if one.name in (*NUMBERS, DEFLATED)},
        TEN_BLOCKS: [by_blocks.value, by_blocks.lower(0.95), by_blocks.upper(0.95)],
    }


def judged(world: World, rows: int, seed: int, pause_weeks: int = 0) -> Evaluation:
    """The given model on so many rows of a market, the last tenth of them so many weeks later."""
    strategy = world.strategy
    history = play(world, rows, np.random.default_rng(seed))
    traded, others = _interrupted(history, rows, pause_weeks)
    test, unusable = dataset_from_rows(traded)
    assert not any(unusable.values()), "a simulated row was dropped"
    idle = idle_draws_from_rows(others).between(int(test.decided_us[0]), int(test.decided_us[-1]))
    given = Judged(
        served=_scores,
        native=_scores,
        calibration=_AS_SCORED,
        majority_class=0,
        acting=Acting.of(strategy),
        exploration_rate=strategy.exploration_rate,
        horizon_us=strategy.horizon_seconds * 1_000_000,
    )
    return evaluate(given, test, idle)


def _interrupted(history: History, count: int, weeks: int) -> tuple[Rows, Rows]:
    """The first `count` rows and all draws without a trade, with a pause, and no row whose path goes on behind it."""
    rows, idle = history.rows[:count], history.idle
    if not weeks:
        return rows, idle
    start = int(rows["decided_us"][count * 9 // 10])
    rows = rows[(rows["decided_us"] >= start) | (rows["exit_us"] < start)].copy()
    idle = idle.copy()
    rows["exit_us"] += np.where(rows["decided_us"] >= start, weeks * _WEEK_US, 0)
    for part in (rows, idle):
        part["decided_us"] += np.where(part["decided_us"] >= start, weeks * _WEEK_US, 0)
    return rows, idle


def _scores(features: NDArray[np.float32], side_signs: NDArray[np.int8]) -> NDArray[np.float64]:
    return sigmoid(_SLOPE * features[:, _IMBALANCE].astype(np.float64) * side_signs)


@lru_cache(maxsize=1)
def truth(world: str) -> dict[str, float]:
    """Each number on so many rows that its own error no longer matters."""
    found = [_run(world, TRUTH_ROWS, seed) for seed in range(TRUTH_SEED, TRUTH_SEED + TRUTH_HISTORIES)]
    return {name: float(np.mean([one[name][0] for one in found])) for name in (*NUMBERS, TEN_BLOCKS)}


def _conclude(world: str, rows: int, results: Sequence[Result]) -> list[Finding]:
    true = truth(world)
    covered = {name: _covered([result[name] for result in results if name in result], true[name]) for name in true}
    study = f"coverage-{world}-{rows}"
    promised = world != _NOTHING_PROMISED
    found = [
        _of_all(study, "lower bounds at 95 %", {name: one.above for name, one in covered.items()}, covered,
                LOWER_BOUND if promised else None),
        _of_all(study, "two-sided intervals at 90 %", {name: one.inside for name, one in covered.items()}, covered,
                TWO_SIDED if promised else None),
        share_between(study, "two-sided intervals of the average return by ten blocks that cover",
                      covered[TEN_BLOCKS].inside, covered[TEN_BLOCKS].count, None, "for comparison"),
    ]  # fmt: skip
    return found + _deflated(study, results) if world == "free" else found


def _deflated(study: str, results: Sequence[Result]) -> list[Finding]:
    """How often a model that earns nothing seems to have a Sharpe ratio that is no chance."""
    ratios = [result[DEFLATED][0] for result in results if DEFLATED in result]
    over = sum(ratio > 0.95 for ratio in ratios)
    return [share_between(study, "deflated Sharpe ratios over 0.95 where there is no edge", over, len(ratios), None)]


def _covered(estimates: Sequence[Sequence[float | None]], true: float) -> Covered:
    ends = [(lower, upper) for _, lower, upper in estimates if lower is not None and upper is not None]
    return Covered(
        above=sum(lower <= true for lower, _ in ends),
        inside=sum(lower <= true <= upper for lower, upper in ends),
        count=len(ends),
    )


def _of_all(
    study: str, what: str, hits: dict[str, int], covered: dict[str, Covered], allowed: tuple[float, float] | None
) -> Finding:
    """The number that is farthest from the middle of what is allowed speaks for all of them."""
    low, high = allowed or TWO_SIDED
    shares = {name: hits[name] / covered[name].count for name in NUMBERS}
    worst = max(NUMBERS, key=lambda name: abs(shares[name] - (low + high) / 2))
    note = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    return share_between(study, f"{what} that cover: {worst}", hits[worst], covered[worst].count, allowed, note)
