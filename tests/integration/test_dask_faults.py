"""A cluster that cannot do a run's work: what is in the way is said with a code and what to do, within a known time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_service.database.connection import Database
from model_service.distributed_run import _lay_down, train_on_dask
from model_service.learning import dask_cluster as subject
from model_service.learning import parquet_dataset
from model_service.learning.dask_cluster import Cluster
from model_service.learning.distributed import _said
from model_service.learning.refusal import Refused, RunBroken
from model_service.models.job import Progress, TrainingJob
from model_service.training_process import ChildLauncher
from tests.integration.test_dask_training import PATIENT, dask_job
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows, training_strategy

NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler without workers."""
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=0) as started:
        yield started


async def broken(job: TrainingJob, database: Database) -> RunBroken:
    with pytest.raises(RunBroken) as found:
        await train_on_dask(job, database, {}, None, lambda *_: None)
    assert not Path(job.dataset_directory or "").exists()
    return found.value


async def test_a_scheduler_that_is_away(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "CONNECT_SECONDS", 1.0)
    error = await broken(dask_job(database, tmp_path, NOWHERE), database)
    assert error.code == "dask_scheduler_unavailable"
    assert NOWHERE in error.hint
    assert "DASK_SCHEDULER_ADDRESS" in error.hint


async def test_something_else_that_listens_there(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CONNECT_SECONDS", 1.0)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await broken(dask_job(database, tmp_path, f"tcp://127.0.0.1:{port}"), database)
        server.close()
    assert error.code == "dask_scheduler_unavailable"


async def test_a_scheduler_without_workers_or_with_others_than_ours(
    database: Database, lonely: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "WORKERS_SECONDS", 1.0)
    job = dask_job(database, tmp_path, lonely.address)
    error = await broken(job, database)
    assert error.code == "dask_no_workers"
    assert f"dask worker {lonely.address}" in error.hint
    lonely.start_workers("w-0")
    monkeypatch.setattr(subject, "__version__", "9.9")
    error = await broken(job, database)
    assert error.code == "dask_workers_unfit"
    assert "model-service 0.1.0; this service has model-service 9.9" in error.hint
    monkeypatch.undo()
    with pytest.raises(Refused, match="too_few_rows"):
        await train_on_dask(job, database, {}, None, lambda *_: None)
    assert not Path(job.dataset_directory or "").exists()


@pytest.mark.parametrize(("number", "code"), [(28, "disk_full"), (30, "dataset_not_writable")])
async def test_a_disk_that_takes_no_dataset(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "Error writing bytes to file")

    await store(database, imbalance_rows(2000, 3, assets=3))
    job = dask_job(database, tmp_path, NOWHERE)
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setattr(parquet_dataset, "_write_table", refuse)
    with pytest.raises(RunBroken) as found:
        await _lay_down(job, database, folder)
    assert found.value.code == code
    assert str(folder) in found.value.hint
    assert "TRAINING_DATASET_PATH" in found.value.hint


async def test_a_scheduler_that_dies_meanwhile(database: Database, lonely: DaskCluster, tmp_path: Path) -> None:
    await store(database, imbalance_rows(2000, 3, assets=3))
    lonely.start_workers("w-0")
    child = await ChildLauncher().launch(dask_job(database, tmp_path, lonely.address, strategy=PATIENT))
    async with asyncio.timeout(60):
        async for line in child.lines():
            if isinstance(line, Progress) and line.note.startswith("round 10 "):
                lonely.kill("scheduler")
    assert (line.kind, getattr(line, "code", "")) == ("failed", "dask_scheduler_lost"), line
    assert list((tmp_path / "datasets").iterdir()) == []


class FakeClient:
    """A client whose workers answer as they are told."""

    status = "running"

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    async def run(
        self, function: Any, *arguments: Any, on_error: str = "raise", workers: list[str] | None = None
    ) -> dict[str, Any]:
        asked = {worker: answer for worker, answer in self._answers.items() if worker in (workers or self._answers)}
        if None in asked.values():
            await asyncio.Event().wait()
        return {worker: answer(*arguments) if callable(answer) else answer for worker, answer in asked.items()}

    async def run_on_scheduler(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


async def refusal(folder: Path, answers: dict[str, Any]) -> RunBroken:
    with pytest.raises(RunBroken) as found:
        await Cluster(FakeClient(answers), NOWHERE).require_fit(folder)
    assert list(folder.iterdir()) == []
    return found.value


async def test_a_worker_without_our_code(tmp_path: Path) -> None:
    error = await refusal(tmp_path, {"tcp://a:1": ModuleNotFoundError("No module named 'model_service'")})
    assert error.code == "dask_workers_unfit"
    assert "tcp://a:1 cannot run our code (ModuleNotFoundError: No module named 'model_service')" in error.hint
    assert 'pip install "model-service[cpu,dask]"' in error.hint


async def test_a_worker_that_does_not_see_the_folder(tmp_path: Path) -> None:
    def answer(*arguments: Any) -> Any:
        return False if arguments else subject.installation()

    error = await refusal(tmp_path, {"tcp://a:1": answer})
    assert error.code == "dask_folder_not_shared"
    assert str(tmp_path) in error.hint
    assert "TRAINING_DATASET_PATH" in error.hint


async def test_a_worker_that_says_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subject, "PING_SECONDS", 0.1)
    monkeypatch.setattr(subject, "ANSWER_SECONDS", 0.1)
    client = FakeClient({"tcp://a:1": lambda: 1, "tcp://b:1": None})
    assert await Cluster(client, NOWHERE).silent(["tcp://a:1", "tcp://b:1"]) == {"tcp://b:1"}
    assert (await refusal(tmp_path, {"tcp://b:1": None})).code == "dask_workers_silent"


def test_the_innermost_message_of_xgboost_is_what_is_said() -> None:
    text = "[1] a.cc:83: x:\n\n- [b.cc:50|1]: Ring failed\n- [poll.h:206|1]: Poll timeout\nStack trace:\n [0] so"
    assert _said(ValueError(text)) == "ValueError: [poll.h:206|1]: Poll timeout"
    assert _said(AssertionError()) == "AssertionError: without a word"


async def test_only_xgboost_can_be_fitted_there(database: Database, tmp_path: Path) -> None:
    job = dask_job(database, tmp_path, NOWHERE, strategy=training_strategy(model_type="random_forest"))
    error = await broken(job, database)
    assert error.code == "engine_unsupported"
    assert "random_forest" in error.hint
