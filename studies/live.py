"""Does live quality keep its promises? A model in a stable market keeps the word; one whose edge goes, loses it soon.

A model that is not fitted but given (it knows what the book is worth) trades as the service would: it decides at every
tick, only on sides that reach its floor, and its outcomes overlap as they do in the service. What its test promised is
measured on a stretch of its own trades right before, as long as a test block is, so that the promise is as unsure as in
life. Then every outcome is looked at as it becomes available, by the service's own detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from model_service.models.decision_rule import action_rate
from model_service.models.degradation import Reading, Reference, WinRateCusum, cusum_of, readings
from model_service.models.intervals import Estimate, TimeBlocks
from model_service.models.live_window import LiveWindow
from model_service.models.metrics import log_losses
from studies.bayes import Outlook, outlook
from studies.decisions import both_labels, rules_of
from studies.edges import IMBALANCE
from studies.findings import Finding, figure
from studies.market import TICK_SECONDS, Market, simulate
from studies.study import Result, Study
from studies.world import FIRST_TICK, WARM_UP_MINUTES, World, scene_of

SEEDS = 200
STABLE_OUTCOMES = 5_000
FALSE_PER_5000, DETECTED_WITHIN = 1.0, 100
WINDOW = 200
_DAY_US = 86_400_000_000
_TEST_MINUTES = 1_440
"""Of trades before the first live one: what the test knows."""
_BEFORE_TURN, _AFTER_TURN = 800, 600
_NOTHING = Estimate(np.nan, np.nan)


@dataclass(frozen=True)
class Setting:
    """A model in a market.

    Attributes:
        strength: of the edge; fraction of noise.
        floor: the probability from which the model acts.
        assets: over how many its signals, one a minute, are spread: with one, a dozen outcomes overlap, with six three.
    """

    strength: float
    floor: float
    assets: int

    def world(self, turns_after_minutes: float = np.inf, turns_to: float = 0.0) -> World:
        """Its market, whose edge may fade (0) or turn (-1) after so many minutes."""
        process = replace(
            IMBALANCE, strength=self.strength, clustered=True, wave=0.0, turns_after_minutes=turns_after_minutes,
            turns_to=turns_to,
        )  # fmt: skip
        return World(process, self.assets)


SETTINGS = {
    "weak-six-assets": Setting(0.226, 0.6, 6),
    "six-assets": Setting(0.4, 0.6, 6),
    "strong-six-assets": Setting(0.8, 0.6, 6),
    "one-asset": Setting(0.4, 0.6, 1),
    "strong-one-asset": Setting(0.8, 0.6, 1),
}
TURNS = {"fades": 0.0, "turns": -1.0}
NOT_PROMISED = "live-fades-one-asset"
"""There 100 outcomes are seven horizons: no rule can learn so much from so little and still be wrong so seldom."""


@dataclass(frozen=True)
class Trades:
    """What a model traded, in the order in which its outcomes became available; arrays (n,)."""

    entered_us: NDArray[np.int64]
    assets: NDArray[np.int64]
    labels: NDArray[np.int8]
    logged: NDArray[np.int8]
    probability: NDArray[np.float64]

    def take(self, rows: slice) -> Trades:
        """Some of them."""
        return Trades(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def trades(world: World, floor: float, minutes: int, rng: np.random.Generator) -> Trades:
    """The given model at work for so many minutes; `logged` are labels of random sides at the same moments."""
    strategy = world.strategy
    rules = rules_of(strategy)
    found = []
    for asset, market in enumerate(simulate(world.process, WARM_UP_MINUTES + minutes, world.assets, rng)):
        scene = scene_of(market, rng)
        ticks = np.flatnonzero(rng.random(len(scene.moments.at)) < action_rate(strategy, TICK_SECONDS))
        word = _word(market, ticks + FIRST_TICK, world)
        sides = np.where(word.win_buy >= word.win_sell, 1, -1).astype(np.int8)
        probability = word.win(sides)
        own, other = both_labels(scene, ticks, sides, rules)
        kept = own.known & (probability >= floor)
        wins = np.stack((own.net_returns, other.net_returns)) > 0
        random_side = wins[rng.integers(0, 2, len(ticks)), np.arange(len(ticks))]
        at = scene.moments.at * 1_000_000
        found.append((at[ticks], np.full(len(ticks), asset), wins[0], random_side, probability, kept))
    *columns, kept = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(columns[0], kind="stable")
    order = order[kept[order]]
    entered, assets, won, logged, probability = (column[order] for column in columns)
    return Trades(entered, assets, won.astype(np.int8), logged.astype(np.int8), probability)


def _word(market: Market, ticks: NDArray[np.intp], world: World) -> Outlook:
    """What the model believes: that the book means for ever what it meant before the market turned."""
    as_before = replace(world.process, turns_after_minutes=np.inf)
    pressure = np.arctanh(np.clip(market.shown_imbalance, -1 + 1e-9, 1 - 1e-9)) / 0.7
    believed = replace(market, process=as_before, pressure=pressure, regime=np.ones(len(pressure)))
    return outlook(believed, ticks, rules_of(world.strategy))


def tested(before: Trades, horizon_us: int) -> Reference:
    """What a test on these trades promises."""
    blocks = TimeBlocks(before.entered_us, horizon_us)
    loss = blocks.ratio(log_losses(before.labels, before.probability))
    return Reference(float(np.mean(before.labels)), float(np.mean(before.logged)), loss.value, loss.upper(0.95))


def first_fired(live: Trades, reference: Reference, horizon_us: int, start: int = 0) -> tuple[int, str] | None:
    """After how many outcomes behind `start` which detector fires; None when none does.

    One that fires before `start` is passed over: the cumulative sum begins anew there, as after a fallback.
    """
    cusum = cusum_of(reference, horizon_us)
    for index in range(len(live.labels)):
        if cusum is not None:
            cusum.add(str(live.assets[index]), int(live.entered_us[index]), won=bool(live.labels[index]))
        fired = [one.detector for one in _readings(live, index + 1, reference, cusum, horizon_us) if one.fired]
        if fired and index >= start:
            return index + 1 - start, fired[0]
        if fired:
            cusum = cusum_of(reference, horizon_us)
    return None


def _readings(
    live: Trades, end: int, reference: Reference, cusum: WinRateCusum | None, horizon_us: int
) -> Sequence[Reading]:
    first = min(max(0, end - WINDOW), int(np.searchsorted(live.entered_us, live.entered_us[end - 1] - _DAY_US)))
    rows = slice(first, end)
    accuracy = log_loss = _NOTHING
    full = end - first >= WINDOW
    if full and reference.win_rate is not None and reference.log_loss_upper is not None:
        labels, probability = live.labels[rows], live.probability[rows]
        # A bound costs a hundred times as much as a mean, and one whose mean is on the right side cannot fire.
        suspect = float(np.mean(labels)) < reference.win_rate
        suspect |= float(np.mean(log_losses(labels, probability))) > reference.log_loss_upper
        if suspect:
            window = LiveWindow(live.entered_us[rows], labels, probability, np.zeros(end - first), horizon_us)
            accuracy, log_loss = window.accuracy, window.log_loss
    return readings(reference, cusum, accuracy, log_loss, full=full)


def studies() -> list[Study]:
    """For each setting one study of a stable market, and one for each way in which the edge goes."""
    stable = [
        Study(f"live-stable-{name}", SEEDS, partial(run_stable, one), partial(_conclude_stable, name), 4.0)
        for name, one in SETTINGS.items()
    ]
    turned = [
        Study(
            f"live-{how}-{name}", SEEDS, partial(run_turned, one, to), partial(_conclude_turned, f"live-{how}-{name}")
        )
        for name, one in SETTINGS.items()
        for how, to in TURNS.items()
    ]
    return stable + turned


def run_stable(setting: Setting, seed: int) -> Result:
    """After how many outcomes which detector fires although nothing has changed."""
    world = setting.world()
    horizon_us = world.strategy.horizon_seconds * 1_000_000
    share = 0.4
    minutes = _TEST_MINUTES + int(STABLE_OUTCOMES / share)
    all_trades = trades(world, setting.floor, minutes, np.random.default_rng(seed))
    border = int(np.searchsorted(all_trades.entered_us, all_trades.entered_us[0] + _TEST_MINUTES * 60_000_000))
    reference = tested(all_trades.take(slice(0, border)), horizon_us)
    live = all_trades.take(slice(border, border + STABLE_OUTCOMES))
    fired = first_fired(live, reference, horizon_us)
    return {"outcomes": fired[0] if fired else len(live.labels), "detector": fired[1] if fired else None}


def run_turned(setting: Setting, to: float, seed: int) -> Result:
    """How many outcomes pass after the turn until the fallback."""
    before = _TEST_MINUTES + _BEFORE_TURN
    world = setting.world(WARM_UP_MINUTES + before, to)
    horizon_us = world.strategy.horizon_seconds * 1_000_000
    found = trades(world, setting.floor, before + 3 * _AFTER_TURN, np.random.default_rng(seed))
    start_us = (int(found.entered_us[0]) // 60_000_000) * 60_000_000
    border = int(np.searchsorted(found.entered_us, start_us + _TEST_MINUTES * 60_000_000))
    # What became available after the turn counts from there, also what was opened before it.
    turn = int(np.searchsorted(found.entered_us, start_us + before * 60_000_000 - horizon_us)) - border
    reference = tested(found.take(slice(0, border)), horizon_us)
    fired = first_fired(found.take(slice(border, None)), reference, horizon_us, turn)
    return {"delay": fired[0] if fired else None, "detector": fired[1] if fired else None}


def _conclude_stable(name: str, results: Sequence[Result]) -> list[Finding]:
    study = f"live-stable-{name}"
    alarms, outcomes = sum(one["detector"] is not None for one in results), sum(one["outcomes"] for one in results)
    lower, upper = _rate_interval(alarms, outcomes / 5_000)
    rate = 5_000 * alarms / outcomes
    by = {
        one: sum(result["detector"] == one for result in results) for one in {r["detector"] for r in results} - {None}
    }
    note = f"{alarms} in {outcomes:,} outcomes: {by}"
    passed = rate <= FALSE_PER_5000
    return [
        Finding(study, "false fallbacks per 5,000 outcomes", "<= 1", rate, lower, upper, len(results), passed, note)
    ]


def _conclude_turned(study: str, results: Sequence[Result]) -> list[Finding]:
    delays = sorted(one["delay"] if one["delay"] is not None else np.inf for one in results)
    n = len(delays)
    half = 1.96 * np.sqrt(n) / 2.0
    low, high = (delays[min(n - 1, max(0, int(place)))] for place in (n / 2 - half, n / 2 + half))
    median = float(np.median(delays))
    note = f"a tenth within {delays[n // 10]:g}, nine tenths within {delays[min(n - 1, 9 * n // 10)]:g}"
    promised = study != NOT_PROMISED
    passed = median <= DETECTED_WITHIN if promised else None
    missed = [float(one == np.inf) for one in delays]
    return [
        Finding(
            study,
            "outcomes until the fallback, median",
            "<= 100" if promised else "",
            median,
            low,
            high,
            n,
            passed,
            note,
        ),
        figure(study, "share not found within the outcomes looked at", missed),
    ]


def _rate_interval(count: int, exposure: float) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a Poisson rate [Garwood 1936]."""
    lower = float(chi2.ppf(0.025, 2 * count)) / 2.0 if count else 0.0
    return lower / exposure, float(chi2.ppf(0.975, 2 * count + 2)) / 2.0 / exposure
