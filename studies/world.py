"""A strategy with the service's default settings in a simulated market: one seed, one history of outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_service.config.loading import load_settings
from model_service.config.strategies import StrategyDefinition, strategies_from
from model_service.config.training import TrainingParameters
from model_service.models.samples import Rows, in_time_order
from studies.bayes import Outlook, outlook
from studies.decisions import Record, Scene, act, rules_of
from studies.features import Moments, strategy_context
from studies.market import TICK_SECONDS, TICKS_PER_BAR, Market, Process, simulate

Floats = NDArray[np.float64]
FEE_RATE = 0.00055
WARM_UP_MINUTES = 120
NONE_SAMPLE_RATE = 0.1
SPARE, SPARE_DEVIATIONS = 1.04, 5.0
"""Signals come by chance, and some never fill: so much more is simulated, and so many standard deviations."""


@dataclass(frozen=True)
class World:
    """What a study repeats with many seeds.

    Attributes:
        assets: how many the strategy trades; its signals are spread over them.
        costs: whether fees (5.5 bp a side) and the spread of the process are paid.
    """

    process: Process
    assets: int = 1
    costs: bool = True

    @property
    def strategy(self) -> StrategyDefinition:
        """The default settings, with the accuracy threshold at 0.5 and without what only a report needs."""
        return study_strategy(
            TRADING_ASSETS=",".join(f"ASSET{index}" for index in range(self.assets)),
            TRADING_FEE_RATE=str(FEE_RATE if self.costs else 0.0),
            MODEL_QUALITY_THRESHOLD_ACCURACY="0.5",
        )


@dataclass(frozen=True)
class History:
    """The outcomes of one strategy in time order, and what the best possible model would have said.

    Attributes:
        rows, idle: as in `Record`.
        outlook: the best word on each of `rows`; None where nobody knows it, as on a real market.
    """

    rows: Rows
    idle: Rows
    outlook: Outlook | None

    def idle_since(self, first_us: int) -> Rows:
        """The draws without a trade from this moment on."""
        return self.idle[np.searchsorted(self.idle["decided_us"], first_us) :]


def study_strategy(**changes: str) -> StrategyDefinition:
    """The strategy that the service's default settings make, with these environment variables changed."""
    settings, _ = load_settings(changes)
    strategy = strategies_from(settings)[0]
    # The report on walk-forward folds decides nothing, and would take most of a study's time.
    quiet = TrainingParameters(**{**strategy.training.model_dump(), "walk_forward_folds": 0})
    return strategy.model_copy(update={"training": quiet})


def play(world: World, outcomes: int, rng: np.random.Generator) -> History:
    """At least `outcomes` labelled signals of the warm-up policy."""
    strategy, process = world.strategy, world.process
    if not world.costs:
        process = replace(process, spread=0.0)
    horizon_minutes = strategy.horizon_seconds / 60
    signals = outcomes * SPARE + SPARE_DEVIATIONS * math.sqrt(outcomes)
    minutes = WARM_UP_MINUTES + math.ceil(signals / strategy.signals_per_minute + 3 * horizon_minutes)
    markets = simulate(process, minutes, world.assets, rng)
    rate = NONE_SAMPLE_RATE / world.assets
    records = [(market, act(scene_of(market, rng), strategy, rng, none_sample_rate=rate)) for market in markets]
    history = _joined(records, strategy)
    if len(history.rows) < outcomes:
        raise RuntimeError(f"{len(history.rows)} outcomes came of {minutes} minutes, {outcomes} were asked for")
    return history


def scene_of(market: Market, rng: np.random.Generator) -> Scene:
    """The market after its warm-up as a strategy meets it; the trade imbalance means nothing."""
    moments = Moments(
        at=market.seconds,
        price=market.mids,
        spreads=market.spreads,
        book_imbalance=market.shown_imbalance,
        trade_imbalance=np.tanh(rng.standard_normal(len(market.mids))),
    )
    moments = moments.take(np.arange(FIRST_TICK, len(market.mids)))
    return Scene(moments, market.bars, TICK_SECONDS, strategy_context(moments.at, rng))


FIRST_TICK = WARM_UP_MINUTES * TICKS_PER_BAR


def _joined(records: list[tuple[Market, Record]], strategy: StrategyDefinition) -> History:
    """All assets' rows in the order in which a training run sees them."""
    rules = rules_of(strategy)
    words = [outlook(market, record.ticks + FIRST_TICK, rules) for market, record in records]
    for code, (_, record) in enumerate(records):
        record.rows["asset_code"] = code + 1
    rows = np.concatenate([record.rows for _, record in records])
    tagged = in_time_order(_with_position(rows))
    order = tagged["position"]
    return History(
        rows=rows[order],
        idle=np.sort(np.concatenate([record.idle for _, record in records]), order="decided_us", kind="stable"),
        outlook=Outlook(*(np.concatenate([getattr(word, name) for word in words])[order] for name in _WORDS)),
    )


_WORDS = ("win_buy", "win_sell", "earn_buy", "earn_sell")


def _with_position(rows: Rows) -> Rows:
    tagged = np.zeros(len(rows), dtype=[("signal_id", "(16,)u1"), ("decided_us", "i8"), ("position", "i8")])
    tagged["signal_id"], tagged["decided_us"] = rows["signal_id"], rows["decided_us"]
    tagged["position"] = np.arange(len(rows))
    return tagged
