"""A model that stops being good loses the word; one that is merely unlucky keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from model_service.services.ports import LiveOutcome, ModelVersion
from model_service.services.quality import QualityLimits, QualityWatch, is_degraded, live_quality
from tests.support.builders import NOON, strategy

VERSION = ModelVersion(UUID(int=5), "v3", "momentum_v1", "f1", {}, True, True, NOON, 0, accuracy_at_threshold=0.85)


def outcomes(share_of_wins: float, count: int, seed: int = 1) -> list[LiveOutcome]:
    wins = np.random.default_rng(seed).random(count) < share_of_wins
    return [
        LiveOutcome(NOON + timedelta(seconds=index), int(win), 0.002 if win else -0.002, 0.8)
        for index, win in enumerate(wins)
    ]


class DatabaseAway(Exception):
    """The database cannot be reached."""


@dataclass
class FakeWorld:
    """Store, modes and training as the watch sees them."""

    live: Sequence[LiveOutcome] = ()
    active_version: ModelVersion | None = VERSION
    stored: list[tuple[Mapping[str, float], int]] = field(default_factory=list)
    fallbacks: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    outage: bool = False

    def active(self, strategy_id: str) -> ModelVersion | None:
        return self.active_version

    async def live_outcomes(self, strategy_id: str, version: str, limit: int) -> Sequence[LiveOutcome]:
        return self.live[-limit:]

    async def store_metrics(
        self, version_id: UUID, values: Mapping[str, float], n: int, now: datetime, metadata: Mapping[str, Any]
    ) -> None:
        self.stored.append((values, n))

    async def fall_back_to_warmup(
        self, strategy_id: str, version: str, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> bool:
        if self.outage:
            self.outage = False
            raise DatabaseAway
        self.fallbacks.append((reason, evidence))
        self.active_version = None
        return True

    async def is_asked_for(self, strategy_id: str, trigger: str) -> bool:
        return trigger in self.asked

    async def request(self, strategy_id: str, training_type: str, trigger: str, reason: str, now: datetime) -> None:
        self.asked.append(trigger)


def watch(world: FakeWorld) -> QualityWatch:
    fakes: Any = world
    return QualityWatch([strategy()], fakes, fakes, fakes, QualityLimits())


async def test_a_fallen_model_hands_back_and_asks_for_training() -> None:
    world = FakeWorld(live=outcomes(0.45, 200))
    watcher = watch(world)
    await watcher.step(NOON)
    assert world.fallbacks[0][0] == "quality_degraded"
    assert world.fallbacks[0][1]["floor"] == pytest.approx(0.80)
    assert world.asked == ["quality"]
    await watcher.step(NOON + timedelta(minutes=1))
    assert len(world.fallbacks) == 1


async def test_an_outage_between_asking_for_training_and_handing_back_loses_neither() -> None:
    world = FakeWorld(live=outcomes(0.45, 200), outage=True)
    watcher = watch(world)
    with pytest.raises(DatabaseAway):
        await watcher.step(NOON)
    await watcher.step(NOON + timedelta(minutes=1))
    assert world.asked == ["quality"]
    assert len(world.fallbacks) == 1


async def test_a_good_model_keeps_the_word_and_its_metrics_are_stored() -> None:
    world = FakeWorld(live=outcomes(0.84, 200))
    await watch(world).step(NOON)
    assert world.fallbacks == []
    values, n = world.stored[0]
    assert n == 200
    assert values["accuracy_lower"] < values["accuracy"] < values["accuracy_upper"]


async def test_the_same_window_is_stored_once() -> None:
    world = FakeWorld(live=outcomes(0.84, 200))
    watcher = watch(world)
    for minute in range(5):
        await watcher.step(NOON + timedelta(minutes=minute))
    assert len(world.stored) == 1


def test_few_outcomes_say_nothing() -> None:
    assert not is_degraded(live_quality(outcomes(0.2, 49)), VERSION, QualityLimits())
    assert is_degraded(live_quality(outcomes(0.2, 60)), VERSION, QualityLimits())


def test_a_stable_model_is_almost_never_taken_for_a_fallen_one() -> None:
    fallen = [is_degraded(live_quality(outcomes(0.85, 200, seed)), VERSION, QualityLimits()) for seed in range(200)]
    assert sum(fallen) <= 1


def test_live_quality_by_hand() -> None:
    quality = live_quality([LiveOutcome(NOON, 1, 0.01, 0.7), LiveOutcome(NOON, 0, -0.02, 0.6)])
    assert quality.accuracy == 0.5
    assert quality.average_return == pytest.approx(-0.005)
    assert quality.brier == pytest.approx((0.3**2 + 0.6**2) / 2)
    assert "accuracy_upper" not in quality.metrics, "an interval of two outcomes is unknown, not a number"
