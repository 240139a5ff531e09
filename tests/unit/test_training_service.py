"""Runs: one at a time, superseded by newer requests, killed when overdue, registered before they speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.config.strategies import StrategyDefinition
from model_service.models.artifact import ArtifactDamaged
from model_service.models.job import (
    Candidate,
    DatabaseCoordinates,
    Failure,
    GateCondition,
    Progress,
    Refusal,
    TrainingJob,
)
from model_service.services.errors import NotFound
from model_service.services.ports import ModelVersion, TrainingRun
from model_service.services.training import TrainingLimits, TrainingService
from tests.support.builders import NOON, strategy

Line = Progress | Candidate | Refusal | Failure


class DatabaseAway(Exception):
    """The database cannot be reached."""


@dataclass
class FakeChild:
    """A child that says what the test puts into its queue."""

    job: TrainingJob
    said: asyncio.Queue[Line] = field(default_factory=asyncio.Queue)
    killed: bool = False

    async def lines(self) -> AsyncIterator[Line]:
        while True:
            yield await self.said.get()

    async def kill(self) -> None:
        self.killed = True


@dataclass
class FakeWorld:
    """Runs, registry, files, launcher and modes in memory."""

    runs: dict[UUID, TrainingRun] = field(default_factory=dict)
    finished: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    superseded: dict[UUID, UUID] = field(default_factory=dict)
    children: list[FakeChild] = field(default_factory=list)
    discarded: list[UUID] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    versions: dict[str, bool] = field(default_factory=dict)
    activated: list[str] = field(default_factory=list)
    damaged: bool = False
    launching: asyncio.Event | None = None
    reports: dict[UUID, Any] = field(default_factory=dict)
    finish_fails: int = 0
    answer_is_lost: bool = False
    active_version: ModelVersion | None = None
    lays_down_datasets: bool = False
    retained: list[str] = field(default_factory=list)
    taken_away: set[str] = field(default_factory=set)

    # the store
    async def request(
        self, run: TrainingRun, reason: str, *, previous: UUID | None, error_code: str | None = None, slot: Any = None
    ) -> None:
        if previous is not None:
            self.superseded[previous] = run.run_id
            del self.runs[previous]
        self.runs[run.run_id] = run
        if self.answer_is_lost:
            raise DatabaseAway

    async def live_runs(self) -> Sequence[TrainingRun]:
        return list(self.runs.values())

    async def progress(
        self, run_id: UUID, state: str, fraction: float, note: str, now: datetime, *, dataset_report: Any = None
    ) -> None:
        self.runs[run_id] = replace(self.runs[run_id], state=state)
        self.reports[run_id] = dataset_report

    async def finish(self, run_id: UUID, state: str, now: datetime, **details: Any) -> None:
        if self.finish_fails:
            self.finish_fails -= 1
            raise DatabaseAway
        del self.runs[run_id]
        self.finished[run_id] = {"state": state, **details}

    async def sample_count(self, strategy_id: str) -> int:
        return 2000

    # the registry
    async def next_version(self, *, parent: str | None) -> str:
        return f"v{len(self.versions) + 1}"

    async def add(self, version_id: UUID, version: str, strategy_id: str, path: str, candidate: Any, **_: Any) -> None:
        assert version in self.published, "files lie in their place before the row is written"
        self.versions[version] = candidate.gate_passed

    async def get(self, version: str) -> ModelVersion | None:
        if version not in self.versions:
            return None
        return ModelVersion(UUID(int=5), version, "momentum_v1", "f1", {}, True, False, NOON, 0, 0.8)

    async def candidates_since_promotion(self, strategy_id: str) -> int:
        return len(self.versions)

    @asynccontextmanager
    async def registering(self) -> AsyncIterator[None]:
        yield

    # the retention
    async def apply(self, strategy_id: str, now: datetime) -> None:
        self.retained.append(strategy_id)

    # the files
    def workspace(self, run_id: UUID) -> Path:
        return Path("runs") / str(run_id)

    def dataset_folder(self, run_id: UUID) -> Path | None:
        return Path("datasets") / str(run_id) if self.lays_down_datasets else None

    def discard(self, run_id: UUID) -> None:
        self.discarded.append(run_id)

    def publish(self, run_id: UUID, version: str) -> str:
        self.published.append(version)
        return f"/models/{version}"

    def folder(self, version: str) -> Path:
        return Path("models") / version

    # the launcher
    async def launch(self, job: TrainingJob) -> FakeChild:
        if self.launching is not None:
            await self.launching.wait()
        self.children.append(FakeChild(job))
        return self.children[-1]

    # the modes
    def known(self, strategy_id: str) -> StrategyDefinition:
        if not strategy_id.startswith("momentum"):
            raise NotFound("unknown_strategy", "no such strategy")
        return strategy(strategy_id=strategy_id)

    def is_known(self, strategy_id: str) -> bool:
        return strategy_id.startswith("momentum") and strategy_id not in self.taken_away

    def active(self, strategy_id: str) -> ModelVersion | None:
        return self.active_version

    async def activate(self, strategy_id: str, version: ModelVersion, **_: Any) -> None:
        if self.damaged:
            raise ArtifactDamaged("a byte is wrong")
        self.activated.append(version.version)


def service(
    world: FakeWorld, *, simulated: float | None = None, longest: float = 600.0, **others: Any
) -> TrainingService:
    coordinates = DatabaseCoordinates(host="h", port=1, database="d", user="u")
    limits = TrainingLimits(coordinates, threads=1, max_duration_seconds=longest, simulated_seconds=simulated, **others)
    fakes: Any = world
    return TrainingService(fakes, fakes, fakes, fakes, fakes, SeededIdentifiers(1), limits, fakes)


def candidate(*, passed: bool = True) -> Candidate:
    condition = GateCondition(number=2, condition="accuracy", value=0.8, threshold=0.75, passed=passed)
    return Candidate(
        model_type="xgboost",
        feature_set="f1",
        files={},
        dataset_size=2000,
        trained_until_us=0,
        training_config={},
        report={},
        metrics=[],
        gate=[condition],
        gate_passed=passed,
    )


async def started(training: TrainingService, world: FakeWorld, name: str = "momentum_v1") -> tuple[UUID, FakeChild]:
    run_id, _ = await training.request(name, "full", "outcomes", "test", NOON)
    await training.step(NOON)
    return run_id, world.children[-1]


async def heard(training: TrainingService) -> None:
    """Wait until the service has the child's last word."""
    assert training.current is not None
    await asyncio.wait_for(asyncio.wait({training.current.verdict}), 5)


