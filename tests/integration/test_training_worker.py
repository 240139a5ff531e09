"""The training child as a process: what it reads, what it says, what it leaves, and when it dies."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model_service import training_worker
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.feature_rows import FeatureSet, register_feature_set
from model_service.learning import artifact_writer
from model_service.models.artifact import LoadedModel
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import Candidate, DatabaseCoordinates, TrainingJob
from tests.integration.test_idle_reader import none
from tests.support.stored_samples import store as store
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PASSWORD = "correct-horse-battery"


def job_on(database: Database, directory: Path, **changes: Any) -> TrainingJob:
    at = database.address
    coordinates = DatabaseCoordinates(
        host=at.host, port=at.port, database=at.database, user=at.user, password=PASSWORD, schema_name=at.schema
    )
    return training_job(str(directory), database=coordinates, **changes)


def start_child(*, code: str = "from model_service.training_worker import main; raise SystemExit(main())") -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def run_child(job: TrainingJob | str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, lines and standard error of one child."""
    body = job if isinstance(job, str) else job.model_dump_json()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_service.training_worker", "--parent", str(os.getpid()),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(body.encode())
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in output.decode().splitlines()], errors.decode()


async def test_a_candidate_is_made_twice_with_the_same_bytes(database: Database, tmp_path: Path) -> None:
    await store(database, imbalance_rows(2000, 3, assets=3))
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        started = time.monotonic()
        code, lines, errors = await run_child(job_on(database, tmp_path / name))
        took = time.monotonic() - started
        assert (code, lines[-1]["kind"]) == (0, "candidate"), errors
        assert took < 30
        results.append((Candidate.model_validate(lines[-1]), lines))
    (first, lines), (second, _) = results
    assert first.files == second.files
    assert list(first.report["seconds"]) == ["starting", "reading", "preparing", "fitting", "evaluating", "writing"]
    assert first.gate_passed
    assert {path.name for path in (tmp_path / "one").iterdir()} == set(first.files)
    content = {name: (tmp_path / "two" / name).read_bytes() for name in first.files}
    LoadedModel.from_files(content, first.files)
    progress = [line for line in lines if line["kind"] == "progress"]
    assert [line["phase"] for line in progress[:1] + progress[-1:]] == ["preparing", "evaluating"]
    assert any("round 10 of" in line["note"] for line in progress)
    (report,) = [line["report"] for line in progress if line.get("report") is not None]
    assert (report["rows"], report["fingerprint"]) == (2000, first.report["fingerprint"])
    assert PASSWORD not in json.dumps(lines) + errors


async def test_too_few_rows_are_refused(database: Database, tmp_path: Path) -> None:
    await store(database, imbalance_rows(50, 1))
    code, lines, _ = await run_child(job_on(database, tmp_path))
    assert code == 0
    assert (lines[-1]["kind"], lines[-1]["code"]) == ("refused", "too_few_rows")
    assert lines[-1]["report"]["rows"] == 50
    assert list(tmp_path.iterdir()) == []


async def test_a_device_that_is_not_there_is_a_failure_before_the_database_is_asked(tmp_path: Path) -> None:
    code, lines, _ = await run_child(training_job(str(tmp_path), device="cuda"))
    assert (code, lines[-1]["kind"], lines[-1]["code"]) == (1, "failed", "device_unavailable")
    assert "MODEL_TRAINING_DEVICE" in lines[-1]["hint"]
    assert list(tmp_path.iterdir()) == []


async def test_a_search_in_the_child_tells_its_trials_and_keeps_them(database: Database, tmp_path: Path) -> None:
    await store(database, imbalance_rows(2000, 3, assets=3))
    strategy = training_strategy(training={"search_trials": 3, "hyperparameters": {"rounds": 30}})
    code, lines, errors = await run_child(job_on(database, tmp_path, strategy=strategy))
    assert (code, lines[-1]["kind"]) == (0, "candidate"), errors
    assert [line["note"] for line in lines if line.get("note", "").startswith("trial")] == [
        "trial 1 of 3", "trial 2 of 3", "trial 3 of 3",
    ]  # fmt: skip
    assert len(lines[-1]["training_config"]["search"]["trials"]) == 3
    assert len(lines[-1]["report"]["walk_forward"]["folds"]) == 4


@pytest.mark.parametrize("state", ["missing", "not_empty"])
async def test_a_wrong_folder_is_a_failure(database: Database, tmp_path: Path, state: str) -> None:
    directory = tmp_path / "missing" if state == "missing" else tmp_path
    (tmp_path / "other").touch()
    code, lines, _ = await run_child(job_on(database, directory))
    assert code == 1
    assert (lines[-1]["kind"], lines[-1]["code"]) == ("failed", "output_not_writable")
    assert str(directory) in lines[-1]["hint"]


