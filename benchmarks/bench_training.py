"""A whole training run, child and all, against a bare read and a bare fit of the same rows, in turn.

The rows lie in a PostgreSQL of its own, with an edge that can be found; boosting goes on for all of its 200 rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import structlog

from benchmarks.figure import Figure
from benchmarks.servers import private_database
from model_service.config.training import TrainingParameters
from model_service.database.connection import Database
from model_service.database.feature_rows import CURRENT
from model_service.database.sample_reader import read_samples
from model_service.learning.boosting import booster_parameters
from model_service.learning.estimators import FitRequest
from model_service.learning.run import prepare
from model_service.models.job import Candidate, DatabaseCoordinates, TrainingJob
from model_service.training_process import ChildLauncher, ChildProcess
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

LARGE, SMALL = 1_000_000, 10_000
REPETITIONS = 3
ROUNDS = 200
THREADS = 2
PATIENCE = 1000
LARGE_LIMIT, SMALL_LIMIT_SECONDS, MEMORY_LIMIT_MB = 1.25, 3.0, 1500.0
FLOOR = [sys.executable, "-m", "benchmarks.training_floor"]


def run() -> Iterator[Figure]:
    """`read_1m_vs_floor`, `train_1m_vs_floor`, `train_1m_peak_memory`, `train_10k_vs_floor`."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield from asyncio.run(_compare())


@dataclass(frozen=True)
class Took:
    """What one run of the child cost, and what its bare counterpart did, in seconds and MB."""

    child: float
    peak_mb: float
    read: float
    bare_read: float
    bare_fit: float

    @property
    def floor(self) -> float:
        """Seconds of the bare read and the bare fit."""
        return self.bare_read + self.bare_fit


async def _compare() -> list[Figure]:
    async with private_database() as database:
        large = await _repeat(database, "large", LARGE)
        small = await _repeat(database, "small", SMALL)
    over = median(one.child - one.floor for one in small)
    floor = median(one.floor for one in small)
    return [
        _figure("read_1m_vs_floor", [one.read for one in large], [one.bare_read for one in large], None),
        _figure("train_1m_vs_floor", [one.child for one in large], [one.floor for one in large], LARGE_LIMIT),
        _memory(max(one.peak_mb for one in large)),
        Figure(
            "train_10k_vs_floor", round((floor + over) / floor, 3), round(floor + over, 2), round(floor, 2),
            f"seconds; at most {SMALL_LIMIT_SECONDS} s over the floor", len(small),
            round((floor + SMALL_LIMIT_SECONDS) / floor, 3),
        ),
    ]  # fmt: skip


def _figure(name: str, ours: list[float], floors: list[float], limit: float | None) -> Figure:
    ratio = median(mine / floor for mine, floor in zip(ours, floors, strict=True))
    return Figure(name, round(ratio, 3), round(median(ours), 2), round(median(floors), 2), "seconds", len(ours), limit)


def _memory(peak_mb: float) -> Figure:
    ratio = round(peak_mb / MEMORY_LIMIT_MB, 3)
    unit = "MB of the child at its peak, against the promise"
    return Figure("train_1m_peak_memory", ratio, round(peak_mb), MEMORY_LIMIT_MB, unit, REPETITIONS, 1.0)


async def _repeat(database: Database, strategy_id: str, rows: int) -> list[Took]:
    strategy = training_strategy(
        strategy_id=strategy_id,
        training=TrainingParameters(hyperparameters={"rounds": ROUNDS}, early_stopping_rounds=PATIENCE),
    )
    at = database.address
    place = DatabaseCoordinates(host=at.host, port=at.port, database=at.database, user=at.user, password=at.password)
    await store(database, imbalance_rows(rows, seed=rows, assets=4), strategy_id=strategy_id)
    await _settle(database)
    with tempfile.TemporaryDirectory(prefix="model-service-bench-") as folder:
        job = training_job(folder, strategy=strategy, threads=THREADS, database=place)
        bare = await _bare_job(database, job, Path(folder) / "matrix.npz", rows)
        return [await _once(database, job, bare, Path(folder) / str(turn)) for turn in range(REPETITIONS)]


async def _settle(database: Database) -> None:
    """Rows that have just come are not written and counted while they are read."""
    async with database.acquire() as connection:
        await connection.execute("VACUUM ANALYZE model_service.samples", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)


async def _once(database: Database, job: TrainingJob, bare: dict[str, Any], folder: Path) -> Took:
    folder.mkdir()
    bare_read, bare_fit = await _run_bare(bare)
    started = time.perf_counter()
    await read_samples(database, job.strategy.strategy_id, current=CURRENT, as_of_us=job.as_of_us)
    read = time.perf_counter() - started
    child, peak_mb = await _run_child(job.model_copy(update={"output_directory": str(folder)}))
    return Took(child, peak_mb, read, bare_read, bare_fit)


async def _run_child(job: TrainingJob) -> tuple[float, float]:
    """Seconds until it has ended, and the most memory that it held, in MB."""
    started = time.perf_counter()
    child = await ChildLauncher().launch(job)
    watching = asyncio.create_task(_peak_mb(child))
    lines = [line async for line in child.lines()]
    seconds = time.perf_counter() - started
    verdict = lines[-1]
    assert isinstance(verdict, Candidate), verdict
    assert verdict.training_config["hyperparameters"]["rounds"] == ROUNDS
    return seconds, await watching


async def _peak_mb(child: ChildProcess) -> float:
    """The kernel's own high-water mark, read until the process is gone."""
    peak = 0.0
    while True:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return peak
        marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        if not marks:  # it has ended, and nobody has asked how
            return peak
        peak = float(marks[0]) / 1024
        await asyncio.sleep(0.02)


async def _bare_job(database: Database, job: TrainingJob, matrix: Path, rows: int) -> dict[str, Any]:
    """What the floor is told: the matrix and the parameters that the child arrives at."""
    samples = await read_samples(database, job.strategy.strategy_id, current=CURRENT, as_of_us=job.as_of_us)
    block = prepare(job, samples.rows, samples.dropped).block("train")
    np.savez(matrix, inputs=block.inputs, labels=block.labels, weights=block.weights)
    hyperparameters = job.strategy.training.hyperparameters
    request = FitRequest("xgboost", block, None, job.seed, THREADS, lambda *_: None, hyperparameters=hyperparameters)
    address = asdict(database.address)
    return {
        "database": {name: address[name] for name in ("host", "port", "database", "user", "password")},
        "strategy_id": job.strategy.strategy_id,
        "rows": rows,
        "threads": THREADS,
        "matrix": str(matrix),
        "parameters": booster_parameters(request),
        "rounds": ROUNDS,
    }


async def _run_bare(job: dict[str, Any]) -> tuple[float, float]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*FLOOR, stdin=pipe, stdout=pipe, env={**os.environ})
    output, _ = await process.communicate(json.dumps(job).encode())
    assert process.returncode == 0
    took = json.loads(output)
    return took["read_seconds"], took["fit_seconds"]
