"""What the best possible model would reach on given rows: the Bayes accuracy, by simulation of the known process.

For a row the hidden pressure z at its decision is known to the simulator. From there the true process is run many
times and each path is labelled by the rule of the service (METHOD 3: first barrier on the path of one-minute candles,
or the close of the first candle that ends at or after entry + horizon, less half the spread, after both fees). The
share of paths with label 1 is p = P(y = 1 | z). Nothing that was observable at the decision knows more: z is the
whole state of the process.

The log price is linear in z, so all rows share one set of noise paths: log P_k = a_k z + N_k.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.demo.market import Process

Floats = NDArray[np.float64]
BAR_SECONDS = 60
ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Opening:
    """One labelled opening of the simulated market.

    Attributes:
        pressure: z at the decision.
        side: +1 buy, -1 sell.
        decided_second: the decision in seconds since 1970; a step of the market.
        entry_second: the first fill in seconds since 1970.
        entry_ratio: entry price over the mid at the decision.
        label: what came of it, 0 or 1.
    """

    pressure: float
    side: int
    decided_second: float
    entry_second: float
    entry_ratio: float
    label: int


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The strategy's rule, as far as the label depends on it; barriers in percent of the entry price."""

    horizon_seconds: float
    take_profit_percent: float | None
    stop_loss_percent: float | None
    fee_rate: float
    minimum_net_return: float = 0.0


@dataclass(frozen=True, slots=True)
class BayesReference:
    """What the best guess reaches.

    Attributes:
        accuracy: share of the rows where it was right.
        expected: mean of max(p, 1 - p), which has no luck of the labels in it.
    """

    accuracy: float
    expected: float
    rows: int


def bayes_reference(
    openings: Sequence[Opening], rule: LabelRule, process: Process, *, seed: int = 0, paths: int = 2000
) -> BayesReference:
    """The Bayes accuracy on `openings`. Raises ValueError when there are none."""
    if not openings:
        raise ValueError("the Bayes reference needs at least one row")
    probability = label_probabilities(openings, rule, process, seed=seed, paths=paths)
    labels = np.array([opening.label for opening in openings])
    return BayesReference(
        accuracy=float(np.mean((probability > 0.5) == (labels == 1))),
        expected=float(np.mean(np.maximum(probability, 1 - probability))),
        rows=len(openings),
    )


def label_probabilities(
    openings: Sequence[Opening], rule: LabelRule, process: Process, *, seed: int = 0, paths: int = 2000
) -> Floats:
    """P(y = 1) of each opening, shape (n,); its standard error is under 0.5 / sqrt(paths)."""
    groups: dict[_Grid, list[int]] = defaultdict(list)
    for row, opening in enumerate(openings):
        groups[_Grid.of(opening, rule, process)].append(row)
    steps = max(grid.bars * grid.steps_per_bar for grid in groups)
    slope, noise = _paths(process, steps, paths, np.random.default_rng([seed, 0xBA]))
    result = np.empty(len(openings))
    for grid, rows in groups.items():
        for first in range(0, len(rows), ROWS_AT_ONCE):
            chunk = rows[first : first + ROWS_AT_ONCE]
            result[chunk] = _chunk([openings[row] for row in chunk], grid, rule, process, slope, noise)
    return result


@dataclass(frozen=True, slots=True)
class _Grid:
    """How an opening lies on the candles: its step within the first, and how many there are up to its horizon mark."""

    phase: int
    bars: int
    steps_per_bar: int

    @classmethod
    def of(cls, opening: Opening, rule: LabelRule, process: Process) -> _Grid:
        minute = opening.decided_second - opening.decided_second % BAR_SECONDS
        bars = math.ceil((opening.entry_second + rule.horizon_seconds - minute) / BAR_SECONDS)
        phase = int((opening.decided_second - minute) // process.step_seconds)
        return cls(phase, bars, BAR_SECONDS // process.step_seconds)

    def closes(self) -> list[int]:
        """Steps after the decision at which the candles' last prices stand."""
        return [(bar + 1) * self.steps_per_bar - 1 - self.phase for bar in range(self.bars)]


def _paths(process: Process, steps: int, paths: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """a_k and N_k for k = 0..steps: log(P_k / P_0) = a_k z + N_k; shapes (steps + 1,) and (paths, steps + 1)."""
    shocks, noises = rng.standard_normal((2, steps, paths))
    slope, noise = np.zeros(steps + 1), np.zeros((steps + 1, paths))
    share, own = 1.0, np.zeros(paths)
    for step in range(steps):
        slope[step + 1] = slope[step] + process.step_drift * share
        noise[step + 1] = noise[step] + process.step_drift * own + process.step_noise * noises[step]
        share *= process.step_phi
        own = process.step_phi * own + process.step_innovation * shocks[step]
    return slope, np.ascontiguousarray(noise.T)


def _chunk(
    openings: Sequence[Opening], grid: _Grid, rule: LabelRule, process: Process, slope: Floats, noise: Floats
) -> Floats:
    closes = grid.closes()
    pressure = np.array([opening.pressure for opening in openings])[:, None, None]
    side = np.array([opening.side for opening in openings], dtype=float)[:, None, None]
    entry_ratio = np.array([opening.entry_ratio for opening in openings])[:, None, None]
    last = closes[-1] + 1
    ratio = np.exp(pressure * slope[:last] + noise[None, :, :last]) / entry_ratio
    gain = side * (ratio - 1)
    mark = ratio[:, :, -1] * (1 - side[:, :, 0] * process.spread / 2)
    won = side[:, :, 0] * (mark - 1) - rule.fee_rate * (1 + mark) > rule.minimum_net_return
    decided = _barriers(gain, grid, rule)
    return np.asarray(np.where(decided == 0, won, decided > 0).mean(axis=1), dtype=np.float64)


def _barriers(gain: Floats, grid: _Grid, rule: LabelRule) -> NDArray[np.int8]:
    """Shape (rows, paths): +1 where a target that pays came first, -1 where the stop did (or both at once), else 0."""
    decided = np.zeros(gain.shape[:2], dtype=np.int8)
    take = math.inf if rule.take_profit_percent is None else rule.take_profit_percent / 100
    stop = math.inf if rule.stop_loss_percent is None else rule.stop_loss_percent / 100
    pays = np.int8(1 if take - 2 * rule.fee_rate > rule.minimum_net_return else -1)
    closes = grid.closes()
    for bar, close in enumerate(closes[:-1]):
        # The candle that holds the entry counts by its close alone: its high and low may be older than the entry.
        first = close if bar == 0 else closes[bar - 1] + 1
        reach = gain[:, :, first : close + 1]
        undecided = decided == 0
        decided[undecided & (reach.min(axis=2) <= -stop)] = -1
        decided[(decided == 0) & (reach.max(axis=2) >= take)] = pays
    return decided
