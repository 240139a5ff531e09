"""The database: every statement is qualified, has a time limit, and runs in UTC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import asyncpg
import structlog

from model_service.database import pool
from model_service.database.driver_errors import (
    UNAVAILABLE,
    Connection,
    cancellation_behind,
    cause,
    is_confused,
    is_lost,
)
from model_service.database.sessions import SETTINGS, SessionNames
from model_service.database.sqlstate import is_conflict, is_server_state
from model_service.database.watch import ServerWatch

__all__ = ["Connection", "Database", "DatabaseAddress", "DatabaseUnavailable", "TransactionConflict"]

log = structlog.get_logger()
NOT_CONNECTED = "not connected"


class DatabaseUnavailable(Exception):  # noqa: N818 - the state of the world, not a programming error
    """PostgreSQL cannot be reached now; the caller waits and tries again. The text says which one and why."""


class TransactionConflict(DatabaseUnavailable):
    """PostgreSQL gave the transaction up in favour of others (deadlock, serialization); it may be tried again."""


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where PostgreSQL is. `host` may be the folder of a unix socket."""

    host: str
    port: int
    database: str
    user: str
    password: str | None = None
    schema: str = "model_service"

    def __repr__(self) -> str:
        return f"DatabaseAddress({self})"

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database} schema {self.schema}"


