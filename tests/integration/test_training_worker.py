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
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_service import training_worker
from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.sample_reader import parse_copy, read_samples
from model_service.learning import artifact_writer
from model_service.models.artifact import LoadedModel
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.models.job import Candidate, DatabaseCoordinates, TrainingJob
from tests.support.training_rows import imbalance_rows, training_job

COLUMNS = (
    "signal_id", "revision", "strategy_id", "asset_code", "feature_set", "side", "intent", "is_warmup", "decided_us",
    "exit_us", "available_us", "label", "exit_rule", "net_return", "probability_buy", "probability_sell",
    "probability_none", "features", "opposite_net_return",
)  # fmt: skip
PASSWORD = "correct-horse-battery"


async def store(database: Database, rows: NDArray[np.void], **changes: Any) -> None:
    """Put rows into `samples`, each known from the end of its label on."""
    records = []
    for row in rows:
        values = {
            "signal_id": uuid.UUID(bytes=row["signal_id"].tobytes()), "revision": 1, "strategy_id": "planted",
            "feature_set": FEATURE_SET, "intent": "open", "available_us": int(row["exit_us"]),
            "is_warmup": bool(row["is_warmup"]), "features": row["features"].tobytes(),
            **{name: int(row[name]) for name in ("asset_code", "side", "decided_us", "exit_us", "label", "exit_rule")},
            **{name: float(row[name]) for name in ("net_return", "opposite_net_return", *COLUMNS[14:17])},
        }  # fmt: skip
        records.append(tuple({**values, **changes}[name] for name in COLUMNS))
    async with database.acquire() as connection:
        await connection.copy_records_to_table("samples", schema_name="model_service", columns=COLUMNS, records=records)


async def read(database: Database, as_of_us: int) -> Any:
    return await read_samples(
        database, "planted", feature_set=FEATURE_SET, feature_count=len(FEATURE_NAMES), as_of_us=as_of_us
    )


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


async def test_every_value_is_read_as_it_was_stored(database: Database) -> None:
    rows = imbalance_rows(300, 1)
    await store(database, rows[::-1])
    found = await read(database, 10**18)
    assert found.dropped == dict.fromkeys(found.dropped, 0)
    for name in rows.dtype.names or ():
        assert np.array_equal(found.rows[name], rows[name], equal_nan=name == "features"), name


async def test_only_the_latest_revision_known_then_counts(database: Database) -> None:
    rows = imbalance_rows(40, 1)
    await store(database, rows)
    changed = rows[:10].copy()
    changed["net_return"] = 0.5
    await store(database, changed, revision=2, available_us=10**17)
    await store(database, imbalance_rows(3, 2), feature_set="f1-00000000")
    await store(database, imbalance_rows(4, 3), intent="exit")
    await store(database, imbalance_rows(5, 4), features=b"\0" * 8)
    await store(database, imbalance_rows(6, 5), intent="reduce")
    await store(database, imbalance_rows(7, 6), strategy_id="another")
    before, after = await read(database, 10**17 - 1), await read(database, 10**17)
    assert len(before.rows) == len(after.rows) == 46
    assert int(np.sum(before.rows["net_return"] == 0.5)) == 0
    assert int(np.sum(after.rows["net_return"] == 0.5)) == 10
    assert int(np.sum(after.rows["is_reduction"])) == 6
    assert before.dropped["not_yet_known"] == 10
    assert after.dropped == {
        "not_yet_known": 0, "not_an_opening": 4, "other_feature_set": 3, "damaged_features": 5,
        "superseded_revision": 10,
    }  # fmt: skip


async def test_a_damaged_copy_is_an_error(database: Database) -> None:
    with pytest.raises(ValueError, match="signature"):
        parse_copy(b"x" * 40, 3)
    with pytest.raises(ValueError, match="whole number of rows"):
        parse_copy(b"PGCOPY\n\xff\r\n\x00" + bytes(8) + b"abc\xff\xff", 3)
    assert len((await read(database, 10**18)).rows) == 0


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


async def test_reading_from_a_database_that_is_away_says_so() -> None:
    database = Database(DatabaseAddress("127.0.0.1", 1, "none", "nobody"))
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1"):
        await read(database, 0)