@pytest.mark.parametrize(("passed", "state", "activated"), [(True, "promoted", ["v1"]), (False, "rejected", [])])
async def test_a_judged_candidate_is_registered_and_speaks_only_if_it_passed(
    passed: bool, state: str, activated: list[str]
) -> None:
    world = FakeWorld()
    training = service(world)
    run_id, child = await started(training, world)
    child.said.put_nowait(candidate(passed=passed))
    await heard(training)
    await training.step(NOON + timedelta(seconds=5))
    assert world.finished[run_id]["state"] == state
    assert world.finished[run_id]["gate"][0]["condition"] == "accuracy"
    assert world.versions == {"v1": passed}
    assert world.activated == activated


async def test_a_newer_request_kills_the_child_and_starts_again(  # the newer run reads the newer data
) -> None:
    world = FakeWorld()
    training = service(world)
    first, child = await started(training, world)
    later = NOON + timedelta(minutes=5)
    second, answer = await training.request("momentum_v1", "full", "manual", "newer data", later)
    assert child.killed
    assert answer == "triggered"
    assert world.superseded == {first: second}
    assert first in world.discarded
    await training.step(later)
    assert world.children[-1] is not child
    assert world.children[-1].job.as_of_us == int(later.timestamp()) * 1_000_000


async def test_another_strategy_waits_its_turn() -> None:
    world = FakeWorld()
    training = service(world)
    _, child = await started(training, world)
    _, answer = await training.request("momentum_v2", "full", "manual", "test", NOON)
    await training.step(NOON)
    assert answer == "queued"
    assert len(world.children) == 1
    child.said.put_nowait(Refusal(code="too_few_rows", hint="wait"))
    await heard(training)
    await training.step(NOON)
    await training.step(NOON)
    assert world.children[-1].job.strategy.strategy_id == "momentum_v2"


async def test_a_refusal_leaves_a_record_and_no_version() -> None:
    world = FakeWorld()
    training = service(world)
    run_id, child = await started(training, world)
    child.said.put_nowait(Refusal(code="one_class", hint="all rows won", report={"rows": 2000}))
    await heard(training)
    await training.step(NOON)
    assert world.finished[run_id]["state"] == "refused"
    assert world.finished[run_id]["error_code"] == "one_class"
    assert world.finished[run_id]["dataset_report"] == {"rows": 2000}
    assert world.versions == {}
    assert run_id in world.discarded