async def test_a_full_disk_is_a_failure_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:1])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(artifact_writer, "_write_through", full)
    with pytest.raises(OSError, match="No space left"):
        artifact_writer.write_artifact(tmp_path, {"a": b"abc"})
    assert list(tmp_path.iterdir()) == []


async def test_a_database_that_is_away_is_a_failure(tmp_path: Path) -> None:
    job = training_job(
        str(tmp_path), database=DatabaseCoordinates(host="127.0.0.1", port=1, database="d", user="u", password=PASSWORD)
    )
    code, lines, errors = await run_child(job)
    assert code == 1
    assert lines[-1]["code"] == "database_unavailable"
    assert "127.0.0.1:1/d" in lines[-1]["hint"]
    assert PASSWORD not in json.dumps(lines) + errors


async def test_a_missing_schema_is_a_failure(empty_database: Database, tmp_path: Path) -> None:
    code, lines, _ = await run_child(job_on(empty_database, tmp_path))
    assert code == 1
    assert lines[-1]["code"] == "database_refused"


async def test_a_job_that_cannot_be_read_shows_no_values() -> None:
    code, lines, errors = await run_child(json.dumps({"run_id": PASSWORD, "seed": [PASSWORD]}))
    assert code == 1
    assert lines[-1]["code"] == "invalid_job"
    assert "strategy" in lines[-1]["hint"]
    assert PASSWORD not in json.dumps(lines) + errors


async def test_the_xgboost_child_loads_neither_scikit_learn_nor_pandas(database: Database, tmp_path: Path) -> None:
    await store(database, imbalance_rows(2000, 3, assets=3))
    code = (
        "import sys; from model_service.training_worker import main; status = main(); "
        "heavy = [n for n in ('sklearn.base', 'pandas.core', 'skl2onnx', 'scipy.stats') if n in sys.modules]; "
        "print('heavy', heavy, file=sys.stderr); raise SystemExit(status)"
    )
    child = start_child(code=code)
    output, errors = await asyncio.to_thread(child.communicate, job_on(database, tmp_path).model_dump_json())
    assert child.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["kind"] == "candidate"
    assert "heavy []" in errors


def test_it_dies_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-m', 'model_service.training_worker'], "
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = start_child(code=code)
    pid = int(parent.stdout.readline())
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    descriptor = os.pidfd_open(pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert select.select([descriptor], [], [], 10)[0], "the child outlived its parent"
    os.close(descriptor)


def test_a_child_whose_parent_is_gone_already_does_not_start() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "model_service.training_worker", "--parent", str(os.getpid() + 1)],
        input="{}",
        capture_output=True,
        text=True,
    )
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (ImportError("x.so: failed to map segment from shared object"), "out_of_memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (OSError(28, "No space left on device", "/models/x"), "disk_full"),
        (PermissionError(13, "Permission denied", "/models/x"), "output_not_writable"),
        (KeyError("x"), "internal_error"),
    ],
)
def test_a_fault_has_a_code_and_a_hint(error: Exception, code: str) -> None:
    found, hint = training_worker._cause(error, training_job("/models/x"))
    assert found == code
    assert len(hint) > 20


async def test_rows_of_an_older_feature_set_and_draws_without_a_trade_reach_the_run(
    database: Database, tmp_path: Path
) -> None:
    older = FeatureSet("f0-0badcafe", ("book_imbalance", "return_1m"))
    await register_feature_set(database, older, datetime(2026, 1, 1, tzinfo=UTC))
    rows = imbalance_rows(2000, 3, assets=3)
    earlier, later = rows[:1000], rows[1000:]
    places = [FEATURE_NAMES.index(name) for name in older.features]
    await store(database, earlier, feature_set=older.name, features=earlier["features"][:, places].copy())
    await store(database, later)
    # One draw before the test block, which starts at row 1,600, and one in it.
    moments = [EPOCH + timedelta(microseconds=int(rows["decided_us"][place])) for place in (1500, 1900)]
    draws = [none(number, strategy_id="planted", decided_at=moment) for number, moment in enumerate(moments)]
    await PostgresDecisionStore(database).record((), draws, ())
    code, lines, errors = await run_child(job_on(database, tmp_path))
    assert (code, lines[-1]["kind"]) == (0, "candidate"), errors
    assert lines[-1]["report"]["rows"] == 2000
    assert lines[-1]["gate_passed"], "the edge is in a feature that both sets have"
    note = "read 2000 rows, 1000 of them written with other feature sets, 1 draws without a trade"
    assert note in [line.get("note") for line in lines]
