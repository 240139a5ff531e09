"""Fifty strategies on twenty assets, decided once a second on one core, with a training run on the other."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from benchmarks.decision_workload import (
    OnePolicy,
    acting_strategy,
    asset_names,
    generator,
    refresh,
    trained_model,
    warm_market,
)
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.learning.run import train_candidate
from model_service.market.state import AssetMarket
from model_service.policies.model import ModelPolicy
from model_service.services.signal_generation import SignalGenerator
from tests.support.training_rows import imbalance_rows, training_job

STRATEGIES = 50
ASSETS = 20
TICK_SECONDS = 1.0
SIGNALS_PER_MINUTE = 1.0
"""Of each strategy, as the default is."""
TRAINING_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Load:
    """The strategies with their markets, decided by a model and recorded in PostgreSQL."""

    markets: Mapping[str, AssetMarket]
    source: SignalGenerator

    async def tick(self, now: datetime) -> None:
        """News of every asset, then all decisions and their record."""
        for market in self.markets.values():
            refresh(market, now)
        await self.source.step(now)


def make_load(database: Database, now: datetime) -> Load:
    """All of it, as of `now`."""
    model, _ = trained_model()
    names = asset_names(ASSETS)
    markets = {name: warm_market(name, now) for name in names}
    strategies = [acting_strategy(f"load_{number:02d}", names, SIGNALS_PER_MINUTE) for number in range(STRATEGIES)]
    modes, store = OnePolicy(ModelPolicy(model, "v1"), "model"), PostgresDecisionStore(database)
    return Load(markets, generator(strategies, markets, modes, store, tick_seconds=TICK_SECONDS))


@contextmanager
def training_beside() -> Iterator[None]:
    """This process on the first core, an endless training at the lowest priority on the last."""
    cores = sorted(os.sched_getaffinity(0))
    child = multiprocessing.get_context("spawn").Process(target=_train_for_ever, args=(cores[-1],), daemon=True)
    child.start()
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        child.kill()
        child.join()


def resident_megabytes() -> float:
    """Memory of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _train_for_ever(core: int) -> None:
    os.sched_setaffinity(0, {core})
    os.nice(19)
    rows = imbalance_rows(TRAINING_ROWS, seed=3)
    while True:
        train_candidate(training_job(), rows, {}, {}, lambda *_: None)