async def test_the_report_on_the_rows_is_there_while_the_run_goes_on_and_stays() -> None:
    world = FakeWorld()
    training = service(world)
    run_id, child = await started(training, world)
    child.said.put_nowait(Progress(phase="preparing", fraction=0.14, report={"rows": 2000}))
    child.said.put_nowait(Progress(phase="fitting", fraction=0.5, note="round 10 of at most 400"))
    while training.current is not None and training.current.progress.fraction < 0.5:
        await asyncio.sleep(0)
    await training.step(NOON)
    assert world.reports[run_id] == {"rows": 2000}
    child.said.put_nowait(candidate())
    await heard(training)
    await training.step(NOON)
    assert world.finished[run_id]["dataset_report"] == {"rows": 2000}


async def test_an_overdue_child_is_killed_and_the_run_failed() -> None:
    world = FakeWorld()
    training = service(world, longest=60.0)
    run_id, child = await started(training, world)
    await training.step(NOON + timedelta(seconds=59))
    assert not child.killed
    await training.step(NOON + timedelta(seconds=60))
    assert child.killed
    assert world.finished[run_id]["error_code"] == "timeout"
    assert training.current is None


async def test_in_virtual_time_a_run_ends_when_its_duration_is_over_and_not_before() -> None:
    world = FakeWorld()
    training = service(world, simulated=60.0)
    run_id, child = await started(training, world)
    child.said.put_nowait(candidate())
    await heard(training)
    await training.step(NOON + timedelta(seconds=50))
    assert run_id not in world.finished
    await training.step(NOON + timedelta(seconds=60))
    assert world.finished[run_id]["state"] == "promoted"


async def test_a_damaged_artifact_is_not_promoted() -> None:
    world = FakeWorld(damaged=True)
    training = service(world)
    run_id, child = await started(training, world)
    child.said.put_nowait(candidate())
    await heard(training)
    await training.step(NOON)
    assert world.finished[run_id]["state"] == "rejected"
    assert world.activated == []


@pytest.mark.parametrize("speaks", [None, "v7"])
async def test_a_candidate_judged_against_a_version_that_speaks_no_more_waits_for_a_person(speaks: str | None) -> None:
    """While the run went on somebody went back to v7, or to the warm-up."""
    before = ModelVersion(UUID(int=5), "v8", "momentum_v1", "f1", {}, True, False, NOON, 0, 0.8)
    world = FakeWorld(active_version=before)
    training = service(world)
    run_id, child = await started(training, world)
    world.active_version = replace(before, version=speaks) if speaks else None
    child.said.put_nowait(candidate())
    await heard(training)
    await training.step(NOON + timedelta(seconds=5))
    assert world.activated == []
    assert world.finished[run_id]["state"] == "rejected"
    assert world.finished[run_id]["error_code"] == "incumbent_changed"
    assert "v8" in world.finished[run_id]["error_hint"]


async def test_an_increment_without_an_active_version_is_refused() -> None:
    world = FakeWorld()
    training = service(world)
    run_id, _ = await training.request("momentum_v1", "incremental", "manual", "test", NOON)
    await training.step(NOON)
    assert world.finished[run_id]["error_code"] == "no_parent"
    assert world.children == []


async def test_a_job_says_where_to_compute_and_what_its_parent_was() -> None:
    parent = ModelVersion(UUID(int=5), "v4", "momentum_v1", "f1", {"model.json": "ab"}, True, True, NOON, 77, 0.8)
    world = FakeWorld(active_version=parent)
    training = service(world, device="cuda")
    await training.request("momentum_v1", "incremental", "manual", "test", NOON)
    await training.step(NOON)
    job = world.children[-1].job
    assert (job.device, job.parent_version, job.parent_trained_until_us) == ("cuda", "v4", 77)
    assert job.parent_files == {"model.json": "ab"}


async def test_an_unknown_strategy_is_refused_before_anything_is_written() -> None:
    world = FakeWorld()
    with pytest.raises(NotFound):
        await service(world).request("other", "full", "manual", "test", NOON)
    assert world.runs == {}


async def test_start_closes_what_a_former_process_left() -> None:
    world = FakeWorld()
    left: Mapping[str, str] = {"fitting": "failed", "requested": "requested"}
    for number, state in enumerate(left, start=1):
        run = TrainingRun(UUID(int=number), f"momentum_v{number}", "full", "manual", state, NOON, 0)
        world.runs[run.run_id] = run
    await service(world).recover(NOON)
    assert world.finished[UUID(int=1)]["error_code"] == "interrupted"
    assert [run.state for run in world.runs.values()] == ["requested"]


async def test_a_request_while_a_child_is_being_started_still_supersedes_it() -> None:
    world = FakeWorld(launching=asyncio.Event())
    training = service(world)
    first, _ = await training.request("momentum_v1", "full", "outcomes", "test", NOON)
    starting = asyncio.create_task(training.step(NOON))
    asking = asyncio.create_task(training.request("momentum_v1", "full", "manual", "newer data", NOON))
    await asyncio.sleep(0)
    assert world.launching is not None
    world.launching.set()
    await starting
    second, _ = await asking
    assert world.superseded == {first: second}
    assert world.children[0].killed
    assert training.current is None


async def test_a_verdict_outlives_a_database_that_is_away() -> None:
    world = FakeWorld()
    training = service(world)
    run_id, child = await started(training, world)
    child.said.put_nowait(candidate())
    await heard(training)
    world.finish_fails = 1
    with pytest.raises(DatabaseAway):
        await training.step(NOON)
    await training.step(NOON + timedelta(seconds=1))
    assert world.finished[run_id]["state"] == "promoted"
    assert world.finished[run_id]["version"] == "v1"
    assert world.versions == {"v1": True}


async def test_a_child_whose_run_was_superseded_without_an_answer_does_not_conclude() -> None:
    world = FakeWorld()
    training = service(world)
    first, child = await started(training, world)
    child.said.put_nowait(candidate())
    await heard(training)
    world.answer_is_lost = True
    with pytest.raises(DatabaseAway):
        await training.request("momentum_v1", "full", "manual", "newer data", NOON)
    world.answer_is_lost = False
    await training.step(NOON)
    assert child.killed
    assert world.activated == []
    assert world.children[-1].job.run_id == str(world.superseded[first]), "the newer run is worked on"


async def test_a_job_says_where_its_workers_are_and_where_its_dataset_goes() -> None:
    world = FakeWorld(lays_down_datasets=True)
    training = service(world, tick_seconds=7.5, engine="dask", dask_scheduler_address="tcp://scheduler:8786")
    run_id, child = await started(training, world)
    assert (child.job.engine, child.job.dask_scheduler_address) == ("dask", "tcp://scheduler:8786")
    assert child.job.tick_seconds == 7.5
    assert child.job.dataset_directory == f"datasets/{run_id}"


async def test_a_local_job_has_no_place_for_a_dataset() -> None:
    world = FakeWorld()
    _, child = await started(service(world), world)
    assert (child.job.engine, child.job.dataset_directory) == ("local", None)


async def test_taking_a_strategy_away_cancels_its_runs_and_leaves_the_others_alone() -> None:
    world = FakeWorld()
    training = service(world)
    first, child = await started(training, world)
    other, _ = await training.request("momentum_v2", "full", "manual", "test", NOON)
    world.taken_away.add("momentum_v1")
    await training.cancel("momentum_v1", NOON)
    assert child.killed
    assert first in world.discarded
    assert (world.finished[first]["state"], world.finished[first]["error_code"]) == ("cancelled", "strategy_removed")
    await training.step(NOON)
    assert world.children[-1].job.run_id == str(other)


async def test_a_cancellation_whose_answer_is_lost_ends_the_child_all_the_same() -> None:
    world = FakeWorld()
    training = service(world)
    first, child = await started(training, world)
    world.finish_fails = 1
    with pytest.raises(DatabaseAway):
        await training.cancel("momentum_v1", NOON)
    del world.runs[first]  # it had taken effect
    await training.step(NOON)
    assert child.killed


async def test_a_run_that_waits_for_a_strategy_that_is_gone_holds_up_nobody() -> None:
    world = FakeWorld()
    training = service(world)
    gone, _ = await training.request("momentum_v1", "full", "manual", "test", NOON)
    other, _ = await training.request("momentum_v2", "full", "manual", "test", NOON)
    world.taken_away.add("momentum_v1")
    await training.step(NOON)
    await training.step(NOON)
    assert world.finished[gone]["state"] == "cancelled"
    assert [child.job.run_id for child in world.children] == [str(other)]
