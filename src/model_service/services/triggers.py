"""When to train: enough new outcomes, a schedule, an interval. Quality and people ask for runs by themselves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_service.config.schedule import slots_after
from model_service.config.strategies import StrategyDefinition
from model_service.services.errors import NotFound
from model_service.services.ports import ScheduleSlot, SlotTaken, TrainingRun, TrainingStore
from model_service.services.roster import StrategyRoster
from model_service.services.training import TrainingService, outcomes_wanted


@dataclass(frozen=True, slots=True)
class TriggerLimits:
    """The time-based triggers, the same for every strategy."""

    schedule: str | None
    timezone: str
    interval_days: float
    check_every_seconds: float = 10.0


class Triggers:
    """Looks every few seconds whether a run is due, and asks the training service for it."""

    def __init__(
        self,
        roster: StrategyRoster,
        store: TrainingStore,
        training: TrainingService,
        limits: TriggerLimits,
        started_at: datetime,
    ) -> None:
        self._roster = roster
        self._store = store
        self._training = training
        self._limits = limits
        self._started_at = started_at
        self._next_check = started_at

    async def step(self, now: datetime) -> None:
        """Check all strategies when a check is due."""
        if now < self._next_check:
            return
        self._next_check = now + timedelta(seconds=self._limits.check_every_seconds)
        for strategy in self._roster.current:
            with suppress(NotFound):  # it was taken away while the others were looked at
                await self._check(strategy, now)

    async def outcomes_wanted(self, strategy_id: str) -> int | None:
        """Outcomes until the next run by their number, 0 when it is due; None for a strategy that is not known."""
        strategy = next((one for one in self._roster.current if one.strategy_id == strategy_id), None)
        if strategy is None:
            return None
        last = await self._store.last_run(strategy_id)
        return max(0, outcomes_wanted(strategy, last) - await self._store.sample_count(strategy_id))

    def next_scheduled(self, now: datetime) -> datetime | None:
        """The next slot of the schedule, aware UTC."""
        if self._limits.schedule is None:
            return None
        return next(slots_after(self._limits.schedule, now, self._limits.timezone), None)

    async def _check(self, strategy: StrategyDefinition, now: datetime) -> None:
        last = await self._store.last_run(strategy.strategy_id)
        samples = await self._store.sample_count(strategy.strategy_id)
        wanted = outcomes_wanted(strategy, last)
        if samples >= wanted:
            reason = f"{samples} outcomes, {wanted} were wanted"
            await self._training.request(strategy.strategy_id, "full", "outcomes", reason, now)
        elif (slot := await self._due_slot(strategy, now)) is not None:
            with suppress(SlotTaken):  # by another process, which has asked for the run
                await self._request_or_skip(strategy, last, samples, f"schedule {self._limits.schedule}", now, slot)
        elif last is not None and now - last.requested_at >= timedelta(days=self._limits.interval_days):
            await self._request_or_skip(
                strategy, last, samples, f"{self._limits.interval_days:g} days since the last run", now
            )

    async def _due_slot(self, strategy: StrategyDefinition, now: datetime) -> ScheduleSlot | None:
        """A slot that has passed and that nobody has fired; of several missed ones only the newest fires."""
        if self._limits.schedule is None:
            return None
        job = f"train:{strategy.strategy_id}"
        first = self._roster.joined_at(strategy.strategy_id) or self._started_at
        since = await self._store.last_slot(job) or first
        due = newest_slot(self._limits.schedule, self._limits.timezone, since, now)
        return ScheduleSlot(job, due) if due is not None else None

    async def _request_or_skip(
        self,
        strategy: StrategyDefinition,
        last: TrainingRun | None,
        samples: int,
        reason: str,
        now: datetime,
        slot: ScheduleSlot | None = None,
    ) -> None:
        seen = last.outcomes_seen if last is not None else 0
        if samples > seen:
            await self._training.request(strategy.strategy_id, "full", "schedule", reason, now, slot=slot)
        else:
            why = f"{reason}: no new outcome since the last run ({seen})"
            await self._training.skip(strategy.strategy_id, "schedule", why, now, slot=slot)


def newest_slot(schedule: str, timezone: str, since: datetime, now: datetime) -> datetime | None:
    """The last slot in (since, now], aware UTC.

    Looks back at most 366 days, so that a long absence costs no long search.
    """
    newest = None
    for slot in slots_after(schedule, max(since, now - timedelta(days=366)), timezone):
        if slot > now:
            return newest
        newest = slot
    return newest
