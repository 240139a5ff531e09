"""Versions change while the service decides: no tick is lost, and each decision is of one version from start to end."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from model_service.contracts.market import BookEvent, TickerEvent
from model_service.models.artifact import LoadedModel
from model_service.models.features import FEATURE_NAMES, decode_features
from model_service.models.inputs import ModelInputs
from model_service.policies.model import ModelPolicy
from tests.integration import test_modes
from tests.integration.test_modes import House
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeStore, generator, market

artifact, house = test_modes.artifact, test_modes.house
"""Its fixtures."""

TICK = timedelta(milliseconds=10)
SWAPS = 30


async def two_versions(house: House) -> dict[str, ModelPolicy]:
    """Two that never say the same, each with its policy for comparison."""
    first = await house.add()
    second = await house.add(inputs=ModelInputs(FEATURE_NAMES[:8], (), FEATURE_NAMES[:8]))
    policies = {}
    for version in (first, second):
        row = await house.registry.get(version)
        assert row is not None
        policies[version] = ModelPolicy(house.files.load(version, row.files), version)
    return policies


async def test_ticks_during_swaps_are_all_accounted_for(house: House) -> None:
    policies = await two_versions(house)
    first, second = policies
    one = strategy(signals_per_minute=60.0)
    house.strategies = [one]
    house.restart()
    await house.modes.restore(NOON)
    await house.activate(first)
    store, state = FakeStore(), market()
    modes: Any = house.modes
    source = generator(
        store,
        one,
        modes=modes,
        rate=6000.0,
        tick_seconds=TICK.total_seconds(),
        markets={"BTCUSDT": state},
    )
    swapping = asyncio.create_task(_swap(house, first, second))
    ticks = 0
    while not swapping.done() or ticks < 100:
        now = NOON + ticks * TICK
        _trade(state, now)
        await modes.settle(now)
        await source.step(now)
        ticks += 1
        await asyncio.sleep(0)
    await swapping
    assert source.ticks == ticks
    assert len(store.signals) + len(store.silent) == ticks
    decided: list[Any] = [*store.signals, *store.nones]
    spoke = Counter(_version_of(decision) for decision in decided)
    assert spoke.keys() == {first, second}, "both have decided, and nobody else"
    for decision in decided:
        features = decode_features(decision.features)
        proposal = policies[_version_of(decision)].propose(one, state.snapshot(NOON), features, TICK.total_seconds())
        for side, probability in _drawn(decision).items():
            assert probability in (0.0, pytest.approx(proposal.probabilities.of(side), abs=1e-12))


async def test_a_version_is_loaded_beside_the_event_loop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    version = await house.add()
    load, threads = house.files.load, []

    def watched(name: str, sha256: Mapping[str, str]) -> LoadedModel:
        threads.append(threading.get_ident())
        return load(name, sha256)

    monkeypatch.setattr(house.files, "load", watched)
    await house.activate(version)
    house.restart()
    await house.modes.restore(NOON)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def _swap(house: House, first: str, second: str) -> None:
    for number in range(SWAPS):
        await house.activate((second, first)[number % 2])


def _trade(state: Any, now: datetime) -> None:
    price = 50_000.0 + (now.microsecond // 10_000) % 7
    state.apply(TickerEvent(asset="BTCUSDT", at=now, last_price=price))
    state.apply(BookEvent("BTCUSDT", now, price - 1.0, 2.0, price + 1.0, 1.0, is_snapshot=True))


def _version_of(decision: Any) -> str:
    version = decision.signal.model_version if hasattr(decision, "signal") else decision.model_version
    assert version is not None, "the warm-up has not spoken in between"
    return str(version)


def _drawn(decision: Any) -> Mapping[Any, float]:
    from model_service.contracts.types import Side

    return {side: decision.probabilities.of(side) for side in Side}
