"""One run of the training child whose rows are fitted on a Dask cluster: laid down, fitted there, judged here.

Of a row the child holds its times, label, asset, weight and block, some 65 bytes, and 100 while weights are worked out,
whatever the number of features. Beside these one partition is in memory, and at the end the rows that the model is
calibrated and judged on, at most CALIBRATION_ROWS and TEST_ROWS of them.
"""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_service.database.connection import Database
from model_service.database.feature_rows import CURRENT
from model_service.database.idle_reader import read_idle_draws
from model_service.database.sample_stream import stream_samples
from model_service.learning.dask_cluster import connected
from model_service.learning.dataset import IdleDraws, Outline, dataset_from_rows, idle_draws_from_rows
from model_service.learning.dataset_report import DatasetSummary
from model_service.learning.distributed import Material, fit_on_workers
from model_service.learning.estimators import Block
from model_service.learning.fitting import fit_request
from model_service.learning.incumbent import IncumbentModel
from model_service.learning.parquet_dataset import Partitions, PartitionWriter, read_rows, thinned, write_plan
from model_service.learning.plan import Plan, facts_of, horizon_us, parent_end_us, plan_run
from model_service.learning.progress import OnProgress
from model_service.learning.refusal import RunBroken
from model_service.learning.run import HeldOut, conclude, kept
from model_service.models.features import MODEL_INPUT_NAMES
from model_service.models.job import Candidate, TrainingJob
from model_service.models.samples import Rows

CALIBRATION_ROWS = 250_000
TEST_ROWS = 1_000_000
REFERENCE_ROWS = 50_000
"""Of the training block, for the quantiles that drift is measured against."""
_CONNECTED, _LAID_DOWN, _FITTING = 0.01, 0.14, 0.15


@dataclass(frozen=True)
class _LaidDown:
    """A dataset on disk: the rows of all partitions in outline, and what they serve for."""

    partitions: Partitions
    outline: Outline
    plan: Plan


async def train_on_dask(
    job: TrainingJob,
    database: Database,
    parent_files: Mapping[str, bytes],
    incumbent: IncumbentModel | None,
    on_progress: OnProgress,
) -> tuple[Candidate, dict[str, bytes]]:
    """Make a candidate as `train_candidate` does, fitted on the workers; the dataset's folder is gone afterwards.

    Raises:
        Refused: the rows, or the parent, do not allow a model.
        RunBroken: the cluster does not.
        DatabaseUnavailable, asyncpg.PostgresError, OSError: as they are.
    """
    address, folder = _cluster_of(job)
    with _writing(folder):
        folder.mkdir(parents=True)
    try:
        async with connected(address) as cluster:
            workers = await cluster.workers()
            await cluster.require_fit(folder)
            on_progress("preparing", _CONNECTED, f"{len(workers)} workers of {address}")
            laid_down = await _lay_down(job, database, folder)
            plan = laid_down.plan
            on_progress("preparing", _LAID_DOWN, kept(plan), plan.report)
            blocks = _without_inputs(laid_down, "train"), _without_inputs(laid_down, "early_stopping")
            request = fit_request(job, *blocks, parent_files, on_progress)
            material = Material(job.run_id, laid_down.partitions, plan)
            fitted = await fit_on_workers(cluster, material, request, _note(on_progress))
        idle = await _idle_draws(job, database, laid_down)
        held_out = replace(_held_out(laid_down, idle), incumbent=incumbent)
        return conclude(job, held_out, fitted, on_progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cluster_of(job: TrainingJob) -> tuple[str, Path]:
    if job.strategy.model_type != "xgboost":
        hint = f"TRAINING_ENGINE=dask fits xgboost only, not {job.strategy.model_type}; set one or the other."
        raise RunBroken("engine_unsupported", hint)
    if job.dask_scheduler_address is None or job.dataset_directory is None:
        raise RunBroken("invalid_job", "a run on Dask needs the scheduler's address and a folder for its dataset.")
    return job.dask_scheduler_address, Path(job.dataset_directory)


async def _lay_down(job: TrainingJob, database: Database, folder: Path) -> _LaidDown:
    """Write the rows as partitions, then the plan beside them. Raises Refused."""
    writer, summary, unusable = PartitionWriter(folder), DatasetSummary(), Counter[str]()
    after_us = parent_end_us(job) if job.training_type == "incremental" else None

    def take(rows: Rows) -> None:
        dataset, left_out = dataset_from_rows(rows, job.as_of_us)
        unusable.update(left_out)
        if after_us is not None:
            dataset = dataset.take(dataset.decided_us > after_us)
        if len(dataset):
            summary.add(dataset)
            with _writing(folder):
                writer.add(dataset)

    dropped = await stream_samples(
        database,
        job.strategy.strategy_id,
        current=CURRENT,
        as_of_us=job.as_of_us,
        rules=job.strategy.label_rules,
        on_rows=take,
    )
    with _writing(folder):
        partitions = writer.finish()
    outline = summary.outline()
    report = summary.report({**dropped, **unusable}, horizon_us(job))
    plan = plan_run(job, outline, report, summary.uniqueness())
    with _writing(folder):
        write_plan(partitions, plan)
    return _LaidDown(partitions, outline, plan)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """An error of the disk is one of this folder, and not of the database that the rows come from."""
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "dataset_not_writable"
        hint = f"the dataset could not be written to {folder}: {error.strerror or error}; see to TRAINING_DATASET_PATH."
        raise RunBroken(code, hint) from error


def _without_inputs(laid_down: _LaidDown, block: str) -> Block:
    """A block as far as it is here: labels and weights, which also make the base score."""
    rows = laid_down.plan.split.blocks()[block]
    nothing = np.empty((0, len(MODEL_INPUT_NAMES)), dtype=np.float32)
    return Block(nothing, laid_down.outline.labels[rows], laid_down.plan.weights[rows])


def _held_out(laid_down: _LaidDown, idle: IdleDraws) -> HeldOut:
    split = laid_down.plan.split
    calibration, test = thinned(split.calibration, CALIBRATION_ROWS), thinned(split.test, TEST_ROWS)
    report = {**laid_down.plan.report, "rows_calibration_used": len(calibration), "rows_test_used": len(test)}
    # The draws without a trade are thinned as the trades are: a value per decision is about both.
    draws = thinned(np.arange(len(idle)), len(idle) * len(test) // len(split.test))
    return HeldOut(
        calibration=read_rows(laid_down.partitions, calibration),
        test=read_rows(laid_down.partitions, test),
        facts=facts_of(laid_down.outline, replace(laid_down.plan, report=report)),
        idle=idle.take(draws),
        training_features=read_rows(laid_down.partitions, thinned(split.train, REFERENCE_ROWS)).features,
    )


async def _idle_draws(job: TrainingJob, database: Database, laid_down: _LaidDown) -> IdleDraws:
    decided_us = laid_down.outline.decided_us[laid_down.plan.split.test]
    start_us, end_us = int(decided_us[0]), int(decided_us[-1])
    draws = await read_idle_draws(database, job.strategy.strategy_id, current=CURRENT, start_us=start_us, end_us=end_us)
    return idle_draws_from_rows(draws.rows).between(start_us, end_us)


def _note(on_progress: OnProgress) -> Callable[[str], None]:
    return lambda note: on_progress("fitting", _FITTING, note)
