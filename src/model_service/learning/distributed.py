"""Boosting on the workers of a Dask cluster, through XGBoost's Dask interface, to a model as `boosting.py` makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import xgboost
from dask import array as dask_array
from distributed.worker import thread_state
from xgboost import dask as xgboost_dask
from xgboost.collective import Config, get_rank

from model_service.learning.boosting import (
    REPORT_EVERY,
    BoostedModel,
    booster_parameters,
    finished,
    parent_booster,
    rounds_allowed,
)
from model_service.learning.dask_cluster import Cluster
from model_service.learning.estimators import FitRequest, known_inputs
from model_service.learning.parquet_dataset import Part, Partitions, parts_of, read_part
from model_service.learning.plan import Plan
from model_service.learning.refusal import Refused, RunBroken
from model_service.models.features import MODEL_INPUT_NAMES

ATTEMPTS = 3
LEAST_ROWS_PER_WORKER = 256
_COLLECTIVE_SECONDS = 120
_NOTICE_SECONDS = 5.0
_TOPIC = "model-service-training"
_WIDTH = len(MODEL_INPUT_NAMES)


@dataclass(frozen=True)
class Material:
    """What the workers learn from: the partitions and the plan that lies beside them, and the run that it is for."""

    run_id: str
    partitions: Partitions
    plan: Plan


async def fit_on_workers(
    cluster: Cluster, material: Material, request: FitRequest, on_note: Callable[[str], None]
) -> BoostedModel:
    """Fit on all workers, each on rows that it reads by itself; begins again on those left when one is lost.

    Args:
        material: where the rows are; what `request` holds of inputs is not used.
        request: as for `fit_boosted`; `threads` are those of a worker instead.
        on_note: what is worth saying on the way.

    Raises:
        Refused: as `fit_boosted`.
        RunBroken: `dask_workers_lost`, `dask_scheduler_lost`, `dask_no_workers` or `dask_training_failed`.
    """
    lost: set[str] = set()
    async with cluster.turn(lambda: on_note("waiting for another run on the same workers")):
        for attempt in range(1, ATTEMPTS + 1):
            workers = _wanted(await cluster.workers(), lost, material.plan)
            if not workers:
                break
            try:
                return await _fit_once(cluster, workers, material, request)
            except (Refused, RunBroken):
                raise
            except Exception as error:  # noqa: BLE001 - a lost worker shows as almost anything: Dask's, XGBoost's, ours
                lost |= await _lost_workers(cluster, workers, error)
                on_note(f"a worker was lost in attempt {attempt} of {ATTEMPTS}")
    raise _without_workers(len(lost))


def _without_workers(lost: int) -> RunBroken:
    return RunBroken(
        "dask_workers_lost",
        f"{lost} workers were lost while they fitted, most often for want of memory; see their logs, and give them "
        "more memory, or add workers.",
    )


def _wanted(workers: Sequence[str], lost: Set[str], plan: Plan) -> Sequence[str]:
    """Of the workers so many that each has enough to do: the less rows, the more talking."""
    rows = min(len(plan.split.train), 6 * len(plan.split.early_stopping))
    return [worker for worker in workers if worker not in lost][: max(1, rows // LEAST_ROWS_PER_WORKER)]


async def _fit_once(cluster: Cluster, workers: Sequence[str], material: Material, request: FitRequest) -> BoostedModel:
    client, parent = cluster.client, parent_booster(request)
    before = parent.num_boosted_rounds() if parent else 0
    rounds = rounds_allowed(request, before)
    parameters = booster_parameters(request)
    # As without Dask: binned at once, unless a parent's trees need the values themselves.
    matrix = xgboost_dask.DaskDMatrix if parent else xgboost_dask.DaskQuantileDMatrix
    binning = {} if parent else {"max_bin": parameters["max_bin"]}
    train = await _matrix(client, workers, material, "train", matrix, **binning)
    stopping = await _matrix(client, workers, material, "early_stopping", xgboost_dask.DaskDMatrix)
    del parameters["nthread"]
    with _followed(client, material.run_id, rounds, request.on_round), _without_lock():
        result = await xgboost_dask.train(
            client,
            parameters,
            train,
            rounds,
            evals=[(stopping, "early_stopping")],
            early_stopping_rounds=request.early_stopping_rounds,
            verbose_eval=False,
            xgb_model=parent,
            callbacks=[_Follower(material.run_id)],
            coll_cfg=Config(timeout=_COLLECTIVE_SECONDS, tracker_timeout=_COLLECTIVE_SECONDS),
        )
    model = finished(result["booster"], request, before)
    return replace(model, used={**model.used, "workers": len(workers)})


async def _matrix(
    client: distributed.Client, workers: Sequence[str], material: Material, block: str, kind: Any, **options: Any
) -> Any:
    """The rows of a block as a distributed matrix; the parts go round the workers, so that each has as many rows."""
    parts = parts_of(material.partitions, material.plan.split, block, len(workers))
    futures = [
        client.submit(
            _read, str(material.partitions.folder), part, workers=[workers[number % len(workers)]],
            allow_other_workers=True, pure=False,
        )
        for number, part in enumerate(parts)
    ]  # fmt: skip
    await _require_read(futures)
    inputs, labels, weights = _arrays(futures, parts)
    return await kind(client, inputs, labels, weight=weights, **options)


def _read(folder: str, part: Part) -> tuple[Any, Any, Any]:
    inputs, labels, weights = read_part(Path(folder), part)
    return known_inputs(inputs), labels, weights


async def _require_read(futures: Sequence[distributed.Future]) -> None:
    await distributed.wait(futures)
    for future in futures:
        if future.status == "error":
            error = await future.exception()
            if isinstance(error, distributed.KilledWorker):
                raise _without_workers(error.allowed_failures + 1)
            raise RunBroken(
                "dask_training_failed",
                f"a worker could not read its part of the dataset ({type(error).__name__}: {error}); is "
                "TRAINING_DATASET_PATH still there and readable for the workers?",
            )


def _arrays(futures: Sequence[distributed.Future], parts: Sequence[Part]) -> Iterator[Any]:
    """Inputs, labels and weights as arrays whose chunks stay where they were read."""
    read = [dask.delayed(future) for future in futures]
    for column, kind, width in ((0, np.float32, (_WIDTH,)), (1, np.int8, ()), (2, np.float32, ())):
        chunks = [
            dask_array.from_delayed(rows[column], (part.rows, *width), kind)
            for rows, part in zip(read, parts, strict=True)
        ]
        yield dask_array.concatenate(chunks)


async def _lost_workers(cluster: Cluster, workers: Sequence[str], error: Exception) -> set[str]:
    """Which of the workers have gone, or do not answer. Raises RunBroken when it was not for want of a worker."""
    if isinstance(error, CancelledError) or cluster.client.status != "running":
        raise cluster.lost() from error
    # The others hear of a death by their own connections, perhaps before the scheduler does.
    for _ in range(int(_NOTICE_SECONDS / 0.1)):
        gone = set(workers) - set(await cluster.workers())
        if gone:
            return gone
        await asyncio.sleep(0.1)
    silent = await cluster.silent(workers)
    if silent:
        return silent
    raise RunBroken("dask_training_failed", f"a worker said: {_said(error)}; see the logs of the workers.") from error


def _said(error: Exception) -> str:
    """The innermost message of an error, which XGBoost writes as the last line before its stack trace."""
    lines = [line for line in str(error).split("Stack trace:")[0].splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].removeprefix('- ') if lines else 'without a word'}"


@contextmanager
def _followed(
    client: distributed.Client, run_id: str, rounds: int, on_round: Callable[[int, int], None]
) -> Iterator[None]:
    """Hand on how far the workers say that they are."""

    def on_event(event: tuple[float, dict[str, Any]]) -> None:
        _, said = event
        if said["run_id"] == run_id:
            on_round(min(int(said["done"]), rounds), rounds)

    client.subscribe_topic(_TOPIC, on_event)
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic(_TOPIC)


class _Follower(xgboost.callback.TrainingCallback):
    """On a worker: says how far it is, and gives up when nobody waits for it any more.

    Dask cannot stop a thread. When the client has gone, killed or not, the scheduler cancels the task, which this reads
    from the worker's own record of it after each round.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Raises RuntimeError when the run was abandoned."""
        worker = distributed.get_worker()
        task = worker.state.tasks.get(thread_state.key)
        if task is None or task.state not in ("executing", "long-running"):
            raise RuntimeError(f"run {self._run_id} was abandoned in round {epoch + 1}")
        done = epoch + 1
        if done % REPORT_EVERY == 0 and get_rank() == 0:
            worker.log_event(_TOPIC, {"run_id": self._run_id, "done": done})
        return False


@contextmanager
def _without_lock() -> Iterator[None]:
    """Take XGBoost's own lock of the workers out of its way.

    Dask's MultiLock knows no leases: one whose holder is killed stays taken, and the next run on the same workers would
    wait for ever. The turn of the cluster stands in for it.
    """
    lock, distributed.MultiLock = distributed.MultiLock, _NoLock
    try:
        yield
    finally:
        distributed.MultiLock = lock


class _NoLock:
    def __init__(self, names: Sequence[str], client: distributed.Client) -> None:
        pass

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass
