"""Connections to one PostgreSQL, pooled and single ones, that can all be ended at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import asyncpg

RELEASE_SECONDS = 0.5
"""How long a connection may take to end what its block left undone; then it is cut, and the pool makes another."""
CLOSE_SECONDS = 3.0

T = TypeVar("T")


class ConnectionPool:
    """A pool that whoever waits on can be freed from at any moment. Errors are the driver's own, and TimeoutError.

    Args:
        arguments: of `asyncpg.connect`.
        size: pooled connections at most.
        limit_seconds: of connecting, and of waiting for a free connection.
    """

    def __init__(self, arguments: Mapping[str, Any], *, size: int, limit_seconds: float) -> None:
        self._arguments = arguments
        self._limit_seconds = limit_seconds
        # No smallest size: the driver would see to it by itself, and write its failures into the log.
        self._pool: asyncpg.Pool = asyncpg.create_pool(
            **arguments, min_size=0, max_size=size, init=_set_codecs, reset=_reset_if_needed
        )
        self._single: set[asyncpg.Connection] = set()
        self._waiting: set[asyncio.Timeout] = set()
        self.end_reason: str | None = None

    async def open(self) -> None:
        """Connect once, so that an address that does not answer is known at once."""
        await self._pool
        try:
            await self.release(await self.acquire())
        except BaseException as error:
            self.end(str(error))
            raise

    async def acquire(self) -> asyncpg.pool.PoolConnectionProxy:
        """A free connection, to be given to `release`."""
        return await self._limited(self._pool.acquire())

    async def release(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        """Take a connection back; one that does not come to rest is cut, and the driver's error raised."""
        await self._pool.release(connection, timeout=RELEASE_SECONDS)

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pool, which the caller closes; `end` cuts it too."""
        connection = await self._limited(_connect(self._arguments))
        self._single.add(connection)
        connection.add_termination_listener(self._single.discard)
        return connection

    def end(self, reason: str) -> None:
        """Cut every connection: statements under way and attempts to get a connection fail at once."""
        self.end_reason = reason
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            if not limit.expired():
                limit.reschedule(now)
        for connection in tuple(self._single):
            connection.terminate()
        self._pool.terminate()

    async def close(self) -> None:
        """Close the pooled connections; open statements get three seconds."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _limited(self, work: Awaitable[T]) -> T:
        limit = asyncio.timeout(self._limit_seconds)
        self._waiting.add(limit)
        try:
            async with limit:
                return await work
        except TimeoutError as error:
            raise TimeoutError(self.end_reason or f"no connection within {self._limit_seconds:g} s") from error
        finally:
            self._waiting.discard(limit)


async def connect(arguments: Mapping[str, Any], limit_seconds: float) -> asyncpg.Connection:
    """A connection on its own. Raises one of UNAVAILABLE."""
    try:
        async with asyncio.timeout(limit_seconds):
            return await _connect(arguments)
    except TimeoutError as error:
        raise TimeoutError(f"no connection within {limit_seconds:g} s") from error


async def _connect(arguments: Mapping[str, Any]) -> asyncpg.Connection:
    connection: asyncpg.Connection = await asyncpg.connect(**arguments)
    await _set_codecs(connection)
    return connection


async def _set_codecs(connection: asyncpg.Connection) -> None:
    try:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    except BaseException:
        # Closing in good order, as the pool would, waits without a limit for a server that says nothing.
        connection.terminate()
        raise


async def _reset_if_needed(connection: asyncpg.Connection) -> None:
    """Statements here leave nothing behind in a session, so a full reset is paid for only after a fault."""
    if connection.is_in_transaction():
        await connection.reset()
