"""When a run is due, and when it is recorded as skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from model_service.services.ports import ScheduleSlot, SlotTaken, TrainingRun
from model_service.services.roster import StrategyRoster
from model_service.services.training import outcomes_wanted
from model_service.services.triggers import TriggerLimits, Triggers, newest_slot
from tests.support.builders import NOON, strategy


class DatabaseAway(Exception):
    """The database cannot be reached."""


@dataclass
class FakeRuns:
    """The training store and the training service as the triggers see them."""

    samples: int = 0
    last: TrainingRun | None = None
    slots: dict[str, datetime] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    others_are_faster: bool = False
    outage: bool = False

    async def last_run(self, strategy_id: str) -> TrainingRun | None:
        return self.last

    async def sample_count(self, strategy_id: str) -> int:
        return self.samples

    async def last_slot(self, job: str) -> datetime | None:
        return self.slots.get(job)

    def fire(self, slot: ScheduleSlot | None) -> None:
        if self.outage:
            self.outage = False
            raise DatabaseAway
        if slot is not None and (self.others_are_faster or self.slots.get(slot.job) == slot.at):
            raise SlotTaken
        if slot is not None:
            self.slots[slot.job] = slot.at

    async def request(
        self,
        strategy_id: str,
        training_type: str,
        trigger: str,
        reason: str,
        now: datetime,
        slot: ScheduleSlot | None = None,
    ) -> Any:
        self.fire(slot)
        self.asked.append((trigger, "requested"))
        self.last = run(seen=self.samples, at=now)
        return UUID(int=1), "triggered"

    async def skip(
        self, strategy_id: str, trigger: str, reason: str, now: datetime, slot: ScheduleSlot | None = None
    ) -> None:
        self.fire(slot)
        self.asked.append((trigger, "skipped"))


def run(*, seen: int, at: datetime = NOON) -> TrainingRun:
    return TrainingRun(UUID(int=9), "momentum_v1", "full", "outcomes", "rejected", at, seen)


def triggers(runs: FakeRuns, *, schedule: str | None = None, days: float = 7.0) -> Triggers:
    limits = TriggerLimits(schedule, "UTC", days)
    return Triggers(StrategyRoster.of([strategy()]), runs, runs, limits, NOON)  # type: ignore[arg-type]


async def looks(watch: Triggers, moments: Sequence[datetime]) -> None:
    for moment in moments:
        await watch.step(moment)


async def test_the_first_run_waits_for_the_minimum_dataset() -> None:
    runs = FakeRuns(samples=1999)
    watch = triggers(runs)
    await watch.step(NOON)
    assert runs.asked == []
    runs.samples = 2000
    await watch.step(NOON + timedelta(seconds=10))
    assert runs.asked == [("outcomes", "requested")]


async def test_the_next_run_waits_for_enough_new_outcomes() -> None:
    runs = FakeRuns(samples=2999, last=run(seen=2000))
    watch = triggers(runs)
    await watch.step(NOON)
    assert runs.asked == []
    runs.samples = 3000
    await looks(watch, [NOON + timedelta(seconds=10), NOON + timedelta(seconds=20)])
    assert runs.asked == [("outcomes", "requested")], "one run for the same outcomes"


async def test_a_slot_fires_once_and_of_several_missed_ones_only_the_newest() -> None:
    runs = FakeRuns(samples=500, last=run(seen=100))
    watch = triggers(runs, schedule="0 * * * *")
    late = NOON + timedelta(hours=5, minutes=10)
    await looks(watch, [late, late + timedelta(seconds=10), late + timedelta(seconds=20)])
    assert runs.asked == [("schedule", "requested")]
    assert runs.slots == {"train:momentum_v1": NOON + timedelta(hours=5)}


async def test_a_slot_is_not_lost_by_an_outage() -> None:
    runs = FakeRuns(samples=500, last=run(seen=100), outage=True)
    watch = triggers(runs, schedule="0 * * * *")
    late = NOON + timedelta(hours=1, minutes=10)
    with pytest.raises(DatabaseAway):
        await watch.step(late)
    await watch.step(late + timedelta(seconds=10))
    assert runs.asked == [("schedule", "requested")]


async def test_a_slot_that_another_process_has_fired_is_its_matter() -> None:
    runs = FakeRuns(samples=500, last=run(seen=100), others_are_faster=True)
    await triggers(runs, schedule="0 * * * *").step(NOON + timedelta(hours=1))
    assert runs.asked == []


async def test_a_schedule_without_new_outcomes_is_recorded_as_skipped() -> None:
    runs = FakeRuns(samples=100, last=run(seen=100))
    await triggers(runs, schedule="@hourly").step(NOON + timedelta(hours=1))
    assert runs.asked == [("schedule", "skipped")]


async def test_a_week_without_a_run_starts_one_if_outcomes_came() -> None:
    runs = FakeRuns(samples=101, last=run(seen=100, at=NOON - timedelta(days=7)))
    await triggers(runs).step(NOON)
    assert runs.asked == [("schedule", "requested")]


def test_newest_slot_is_none_before_the_first() -> None:
    assert newest_slot("0 2 * * *", "UTC", NOON, NOON + timedelta(hours=13)) is None
    assert newest_slot("0 2 * * *", "UTC", NOON, NOON + timedelta(hours=14)) == datetime(2026, 3, 3, 2, tzinfo=UTC)


def test_outcomes_wanted_never_falls_under_the_minimum_dataset() -> None:
    assert outcomes_wanted(strategy(), None) == 2000
    assert outcomes_wanted(strategy(), run(seen=500)) == 2000
    assert outcomes_wanted(strategy(), run(seen=1500)) == 2500
