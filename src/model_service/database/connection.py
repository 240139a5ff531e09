"""The pool: every statement is qualified, has a time limit, and runs in UTC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import asyncpg
import structlog

from model_service.database.sqlstate import is_conflict, is_server_state

log = structlog.get_logger()
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
"""What PostgreSQL or its driver says when the server or the connection has gone, and at no other time."""
UNAVAILABLE = (
    *GONE,
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What an attempt to connect may raise. Inside a block these may just as well be errors of the caller's own."""


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
        command_timeout_seconds: limit of one statement.
        session_settings: server settings of each session besides the time zone.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        pool_size: int = 8,
        connect_timeout_seconds: float = 5.0,
        command_timeout_seconds: float = 30.0,
        session_settings: dict[str, str] | None = None,
    ) -> None:
        self.address = address
        self._pool_size = pool_size
        self._connect_timeout = connect_timeout_seconds
        self._command_timeout = command_timeout_seconds
        self._session_settings = {"timezone": "UTC", "application_name": "model-service", **(session_settings or {})}
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connect. Raises DatabaseUnavailable."""
        if self._pool is not None:
            return
        try:
            self._pool = await asyncpg.create_pool(
                **self.connect_arguments(),
                min_size=1,
                max_size=self._pool_size,
                init=_set_codecs,
                reset=_reset_if_needed,
            )
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error

    def connect_arguments(self) -> dict[str, Any]:
        """Arguments of `asyncpg.connect` for a connection outside the pool, such as a consumer's own."""
        return {
            "host": self.address.host,
            "port": self.address.port,
            "database": self.address.database,
            "user": self.address.user,
            "password": self.address.password,
            "timeout": self._connect_timeout,
            "command_timeout": self._command_timeout,
            "server_settings": self._session_settings,
        }

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pool, of which the caller is the owner. Raises DatabaseUnavailable."""
        try:
            connection: asyncpg.Connection = await asyncpg.connect(**self.connect_arguments())
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error
        try:
            await _set_codecs(connection)
        except BaseException as error:
            connection.terminate()
            if _is_lost(connection, error):
                raise self._unavailable(error) from error
            raise
        return connection

    async def close(self) -> None:
        """Close all connections; open statements get three seconds."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(3.0):
                await pool.close()
        except TimeoutError:
            pool.terminate()

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
        if self._pool is None:
            raise DatabaseUnavailable(f"PostgreSQL at {self.address}: not connected")
        pool = self._pool
        try:
            connection = await pool.acquire(timeout=self._connect_timeout)
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error
        try:
            yield connection
        except Exception as error:
            if is_conflict(error):
                raise TransactionConflict(self._unavailable(error)) from error
            if _is_lost(connection, error) or is_server_state(error):
                raise self._unavailable(error) from error
            raise
        finally:
            await _give_back(pool, connection)

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

    def _unavailable(self, error: BaseException) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"PostgreSQL at {self.address}: {_cause(error)}")


@lru_cache(maxsize=512)
def _in_schema(text: str, schema: str) -> str:
    if schema == "model_service":
        return text
    return (
        text.replace("model_service.", f"{schema}.")
        .replace("SCHEMA model_service", f"SCHEMA {schema}")
        .replace("SCHEMA IF NOT EXISTS model_service", f"SCHEMA IF NOT EXISTS {schema}")
    )


async def _set_codecs(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


def _is_lost(connection: Connection, error: BaseException) -> bool:
    if isinstance(error, GONE):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # Also the driver's word for wrong arguments and wrong use, which no waiting would mend.
        return _is_closed(connection)
    return isinstance(error, OSError | TimeoutError) and _is_from_driver(error)


def _is_closed(connection: Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool takes a lost connection back at once, and then lets nobody ask


def _is_from_driver(error: BaseException) -> bool:
    """Whether the driver raised `error`: the time limit of a statement and a caller's own look the same otherwise."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "asyncpg"


async def _reset_if_needed(connection: Connection) -> None:
    """Statements here leave nothing behind in a session, so a full reset is paid for only after a fault."""
    if connection.is_in_transaction():
        await connection.reset()


async def _give_back(pool: asyncpg.Pool, connection: asyncpg.pool.PoolConnectionProxy) -> None:
    try:
        await pool.release(connection)
    except UNAVAILABLE as error:
        # The block has ended, well or not; the pool has dropped the connection and opens another.
        log.warning("database_connection_dropped", cause=_cause(error))


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
