"""Runs: requested, worked on by a killable child, judged, registered; a newer request supersedes a run under way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import structlog

from model_service.config.clock import Identifiers
from model_service.config.strategies import StrategyDefinition
from model_service.models.artifact import ArtifactDamaged
from model_service.models.job import Candidate, DatabaseCoordinates, Incumbent, Refusal, TrainingJob
from model_service.services.activation_refusals import unusable
from model_service.services.alerts import Alerts, NoAlerts, RepeatedFailures
from model_service.services.current_run import CurrentRun, Verdict
from model_service.services.modes import Modes
from model_service.services.ports import (
    GATE_PASSED,
    NOBODY,
    ActiveVersionChanged,
    ModelFiles,
    RegistryStore,
    ScheduleSlot,
    TrainingLauncher,
    TrainingRun,
    TrainingStore,
    TrainingType,
    TriggerKind,
    VersionTaken,
)
from model_service.services.retention import Retention
from model_service.services.storage_fault import storage_fault

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    """How runs are made.

    Attributes:
        simulated_seconds: in virtual time a run lasts exactly this long, and the clock waits there for the child;
            None in real time.
        tick_seconds: between two ticks of a strategy; None: not known.
        device: where XGBoost computes.
        engine: `local` fits in the child, `dask` on the workers of `dask_scheduler_address`.
    """

    database: DatabaseCoordinates
    threads: int
    max_duration_seconds: float
    simulated_seconds: float | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    engine: Literal["local", "dask"] = "local"
    dask_scheduler_address: str | None = None
    tick_seconds: float | None = None


class TrainingService:
    """One run at a time in this process; requests of other strategies wait as rows."""

    def __init__(
        self,
        store: TrainingStore,
        registry: RegistryStore,
        files: ModelFiles,
        launcher: TrainingLauncher,
        modes: Modes,
        identifiers: Identifiers,
        limits: TrainingLimits,
        retention: Retention,
        alerts: Alerts | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._files = files
        self._launcher = launcher
        self._modes = modes
        self._identifiers = identifiers
        self._limits = limits
        self._retention = retention
        self._failures = RepeatedFailures(alerts or NoAlerts())
        self._may_have_requests = True
        self._may_be_superseded = False
        # Requests come over HTTP while the learning role works: each sees the other's work whole or not at all.
        self._lock = asyncio.Lock()
        self.current: CurrentRun | None = None
        self.last_gate: dict[str, Sequence[Mapping[str, Any]]] = {}

    async def recover(self, now: datetime) -> None:
        """Close the runs that a former process left behind, and remove their folders."""
        for run in await self._store.live_runs():
            self._files.discard(run.run_id)
            if run.state != "requested":
                await self._store.finish(
                    run.run_id, "failed", now, error_code="interrupted",
                    error_hint="The service stopped during this run. The next trigger starts a new one.",
                )  # fmt: skip

    async def request(
        self, strategy_id: str, training_type: TrainingType, trigger: TriggerKind, reason: str, now: datetime,
        *, slot: ScheduleSlot | None = None,
    ) -> tuple[UUID, Literal["triggered", "queued"]]:  # fmt: skip
        """A new run as a row; a live run of the same strategy is superseded and its child killed.

        Raises:
            NotFound: when there is no such strategy.
            SlotTaken: when the run is for a slot of the schedule that has been fired already.
        """
        self._modes.known(strategy_id)
        async with self._lock:
            return await self._request(strategy_id, training_type, trigger, reason, now, slot)

    async def is_asked_for(self, strategy_id: str, trigger: TriggerKind) -> bool:
        """Whether a run with this trigger is requested or under way."""
        return any((run.strategy_id, run.trigger) == (strategy_id, trigger) for run in await self._store.live_runs())

    async def _request(
        self, strategy_id: str, training_type: TrainingType, trigger: TriggerKind, reason: str, now: datetime,
        slot: ScheduleSlot | None,
    ) -> tuple[UUID, Literal["triggered", "queued"]]:  # fmt: skip
        live = [run for run in await self._store.live_runs() if run.strategy_id == strategy_id]
        samples = await self._store.sample_count(strategy_id)
        run = TrainingRun(self._identifiers.new(), strategy_id, training_type, trigger, "requested", now, samples)
        # Set before the database is asked: it may do it and the answer be lost. Who asked hears of the outage and asks
        # again, or sees the run; the child of the run before must not conclude meanwhile.
        self._may_have_requests = self._may_be_superseded = True
        await self._store.request(run, reason, previous=live[0].run_id if live else None, slot=slot)
        self._may_be_superseded = False
        if self.current is not None and self.current.run.strategy_id == strategy_id:
            await self._abandon_current()
        log.info("training_requested", strategy=strategy_id, run_id=str(run.run_id), trigger=trigger, reason=reason)
        return run.run_id, "triggered" if self.current is None else "queued"

    async def sample_count(self, strategy_id: str) -> int:
        """Labelled outcomes of a strategy."""
        return await self._store.sample_count(strategy_id)

    async def refuse(
        self, strategy_id: str, training_type: TrainingType, trigger: TriggerKind, code: str, hint: str, now: datetime
    ) -> UUID:
        """Record a request that cannot be granted as the data are; returns its run."""
        samples = await self._store.sample_count(strategy_id)
        run = TrainingRun(self._identifiers.new(), strategy_id, training_type, trigger, "refused", now, samples)
        await self._store.request(run, hint, previous=None, error_code=code)
        log.info("training_refused", strategy=strategy_id, run_id=str(run.run_id), code=code, hint=hint)
        return run.run_id

    async def skip(
        self, strategy_id: str, trigger: TriggerKind, reason: str, now: datetime, *, slot: ScheduleSlot | None = None
    ) -> None:
        """Record a trigger that found nothing new to learn from. Raises SlotTaken."""
        samples = await self._store.sample_count(strategy_id)
        run = TrainingRun(self._identifiers.new(), strategy_id, "full", trigger, "skipped", now, samples)
        await self._store.request(run, reason, previous=None, slot=slot)
        log.info("training_skipped", strategy=strategy_id, trigger=trigger, reason=reason)

    async def cancel(self, strategy_id: str, now: datetime) -> None:
        """End what is requested or under way for a strategy that was taken away, and kill its child."""
        async with self._lock:
            for run in await self._store.live_runs():
                if run.strategy_id == strategy_id:
                    # The answer may be lost: the next step then finds by itself that its run is over.
                    self._may_be_superseded = True
                    await self._cancel(run, now)
            if self.current is not None and self.current.run.strategy_id == strategy_id:
                await self._abandon_current()

    async def _cancel(self, run: TrainingRun, now: datetime) -> None:
        await self._store.finish(
            run.run_id, "cancelled", now, error_code="strategy_removed",
            error_hint=f"{run.strategy_id} is no longer among the strategies, or disabled; its outcomes are kept.",
        )  # fmt: skip
        log.info("training_cancelled", strategy=run.strategy_id, run_id=str(run.run_id))

    async def step(self, now: datetime) -> None:
        """Start the oldest request when no child works, and take what a finished child brings."""
        async with self._lock:
            await self._step(now)

    async def _step(self, now: datetime) -> None:
        if self._may_be_superseded:
            await self._abandon_superseded()
        if self.current is None:
            if self._may_have_requests:
                await self._start_next(now)
            return
        if await self._is_finished(self.current, now):
            # Only a conclusion that is stored ends the run: while the database is away the verdict is kept.
            await self._conclude(self.current, await self.current.verdict, now)
            self.current = None
        elif self._is_overdue(self.current, now):
            await self._time_out(self.current, now)
        else:
            await self._store_progress(self.current, now)

    async def close(self) -> None:
        """Kill the child, if there is one; its run is closed by the next start."""
        async with self._lock:
            await self._abandon_current()

    async def _abandon_superseded(self) -> None:
        live = {run.run_id for run in await self._store.live_runs()}
        if self.current is not None and self.current.run.run_id not in live:
            await self._abandon_current()
        self._may_be_superseded = False

    async def _start_next(self, now: datetime) -> None:
        requested = [run for run in await self._store.live_runs() if run.state == "requested"]
        if not requested:
            self._may_have_requests = False
            return
        run = requested[0]
        if not self._modes.is_known(run.strategy_id):
            # Asked for before the strategy was taken away, perhaps by a process that is no more.
            await self._cancel(run, now)
            return
        try:
            job, refusal = await self._job(run, now)
        except OSError as error:
            await self._fail_for_storage(run, error, now)
            return
        if job is None:
            await self._store.finish(run.run_id, "refused", now, error_code=refusal[0], error_hint=refusal[1])
            return
        process = await self._launcher.launch(job)
        spoke = job.incumbent.version if job.incumbent else None
        self.current = CurrentRun(run, process, now, job.parent_version, spoke)
        await self._store.progress(run.run_id, "preparing", 0.0, "started", now)
        log.info("training_started", strategy=run.strategy_id, run_id=str(run.run_id), samples=run.outcomes_seen)

    async def _job(self, run: TrainingRun, now: datetime) -> tuple[TrainingJob | None, tuple[str, str]]:
        strategy = self._modes.known(run.strategy_id)
        parent = self._modes.active(run.strategy_id) if run.training_type == "incremental" else None
        if run.training_type == "incremental" and parent is None:
            return None, ("no_parent", "An increment needs an active version; request training_type full first.")
        dataset = self._files.dataset_folder(run.run_id)
        job = TrainingJob(
            run_id=str(run.run_id),
            strategy=strategy,
            training_type=run.training_type,
            as_of_us=round(now.timestamp() * 1_000_000),
            database=self._limits.database,
            output_directory=str(self._files.workspace(run.run_id)),
            seed=strategy.training_seed,
            threads=self._limits.threads,
            device=self._limits.device,
            engine=self._limits.engine,
            dask_scheduler_address=self._limits.dask_scheduler_address,
            dataset_directory=None if dataset is None else str(dataset),
            parent_directory=str(self._files.folder(parent.version)) if parent else None,
            parent_files=dict(parent.files) if parent else {},
            parent_version=parent.version if parent else None,
            parent_trained_until_us=parent.trained_until_us if parent else None,
            incumbent=self._incumbent(run.strategy_id),
            tick_seconds=self._limits.tick_seconds,
            candidates_tried=1 + await self._registry.candidates_since_promotion(run.strategy_id),
        )
        return job, ("", "")

    def _incumbent(self, strategy_id: str) -> Incumbent | None:
        active = self._modes.active(strategy_id)
        if active is None:
            return None
        return Incumbent(
            version=active.version,
            directory=str(self._files.folder(active.version)),
            files=dict(active.files),
            trained_until_us=active.trained_until_us,
        )

    async def _is_finished(self, current: CurrentRun, now: datetime) -> bool:
        simulated = self._limits.simulated_seconds
        if simulated is None:
            return current.verdict.done()
        if now < current.started_at + timedelta(seconds=simulated):
            return False
        await asyncio.wait({current.verdict}, timeout=self._limits.max_duration_seconds)
        return current.verdict.done()

    def _is_overdue(self, current: CurrentRun, now: datetime) -> bool:
        limit = self._limits.simulated_seconds or self._limits.max_duration_seconds
        return now >= current.started_at + timedelta(seconds=limit)

    async def _time_out(self, current: CurrentRun, now: datetime) -> None:
        await self._store.finish(
            current.run.run_id, "failed", now, error_code="timeout",
            error_hint=f"The run took over {self._limits.max_duration_seconds:g} s "
            "(MODEL_TRAINING_MAX_DURATION_SECONDS) and was killed.",
        )  # fmt: skip
        await self._abandon_current()
        log.warning("training_failed", strategy=current.run.strategy_id, code="timeout")
        self._failures.failed(current.run.strategy_id, "timeout", now)

    async def _conclude(self, current: CurrentRun, verdict: Verdict, now: datetime) -> None:
        if isinstance(verdict, Candidate):
            await self._register(current, verdict, now)
            return
        self._files.discard(current.run.run_id)
        state = "refused" if isinstance(verdict, Refusal) else "failed"
        report = verdict.report if isinstance(verdict, Refusal) else current.report
        await self._store.finish(
            current.run.run_id, state, now, error_code=verdict.code, error_hint=verdict.hint, dataset_report=report
        )
        event = "training_refused" if isinstance(verdict, Refusal) else "training_failed"
        log.warning(event, strategy=current.run.strategy_id, code=verdict.code, hint=verdict.hint)
        if state == "failed":
            self._failures.failed(current.run.strategy_id, verdict.code, now)

    async def _register(self, current: CurrentRun, candidate: Candidate, now: datetime) -> None:
        # Tried again from here after an outage, so each part of it does nothing when it has been done: the number is
        # kept, the folder renamed once, the row looked for, the activation passed over, the finished run left alone.
        run = current.run
        try:
            version = await self._add_version(current, candidate, now)
        except OSError as error:
            self._files.discard(run.run_id)
            await self._fail_for_storage(run, error, now)
            return
        self._failures.ended(run.strategy_id)
        gate = [condition.model_dump() for condition in candidate.gate]
        self.last_gate[run.strategy_id] = gate
        fault = await self._promote(current, version, now) if candidate.gate_passed else None
        promoted = candidate.gate_passed and fault is None
        code, hint = fault or (None, None)
        await self._store.finish(
            run.run_id, "promoted" if promoted else "rejected", now,
            version=version, gate=gate, dataset_report=current.report, error_code=code, error_hint=hint,
        )  # fmt: skip
        failed = [condition.condition for condition in candidate.gate if not condition.passed]
        log.info("training_judged", strategy=run.strategy_id, version=version, promoted=promoted, failed=failed)
        await self._retention.apply(run.strategy_id, now)

    async def _add_version(self, current: CurrentRun, candidate: Candidate, now: datetime) -> str:
        """Number, folder, row, in this order. Raises OSError."""
        async with self._registry.registering():
            version, path = await self._publish(current)
            if await self._registry.get(version) is None:
                await self._registry.add(
                    self._identifiers.new(), version, current.run.strategy_id, path, candidate,
                    parent=current.parent, trained_at=now,
                    duration_seconds=(now - current.started_at).total_seconds(),
                )  # fmt: skip
        return version

    async def _publish(self, current: CurrentRun) -> tuple[str, str]:
        while True:
            if current.version is None:
                current.version = await self._registry.next_version(parent=current.parent)
            version = current.version
            try:
                return version, await asyncio.to_thread(self._files.publish, current.run.run_id, version)
            except VersionTaken as taken:
                log.warning("version_number_passed_over", version=version, reason=str(taken))
                current.version = None

    async def _fail_for_storage(self, run: TrainingRun, error: OSError, now: datetime) -> None:
        code, hint = storage_fault(error)
        await self._store.finish(run.run_id, "failed", now, error_code=code, error_hint=hint)
        log.warning("training_failed", strategy=run.strategy_id, code=code, hint=hint)
        self._failures.failed(run.strategy_id, code, now)

    async def _promote(self, current: CurrentRun, version: str, now: datetime) -> tuple[str, str] | None:
        """Let a candidate that has passed speak; None, or the code and the reason why it does not."""
        strategy_id, row = current.run.strategy_id, await self._registry.get(version)
        assert row is not None, "the version was just added"
        active = self._modes.active(strategy_id)
        speaks = active.version if active else None
        if speaks not in (current.incumbent, version):
            return "incumbent_changed", _incumbent_changed(current, speaks)
        general = active is not None and active.strategy_id is None
        expected = None if general else current.incumbent or NOBODY
        try:
            await self._modes.activate(
                strategy_id, row, actor="service", reason=GATE_PASSED, forced=False, now=now, expected=expected
            )
        except ActiveVersionChanged as error:
            return "incumbent_changed", _incumbent_changed(current, error.active)
        except ArtifactDamaged as error:
            log.error("artifact_refused", strategy=strategy_id, version=version, error=str(error))
            return error.reason, unusable(version, error).message
        return None

    async def _abandon_current(self) -> None:
        current, self.current = self.current, None
        if current is None:
            return
        await current.process.kill()
        current.verdict.cancel()
        await asyncio.wait({current.verdict})
        self._files.discard(current.run.run_id)

    async def _store_progress(self, current: CurrentRun, now: datetime) -> None:
        progress = current.progress
        if progress is current.stored_progress:
            return
        current.stored_progress = progress
        await self._store.progress(
            current.run.run_id, progress.phase, progress.fraction, progress.note, now, dataset_report=current.report
        )


def _incumbent_changed(current: CurrentRun, speaks: str | None) -> str:
    """Why a candidate that has passed does not speak: it was held against a version that speaks no more."""
    return (
        f"{speaks or 'the warm-up'} speaks now, {current.version} was judged against "
        f"{current.incumbent or 'the warm-up'}; request a training, or promote it by hand."
    )


def outcomes_wanted(strategy: StrategyDefinition, last: TrainingRun | None) -> int:
    """The number of samples at which the next run by amount of data is due."""
    if last is None:
        return strategy.minimum_dataset_size
    return max(strategy.minimum_dataset_size, last.outcomes_seen + strategy.retrain_after_outcomes)