class Database:
    """A pool of connections to one PostgreSQL.

    SQL is written with the schema's default name, `model_service.`, and is translated when the setting names another.

    Args:
        address: where PostgreSQL is.
        pool_size: connections at most.
        connect_timeout_seconds: limit of connecting, and of waiting for a free connection.
        command_timeout_seconds: limit of one statement.
        session_settings: server settings of each session besides those of `sessions.SETTINGS`.
        watched: whether a silent server is noticed within five seconds (`watch.py`). Then all connections are cut:
            statements under way fail at once, new ones while it is away, and connections are made anew when it is back.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        pool_size: int = 8,
        connect_timeout_seconds: float = 3.0,
        command_timeout_seconds: float = 30.0,
        session_settings: dict[str, str] | None = None,
        watched: bool = False,
    ) -> None:
        self.address = address
        self._pool_size = pool_size
        self._connect_timeout = connect_timeout_seconds
        self._command_timeout = command_timeout_seconds
        self._session_settings = {**SETTINGS, **(session_settings or {})}
        self._watched = watched
        self._names = SessionNames()
        self._pool: pool.ConnectionPool | None = None
        self._watching: asyncio.Task[None] | None = None
        self._away_for = NOT_CONNECTED

    async def open(self) -> None:
        """Connect. Raises DatabaseUnavailable."""
        if self._pool is not None or self._watching is not None:
            return
        opening = self._new_pool()
        try:
            await opening.open()
            if self._watched:
                watch = ServerWatch(self._connect_watch, self._lose, self._resume)
                self._watching = asyncio.create_task(watch.run(await opening.connect()), name="database-watch")
        except UNAVAILABLE as error:
            opening.end(cause(error))
            raise self._unavailable(cause(error)) from error
        self._pool = opening

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pool, of which the caller is the owner. Raises DatabaseUnavailable."""
        try:
            if self._pool is not None:
                return await self._pool.connect()
            if self._watching is None:
                return await pool.connect(self._arguments(), self._connect_timeout)
        except UNAVAILABLE as error:
            raise self._unavailable(cause(error)) from error
        raise self._unavailable(self._away_for)

    async def close(self) -> None:
        """Close all connections; open statements get three seconds."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
        closing, self._pool = self._pool, None
        self._away_for = NOT_CONNECTED
        if closing is not None:
            await closing.close()

    def sql(self, text: str) -> str:
        """`text` with our tables in the schema of the settings."""
        return _in_schema(text, self.address.schema)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection of the pool.

        Errors of the block pass as they are, cancellation and its own TimeoutError and OSError included.

        Raises:
            DatabaseUnavailable: there is no connection to be had, it was lost inside the block, a statement of the
                block ran into the time limit, or the state of the server forbids it (disk full, read only).
            TransactionConflict: the transaction was given up in favour of others.
        """
        taken_from = self._pool
        if taken_from is None:
            raise self._unavailable(self._away_for)
        try:
            connection = await taken_from.acquire()
        except UNAVAILABLE as error:
            raise self._unavailable(cause(error)) from error
        try:
            yield connection
        except Exception as error:
            if is_conflict(error):
                raise TransactionConflict(str(self._unavailable(cause(error)))) from error
            if is_confused(error):
                connection.terminate()
            if is_lost(connection, error) or is_server_state(error):
                _let_cancellation_pass(error)
                raise self._unavailable(taken_from.end_reason or cause(error)) from error
            raise
        finally:
            await _give_back(taken_from, connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction that is committed at the end of the block. Raises as `acquire`.

        DatabaseUnavailable while it was being committed leaves open whether it was.
        """
        async with self.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self.acquire() as connection:
            return await connection.fetch(self.sql(text), *arguments)

    async def fetchrow(self, text: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(self.sql(text), *arguments)

    async def fetchval(self, text: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchval(self.sql(text), *arguments)

    async def execute(self, text: str, *arguments: object) -> str:
        """Run one statement; returns its command tag."""
        async with self.acquire() as connection:
            return str(await connection.execute(self.sql(text), *arguments))

    async def executemany(self, text: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each row, in one transaction."""
        async with self.acquire() as connection:
            await connection.executemany(self.sql(text), rows)

    def _arguments(self) -> dict[str, Any]:
        return {
            "host": self.address.host,
            "port": self.address.port,
            "database": self.address.database,
            "user": self.address.user,
            "password": self.address.password,
            "timeout": self._connect_timeout,
            "command_timeout": self._command_timeout,
            "server_settings": {"application_name": self._names.renew(), **self._session_settings},
        }

    def _new_pool(self) -> pool.ConnectionPool:
        return pool.ConnectionPool(self._arguments(), size=self._pool_size, limit_seconds=self._connect_timeout)

    async def _connect_watch(self) -> asyncpg.Connection:
        assert self._pool is not None, "there is a pool for as long as the server is not known to be away"
        return await self._pool.connect()

    def _lose(self, reason: str) -> None:
        """PostgreSQL has gone: whoever waits for it is told so now."""
        lost, self._pool = self._pool, None
        self._away_for = reason
        log.warning("database_lost", database=str(self.address), reason=reason)
        if lost is not None:
            lost.end(reason)

    async def _resume(self) -> asyncpg.Connection:
        """Connect anew; nobody is served before it is decided what the lost sessions have done."""
        opening = self._new_pool()
        try:
            await opening.open()
            connection = await opening.connect()
            await self._names.end_former(connection)
        except BaseException as error:
            opening.end(cause(error))
            raise
        self._pool = opening
        log.info("database_back", database=str(self.address))
        return connection

    def _unavailable(self, reason: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"PostgreSQL at {self.address}: {reason}")


@lru_cache(maxsize=512)
def _in_schema(text: str, schema: str) -> str:
    if schema == "model_service":
        return text
    return (
        text.replace("model_service.", f"{schema}.")
        .replace("SCHEMA model_service", f"SCHEMA {schema}")
        .replace("SCHEMA IF NOT EXISTS model_service", f"SCHEMA IF NOT EXISTS {schema}")
    )


def _let_cancellation_pass(error: Exception) -> None:
    cancellation = cancellation_behind(error)
    if cancellation is not None:
        raise cancellation


async def _give_back(taken_from: pool.ConnectionPool, connection: asyncpg.pool.PoolConnectionProxy) -> None:
    try:
        await taken_from.release(connection)
    except UNAVAILABLE as error:
        # The block has ended, well or not; the pool has dropped the connection and opens another.
        log.warning("database_connection_dropped", cause=cause(error))
