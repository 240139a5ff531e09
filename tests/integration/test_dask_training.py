"""A run on a Dask cluster of two worker processes: the local engine's result, and a clear end whatever breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_service.database.connection import Database
from model_service.models.artifact import LoadedModel
from model_service.models.job import Candidate, TrainingJob
from tests.integration.test_training_worker import PASSWORD, job_on, run_child
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows

ROWS = 6000
Lines = list[dict[str, Any]]


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
