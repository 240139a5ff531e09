"""A model that stops being good loses the word; one that is merely unlucky keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from model_service.models.job import Metric
from model_service.services.live_state import LiveState
from model_service.services.ports import Activation, LiveOutcome, ModelVersion
from model_service.services.quality import QualityLimits, QualityWatch
from model_service.services.roster import StrategyRoster
from tests.support.builders import NOON, strategy

VERSION = ModelVersion(UUID(int=5), "v3", "momentum_v1", "f1", {}, True, True, NOON, 0, accuracy_at_threshold=0.85)
BEFORE = ModelVersion(UUID(int=4), "v2", "momentum_v1", "f1", {}, True, False, NOON, 0, accuracy_at_threshold=0.8)
TEST: Mapping[str, tuple[float, float | None]] = {
    "accuracy_at_threshold": (0.85, 0.9), "logged_win_rate": (0.45, 0.5), "log_loss_at_threshold": (0.42, 0.52),
}  # fmt: skip


def outcomes(share_of_wins: float, count: int, seed: int = 1, *, first: int = 0) -> list[LiveOutcome]:
    """One a minute, over three assets."""
    wins = np.random.default_rng(seed).random(count) < share_of_wins
    found = []
    for index, win in enumerate(wins, first):
        entered = NOON + timedelta(minutes=index)
        return_ = 0.002 if win else -0.002
        found.append(
            LiveOutcome(
                UUID(int=1000 + index),
                1,
                f"A{index % 3}",
                entered,
                entered + timedelta(minutes=5),
                int(win),
                return_,
                0.8,
            )
        )
    return found


class DatabaseAway(Exception):
    """The database cannot be reached."""


@dataclass
class FakeWorld:
    """Store, modes, training, fallback and alerts as the watch sees them."""

    live: Sequence[LiveOutcome] = ()
    active_version: ModelVersion | None = VERSION
    why: str = "gate_passed"
    to: ModelVersion | None = None
    stored: list[tuple[Sequence[Metric], int, Mapping[str, Any]]] = field(default_factory=list)
    fallbacks: list[tuple[ModelVersion | None, str, Mapping[str, Any]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    alerted: list[str] = field(default_factory=list)
    outage: bool = False

    def active(self, strategy_id: str) -> ModelVersion | None:
        return self.active_version

    def model(self, strategy_id: str) -> None:
        return None

    async def activation(self, strategy_id: str, version: str) -> Activation:
        return Activation(NOON, self.why)

    async def test_metrics(self, version_id: UUID) -> Mapping[str, tuple[float, float | None]]:
        return TEST

    async def live_outcomes(
        self, strategy_id: str, version: str, since: datetime, after: LiveOutcome | None, limit: int
    ) -> Sequence[LiveOutcome]:
        start = 0 if after is None else list(self.live).index(after) + 1
        return self.live[start : start + limit]

    async def store_metrics(
        self, version_id: UUID, metrics: Sequence[Metric], n: int, now: datetime, window: Mapping[str, Any]
    ) -> None:
        self.stored.append((metrics, n, window))

    async def candidate(
        self, strategy: Any, version: str, onset: datetime | None
    ) -> tuple[ModelVersion | None, dict[str, Any]]:
        return self.to, {"onset": onset}

    async def fall_back(
        self, strategy_id: str, version: str, to: ModelVersion | None, reason: str, evidence: Mapping[str, Any],
        now: datetime,
    ) -> bool:  # fmt: skip
        if self.outage:
            self.outage = False
            raise DatabaseAway
        self.fallbacks.append((to, reason, evidence))
        self.active_version = to
        return True

    async def is_asked_for(self, strategy_id: str, trigger: str) -> bool:
        return trigger in self.asked

    async def request(self, strategy_id: str, training_type: str, trigger: str, reason: str, now: datetime) -> None:
        self.asked.append(trigger)

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        self.alerted.append(event)


def watch(world: FakeWorld) -> QualityWatch:
    fakes: Any = world
    return QualityWatch(StrategyRoster.of([strategy()]), fakes, fakes, fakes, fakes, QualityLimits(), fakes)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


async def test_a_fallen_model_hands_back_asks_for_training_and_says_by_what() -> None:
    world = FakeWorld(live=outcomes(0.45, 200))
    watcher = watch(world)
    await watcher.step(at(205))
    to, reason, evidence = world.fallbacks[0]
    assert (to, reason) == (None, "quality_degraded")
    cusum = next(one for one in evidence["detectors"] if one["detector"] == "win_rate_cusum")
    assert cusum["value"] > cusum["threshold"]
    assert "win_rate_cusum" in evidence["fired"]
    assert evidence["previous"]["onset"] is not None
    assert (world.asked, world.alerted) == (["quality"], ["quality_degraded"])
    await watcher.step(at(206))
    assert len(world.fallbacks) == 1


async def test_an_outage_between_asking_for_training_and_handing_back_loses_neither() -> None:
    world = FakeWorld(live=outcomes(0.45, 200), outage=True)
    watcher = watch(world)
    with pytest.raises(DatabaseAway):
        await watcher.step(at(205))
    await watcher.step(at(206))
    assert world.asked == ["quality"]
    assert len(world.fallbacks) == 1


async def test_the_outcome_that_decides_is_seen_with_the_next_look() -> None:
    """Fed one by one: the fallback comes with the very outcome that lifts the sum over its threshold."""
    every = outcomes(0.3, 100)
    world = FakeWorld()
    watcher = watch(world)
    for index, one in enumerate(every):
        world.live = every[: index + 1]
        await watcher.step(one.available_at + timedelta(seconds=1))
        if world.fallbacks:
            break
    fed = LiveState("momentum_v1", "v3", NOON, watcher.latest["momentum_v1"].reference, 300, 0.5, 200)
    fired = []
    for one in every:
        fed.add(one)
        fired.append(bool(fed.quality(one.available_at).fired))
    assert world.fallbacks
    assert index == fired.index(True)


async def test_a_restart_comes_to_the_same_sum() -> None:
    world = FakeWorld(live=outcomes(0.8, 150))
    steady, late = watch(world), watch(world)
    every, world.live = world.live, []
    for index in range(0, 150, 7):
        world.live = every[: index + 7]
        await steady.step(at(index))
    world.live = every
    await steady.step(at(200))
    await late.step(at(200))
    assert steady.latest["momentum_v1"].detectors == late.latest["momentum_v1"].detectors
    assert steady.latest["momentum_v1"].metrics == late.latest["momentum_v1"].metrics


async def test_a_good_model_keeps_the_word_and_its_metrics_are_stored() -> None:
    world = FakeWorld(live=outcomes(0.84, 250))
    await watch(world).step(at(260))
    assert world.fallbacks == []
    metrics, n, window = world.stored[0]
    assert n == 250, "the window is the larger of 200 outcomes and a day"
    accuracy = next(metric for metric in metrics if metric.name == "accuracy")
    assert accuracy.lower is not None
    assert accuracy.upper is not None
    assert accuracy.lower < accuracy.value < accuracy.upper
    assert window["window"] == 200


async def test_the_window_keeps_two_hundred_outcomes_however_old_they_are() -> None:
    world = FakeWorld(live=outcomes(0.84, 250))
    await watch(world).step(NOON + timedelta(days=9))
    assert world.stored[0][1] == 200


async def test_the_same_window_is_stored_once() -> None:
    world = FakeWorld(live=outcomes(0.84, 200))
    watcher = watch(world)
    for minute in range(5):
        await watcher.step(at(300 + minute))
    assert len(world.stored) == 1


async def test_news_are_stored_at_most_every_half_minute_and_never_forgotten() -> None:
    every = outcomes(0.84, 200)
    world = FakeWorld(live=every[:150])
    watcher = watch(world)
    start = at(300)
    for second in range(0, 29, 2):
        world.live = every[: 150 + second]
        await watcher.step(start + timedelta(seconds=second))
    assert [n for _, n, _ in world.stored] == [150]
    await watcher.step(start + timedelta(seconds=31))
    assert [n for _, n, _ in world.stored] == [150, 178], "also without any further news"


async def test_a_version_that_came_by_a_fallback_does_not_hand_on_at_once() -> None:
    every = outcomes(0.05, 60)
    world = FakeWorld(live=every[:49], why="quality_degraded", active_version=BEFORE)
    watcher = watch(world)
    await watcher.step(at(60))
    assert watcher.latest["momentum_v1"].fired
    assert world.fallbacks == []
    world.live = every[:50]
    await watcher.step(at(61))
    assert len(world.fallbacks) == 1


async def test_the_version_that_it_is_handed_to_begins_anew() -> None:
    world = FakeWorld(live=outcomes(0.2, 60), to=BEFORE)
    watcher = watch(world)
    await watcher.step(at(100))
    assert world.fallbacks[0][0] is BEFORE
    world.live = []
    await watcher.step(at(101))
    assert watcher.latest["momentum_v1"].version == "v2"
    assert watcher.latest["momentum_v1"].outcomes == 0


async def test_what_exploration_drew_is_not_the_models_word() -> None:
    explored = [replace(one, confidence=0.2) for one in outcomes(0.1, 200)]
    world = FakeWorld(live=explored)
    watcher = watch(world)
    await watcher.step(at(300))
    assert world.fallbacks == []
    assert watcher.latest["momentum_v1"].n == 0


async def test_a_correction_changes_the_window_and_adds_no_outcome() -> None:
    every = outcomes(0.84, 50)
    world = FakeWorld(live=every)
    watcher = watch(world)
    await watcher.step(at(60))
    before = watcher.latest["momentum_v1"]
    world.live = [*every, replace(every[3], revision=2, label=1 - every[3].label, available_at=at(61))]
    await watcher.step(at(62))
    after = watcher.latest["momentum_v1"]
    assert after.n == before.n == 50
    assert after.detectors[2] == before.detectors[2]
    assert after.metrics[0].value != before.metrics[0].value
