"""A PostgreSQL of the fault tests: durable, on a private TCP port, and killed, frozen and filled up at will."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from model_service.database.connection import DatabaseAddress
from model_service.database.embedded import NOT_YET
from model_service.database.embedded_binaries import find_binaries
from model_service.database.embedded_cluster import ENVIRONMENT, SUPERUSER, ensure_cluster, server_command
from model_service.database.embedded_places import fresh_socket_folder, prepare_home
from model_service.database.embedded_processes import processes_of
from tests.support.rabbitmq import GUARD

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 5.0
NETWORK = {"listen_addresses": "127.0.0.1", "track_commit_timestamp": "on"}
TRUST = "local all all trust\nhost all all 127.0.0.1/32 trust\n"


class PostgresNode:
    """A server whose data survive `stop` and `kill`. Started by root it runs as another user, as the embedded one does.

    Args:
        folder: for all that it writes; other users must be able to pass through; the caller removes it.
        port: a free one of 127.0.0.1.
        settings: of the server, beside those of the embedded one.
    """

    def __init__(self, folder: Path, port: int, settings: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._settings = {**NETWORK, "port": str(port), **(settings or {})}
        self._home = prepare_home(folder)
        self._binaries = find_binaries(self._home.account)
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives; it may have ended by itself."""
        return self._postmaster is not None and self._postmaster.poll() is None

    def address(self, database: str = "postgres") -> DatabaseAddress:
        """Straight to the server, past any proxy."""
        return DatabaseAddress("127.0.0.1", self.port, database, SUPERUSER)

    async def start(self) -> None:
        """Start, and wait until it answers. Raises RuntimeError with the end of its log when it does not."""
        assert not self.is_running, "PostgreSQL runs already"
        await asyncio.to_thread(self._launch)
        deadline = time.monotonic() + READY_SECONDS
        while not await self.answers():
            if not self.is_running or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start on port {self.port}:\n{self.log_tail()}")
            await asyncio.sleep(0.02)

    async def answers(self) -> bool:
        """Whether it takes a connection and runs a statement."""
        try:
            await self.execute("SELECT 1")
        except NOT_YET:
            return False
        return True

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """One statement over a connection of its own. Raises one of NOT_YET when the server is away."""
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=SUPERUSER, database=database, timeout=ANSWER_SECONDS
        )
        try:
            await connection.execute(statement, timeout=ANSWER_SECONDS)
        finally:
            connection.terminate()

    async def stop(self) -> None:
        """Shut down in order: sessions are ended, the data are written."""
        if self._postmaster is not None and self.is_running:
            self._postmaster.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._postmaster.wait, STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the postmaster and each of its children, and wait until all are gone."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
        if self._postmaster is not None:
            self._postmaster.kill()
            self._postmaster.wait()
        self._signal(signal.SIGKILL)
        while processes_of(self._home.data):
            time.sleep(0.01)
        self._postmaster = self._guard = None

    def pause(self) -> None:
        """Freeze every process: connections stay open, new ones are taken by the kernel, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let frozen processes go on."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The end of the server's log."""
        return self._home.log.read_text(errors="replace")[-3000:] if self._home.log.exists() else "no log"

    def _launch(self) -> None:
        ensure_cluster(self._home, self._binaries, durable=True)
        (self._home.data / "pg_hba.conf").write_text(TRUST)
        command = server_command(self._home, self._binaries, fresh_socket_folder(self._home), durable=True)
        command += [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        user, group = self._home.owner or (None, None)
        with self._home.log.open("ab") as log:
            self._postmaster = subprocess.Popen(
                command, user=user, group=group, extra_groups=None if user is None else [], env=ENVIRONMENT,
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        pid = str(self._postmaster.pid)
        self._guard = subprocess.Popen(["sh", "-c", GUARD, "guard", pid], stdin=subprocess.PIPE)

    def _signal(self, number: signal.Signals) -> None:
        for pid in processes_of(self._home.data):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
