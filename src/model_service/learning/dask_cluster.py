"""A Dask scheduler and its workers, as far as a run needs them: reached, fit for it, and one run's at a time."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import distributed
import pyarrow
import xgboost
from distributed.comm import CommClosedError

from model_service import __version__
from model_service.learning.refusal import RunBroken

CONNECT_SECONDS = 10.0
WORKERS_SECONDS = 30.0
ANSWER_SECONDS = 60.0
TURN_SECONDS = 1.0
PING_SECONDS = 10.0
CLOSE_SECONDS = 3.0
_TURN = ["model-service-training"]
_PROBE = "probe"


class Cluster:
    """A connected scheduler; all its workers serve one run.

    Args:
        client: a started one of the running event loop.
        address: of the scheduler, as it was given.
    """

    def __init__(self, client: distributed.Client, address: str) -> None:
        self.client = client
        self._address = address

    async def workers(self) -> list[str]:
        """Addresses of the running workers, by name, after waiting for the first.

        Raises RunBroken with `dask_no_workers` when none comes, `dask_scheduler_lost` when the scheduler has gone.
        """
        try:
            await self.client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise RunBroken(
                "dask_no_workers",
                f"the scheduler at {self._address} has had no worker for {WORKERS_SECONDS:g} s; "
                f"start some: dask worker {self._address}.",
            ) from error
        except OSError as error:
            raise self.lost() from error
        return await self._running()

    async def require_fit(self, folder: Path) -> None:
        """Make sure that every worker has what the run needs, and sees its folder.

        Raises RunBroken with `dask_workers_unfit` or `dask_folder_not_shared`.
        """
        await self._require_same_installation()
        await self._require_shared(folder)

    async def silent(self, workers: Sequence[str]) -> set[str]:
        """Which of the workers the scheduler still counts although they do not answer."""
        answers = await asyncio.gather(*(self._answers(worker) for worker in workers))
        return {worker for worker, answered in zip(workers, answers, strict=True) if not answered}

    @asynccontextmanager
    async def turn(self, on_wait: Callable[[], None]) -> AsyncIterator[None]:
        """The right to train: one run at a time has it, since two on the same workers would wait for each other.

        Args:
            on_wait: called when another run has it.
        """
        if not await self._take_turn():
            on_wait()
            while not await self._take_turn():  # noqa: ASYNC110 - the other run may be killed, which sets no event
                await asyncio.sleep(TURN_SECONDS)
        try:
            yield
        finally:
            if self.client.status == "running":
                await self.client.run_on_scheduler(_end_turn, self.client.id)

    async def _take_turn(self) -> bool:
        return bool(await self.client.run_on_scheduler(_take_turn, self.client.id))

    async def _answers(self, worker: str) -> bool:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.client.run(os.getpid, workers=[worker])
        except (TimeoutError, OSError):
            return False
        return True

    async def _running(self) -> list[str]:
        try:
            workers = (await self.client.scheduler.identity())["workers"]
        except OSError as error:
            raise self.lost() from error
        running = [(str(facts["name"]), address) for address, facts in workers.items() if facts["status"] == "running"]
        return [address for _, address in sorted(running)]

    def lost(self) -> RunBroken:
        """What to raise when the scheduler has gone during the run."""
        return RunBroken(
            "dask_scheduler_lost",
            f"the scheduler at {self._address} went away during the run; see its log, then request the run again.",
        )

    async def _require_same_installation(self) -> None:
        own = installation()
        for name, found in (await self._ask_everyone(installation)).items():
            if isinstance(found, Exception):
                raise _unfit(name, f"cannot run our code ({type(found).__name__}: {found})")
            differing = {package: version for package, version in found.items() if version != own[package]}
            if differing:
                wanted = ", ".join(f"{package} {own[package]}" for package in differing)
                given = ", ".join(f"{package} {version}" for package, version in differing.items())
                raise _unfit(name, f"has {given}; this service has {wanted}")

    async def _require_shared(self, folder: Path) -> None:
        probe = folder / _PROBE
        probe.write_text(str(folder))
        try:
            answers = await self._ask_everyone(_has_file, str(probe), with_scheduler=False)
        finally:
            probe.unlink()
        for name, seen in answers.items():
            if seen is not True:
                raise RunBroken(
                    "dask_folder_not_shared",
                    f"{name} does not see {folder}; TRAINING_DATASET_PATH must be a folder that has the same path on "
                    "this machine and on every worker, such as a network share.",
                )

    async def _ask_everyone(
        self, function: Callable[..., Any], *arguments: Any, with_scheduler: bool = True
    ) -> Mapping[str, Any]:
        """The answer of every worker, and of the scheduler, by who it is; an exception where one was raised there."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await self.client.run(function, *arguments, on_error="return")
                named = {f"the worker {address}": answer for address, answer in answers.items()}
                if with_scheduler:
                    named["the scheduler"] = await self._ask_scheduler(function, *arguments)
        except TimeoutError as error:
            raise RunBroken(
                "dask_workers_silent",
                f"a worker of {self._address} gave no answer for {ANSWER_SECONDS:g} s; restart it.",
            ) from error
        return named

    async def _ask_scheduler(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self.client.run_on_scheduler(function, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever was raised over there is the answer
            return error


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Cluster]:
    """A connection to the scheduler; what it holds for us on the workers is released with it, also by our death.

    Raises RunBroken with `dask_scheduler_unavailable`.
    """
    client = distributed.Client(address, asynchronous=True, timeout=CONNECT_SECONDS, name="model-service")
    cluster = Cluster(client, address)
    try:
        await _connect(client, address)
        yield cluster
    except (CommClosedError, CancelledError) as error:
        raise cluster.lost() from error
    finally:
        await client.close(timeout=CLOSE_SECONDS)


async def _connect(client: distributed.Client, address: str) -> None:
    try:
        await client
    except Exception as error:  # what another program at that port says is anything, to Dask even a want of memory
        raise RunBroken(
            "dask_scheduler_unavailable",
            f"no Dask scheduler answers at {address} within {CONNECT_SECONDS:g} s; start it (dask scheduler), or "
            "correct DASK_SCHEDULER_ADDRESS.",
        ) from error


def installation() -> dict[str, str]:
    """What must be the same everywhere: code travels as Python's bytecode, and the versions shape the model."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "model-service": __version__,
        "xgboost": str(xgboost.__version__),
        "pyarrow": str(pyarrow.__version__),
        "distributed": str(distributed.__version__),
    }


def _take_turn(client: str, dask_scheduler: Any = None) -> bool:
    """On the scheduler, which does one thing at a time: whether the client has the turn from now on.

    A holder that is no longer connected, since it was killed, has lost it.
    """
    holder = dask_scheduler.get_metadata(_TURN, default=None)
    if holder != client and holder in dask_scheduler.clients:
        return False
    dask_scheduler.set_metadata(_TURN, client)
    return True


def _end_turn(client: str, dask_scheduler: Any = None) -> None:
    if dask_scheduler.get_metadata(_TURN, default=None) == client:
        dask_scheduler.set_metadata(_TURN, None)


def _has_file(path: str) -> bool:
    return Path(path).is_file()


def _unfit(name: str, what: str) -> RunBroken:
    return RunBroken(
        "dask_workers_unfit",
        f'{name} {what}; install the same there as here: pip install "model-service[cpu,dask]".',
    )
