"""A run on a Dask cluster of two worker processes: the local engine's result, and a clear end whatever breaks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distributed
import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.database.connection import Database
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.database.training_runs import PostgresTrainingStore
from model_service.database.version_files import PostgresVersionFiles
from model_service.models.artifact import LoadedModel
from model_service.models.job import Candidate, Progress, TrainingJob
from model_service.services.modes import Modes
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.training import TrainingLimits, TrainingService
from model_service.training_process import ChildLauncher, ChildProcess
from tests.integration.test_training_worker import PASSWORD, job_on, run_child
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows, training_strategy

ROWS = 6000
Lines = list[dict[str, Any]]
PATIENT = training_strategy(
    training={
        "hyperparameters": {"rounds": 4000, "eta": 0.001, "max_depth": 6, "min_child_weight": 0, "max_bin": 1024},
        "early_stopping_rounds": 1000,
        "walk_forward_folds": 0,
    }
)
"""Boosts for minutes, so that there is time to break something meanwhile."""
UNHURRIED = training_strategy(training={"hyperparameters": {"rounds": 400, "eta": 0.01}, "walk_forward_folds": 0})
"""Boosts for a second or two."""
BRIEF = training_strategy(training={"hyperparameters": {"rounds": 30}, "walk_forward_folds": 0})
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2) as started:
        yield started


@pytest.fixture
async def stored(database: Database) -> Database:
    await store(database, imbalance_rows(ROWS, 3, assets=3))
    return database


def local_job(database: Database, place: Path, **changes: Any) -> TrainingJob:
    """A job whose artifact lies in a new folder of `place`."""
    output = place / f"artifact-{len(list(place.iterdir()))}"
    output.mkdir()
    return job_on(database, output, **changes)


def dask_job(database: Database, place: Path, address: str, **changes: Any) -> TrainingJob:
    """The same for Dask; the dataset lies in `place/datasets`."""
    dataset = str(place / "datasets" / ".run-1")
    return local_job(
        database, place, engine="dask", dask_scheduler_address=address, dataset_directory=dataset, **changes
    )


async def candidate_of(job: TrainingJob) -> tuple[Candidate, Lines]:
    code, lines, errors = await run_child(job)
    assert (code, lines[-1]["kind"]) == (0, "candidate"), (lines[-1], errors)
    assert PASSWORD not in errors
    return Candidate.model_validate(lines[-1]), lines


def metric(candidate: Candidate, name: str) -> float:
    return next(metric.value for metric in candidate.metrics if metric.name == name)


def report(lines: Lines) -> dict[str, Any]:
    """What the child said of its rows before it fitted."""
    (known,) = [line["report"] for line in lines if line.get("report") and line["kind"] == "progress"]
    return dict(known)


async def test_both_engines_agree_and_a_cluster_repeats_itself(
    stored: Database, cluster: DaskCluster, tmp_path: Path
) -> None:
    local, local_lines = await candidate_of(local_job(stored, tmp_path))
    job = dask_job(stored, tmp_path, cluster.address)
    dask, lines = await candidate_of(job)
    assert report(lines) == report(local_lines)
    assert dask.report["fingerprint"] == local.report["fingerprint"]
    assert metric(dask, "roc_auc") == pytest.approx(metric(local, "roc_auc"), abs=0.005)
    assert dask.gate_passed
    assert local.gate_passed
    assert dask.trained_until_us == local.trained_until_us
    assert set(dask.files) == set(local.files)
    written = {name: (Path(job.output_directory) / name).read_bytes() for name in dask.files}
    assert LoadedModel.from_files(written, dask.files).manifest["dataset_fingerprint"] == dask.report["fingerprint"]
    assert (dask.training_config["engine"], dask.training_config["workers"]) == ("dask", 2)
    assert any("round 10 of" in line.get("note", "") for line in lines)
    assert list((tmp_path / "datasets").iterdir()) == []
    again, _ = await candidate_of(dask_job(stored, tmp_path, cluster.address))
    assert again.files == dask.files


async def test_both_engines_continue_a_version(stored: Database, cluster: DaskCluster, tmp_path: Path) -> None:
    parent_job = local_job(stored, tmp_path, strategy=BRIEF)
    parent, _ = await candidate_of(parent_job)
    changes: dict[str, Any] = {
        "strategy": BRIEF, "training_type": "incremental", "parent_version": "v1", "parent_files": parent.files,
        "parent_directory": parent_job.output_directory, "parent_trained_until_us": parent.trained_until_us,
    }  # fmt: skip
    local, local_lines = await candidate_of(local_job(stored, tmp_path, **changes))
    dask, lines = await candidate_of(dask_job(stored, tmp_path, cluster.address, **changes))
    assert report(lines) == report(local_lines)
    assert dask.dataset_size < ROWS / 3
    assert dask.training_config["parent_rounds"] == 30
    assert dask.training_config["rounds"] > 30
    assert metric(dask, "roc_auc") == pytest.approx(metric(local, "roc_auc"), abs=0.01)


async def test_a_lost_worker_costs_an_attempt(stored: Database, cluster: DaskCluster, tmp_path: Path) -> None:
    child = await ChildLauncher().launch(dask_job(stored, tmp_path, cluster.address, strategy=UNHURRIED))
    notes = []
    async for line in child.lines():
        if not isinstance(line, Progress):
            break
        notes.append(line.note)
        if sum(note.startswith("round 10 ") for note in notes) == 1 and cluster.is_alive("w-1"):
            cluster.kill("w-1")
    try:
        assert isinstance(line, Candidate), line
        assert "a worker was lost in attempt 1 of 3" in notes
        assert line.training_config["workers"] == 1
    finally:
        cluster.start_workers("w-1")


async def test_a_killed_child_leaves_nothing_on_the_workers_and_bars_no_run(
    stored: Database, cluster: DaskCluster, tmp_path: Path
) -> None:
    """Runs on the same workers take turns; a holder that is killed has had its turn."""
    (tmp_path / "next").mkdir()
    files = ModelFolder(tmp_path / "models", tmp_path / "datasets")
    first = await fitting(dask_job(stored, tmp_path, cluster.address, strategy=PATIENT))
    assert len(list((tmp_path / "datasets" / ".run-1").iterdir())) >= 2
    second = await ChildLauncher().launch(dask_job(stored, tmp_path / "next", cluster.address, strategy=BRIEF))
    waited = False
    async with asyncio.timeout(45):
        async for line in second.lines():
            if isinstance(line, Progress) and line.note.startswith("waiting for another run"):
                await kill(first)
                waited = True
    assert waited
    assert isinstance(line, Candidate), line
    await workers_are_free(cluster)
    assert (tmp_path / "datasets" / ".run-1").exists(), "nobody was there to remove it"
    files.sweep()
    assert list((tmp_path / "datasets").iterdir()) == []


async def test_a_newer_request_takes_the_workers_and_the_disk_from_the_older(
    stored: Database, cluster: DaskCluster, tmp_path: Path
) -> None:
    files, registry = ModelFolder(tmp_path / "models", tmp_path / "datasets"), PostgresRegistry(stored)
    files.prepare()
    modes = Modes(StrategyRoster.of([UNHURRIED]), registry, files, warmup=True)
    limits = TrainingLimits(
        job_on(stored, tmp_path).database, threads=1, max_duration_seconds=60.0,
        engine="dask", dask_scheduler_address=cluster.address,
    )  # fmt: skip
    store = PostgresTrainingStore(stored)
    retention = Retention(PostgresVersionFiles(stored), files, 100)
    training = TrainingService(store, registry, files, ChildLauncher(), modes, SeededIdentifiers(2), limits, retention)
    await training.request("planted", "full", "manual", "test", NOW)
    await training.step(NOW)
    first = training.current
    assert first is not None
    async with asyncio.timeout(60):
        while not first.progress.note.startswith("round "):
            await asyncio.wait({first.verdict}, timeout=0.1)
    older = files.dataset_folder(first.run.run_id)
    assert older is not None
    assert older.exists()
    newer, _ = await training.request("planted", "full", "manual", "test", NOW)
    await training.step(NOW)
    second = training.current
    assert second is not None
    await asyncio.wait({second.verdict}, timeout=60)
    await training.step(NOW)
    await second.process.kill()  # its last word is said, and taken; nothing is left to it but to end
    row = await stored.fetchrow("SELECT state, error_code FROM model_service.training_runs WHERE run_id = $1", newer)
    assert tuple(row or ()) == ("promoted", None)
    assert list((tmp_path / "datasets").iterdir()) == []


async def fitting(job: TrainingJob) -> ChildProcess:
    """A child whose workers have boosted ten rounds of many."""
    child = await ChildLauncher().launch(job)
    async for line in child.lines():
        assert isinstance(line, Progress), line
        if line.note.startswith("round 10 "):
            return child
    raise AssertionError("the child ended without a word")


async def kill(child: ChildProcess) -> None:
    """SIGKILL, and its pipe read to the end."""
    await child.kill()
    async for _ in child.lines():
        pass


async def workers_are_free(cluster: DaskCluster) -> None:
    """Returns when the one thread of every worker has done something for us; the scheduler then knows no other task."""
    async with asyncio.timeout(10), distributed.Client(cluster.address, asynchronous=True) as client:
        workers = list((await client.scheduler.identity())["workers"])
        futures = [client.submit(os.getpid, workers=[worker], pure=False) for worker in workers]
        assert len(set(await client.gather(futures))) == len(workers) == 2
        keys = await client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
        assert set(keys) == {future.key for future in futures}
