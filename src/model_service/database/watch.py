"""Notices within five seconds that PostgreSQL has fallen silent, and when it answers again.

A network that swallows packets closes no connection: a statement would wait for its own limit, which must be long. So
a connection beside the pool asks for nothing once a second, and its limit can be short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from model_service.database.driver_errors import UNAVAILABLE, cause

INTERVAL_SECONDS = 1.0
LIMIT_SECONDS = 3.0
RETRY_SECONDS = 0.5
SLICES = 12
FAILURES = (*UNAVAILABLE, asyncpg.PostgresError)


class ServerWatch:
    """Asks until cancelled.

    Args:
        connect: opens another connection for the watch. Raises one of FAILURES.
        on_lost: called with the reason when the server has gone.
        resume: makes everything work again and returns a connection for the watch. Raises one of FAILURES while the
            server is away.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        on_lost: Callable[[str], None],
        resume: Callable[[], Awaitable[asyncpg.Connection]],
    ) -> None:
        self._connect = connect
        self._on_lost = on_lost
        self._resume = resume

    async def run(self, connection: asyncpg.Connection) -> None:
        """Until cancelled; begins with a connection, which becomes the watch's own."""
        while True:
            self._on_lost(await self._until_lost(connection))
            connection = await self._until_back()

    async def _until_lost(self, connection: asyncpg.Connection) -> str:
        """Ask over one connection after another; returns why the server does not answer any more."""
        while True:
            if await _falls_silent(connection):
                return f"no answer within {LIMIT_SECONDS:g} s"
            # Only this connection is known to have ended; whether the server has, the next one tells.
            try:
                connection = await self._reconnect()
            except FAILURES as error:
                return cause(error)

    async def _reconnect(self) -> asyncpg.Connection:
        while True:
            try:
                return await self._connect()
            except asyncpg.TooManyConnectionsError:
                # An answer: the server lives, and others are using it.
                await asyncio.sleep(INTERVAL_SECONDS)

    async def _until_back(self) -> asyncpg.Connection:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with suppress(*FAILURES):
                return await self._resume()


async def _falls_silent(connection: asyncpg.Connection) -> bool:
    """Ask again and again; true when there is no answer in time, false when the connection has ended."""
    try:
        while not connection.is_closed():
            await asyncio.sleep(INTERVAL_SECONDS)
            if not await _answers(connection):
                return True
        return False
    finally:
        connection.terminate()


async def _answers(connection: asyncpg.Connection) -> bool:
    """Whether the server says something in time, and be it that the connection ends."""
    asking = asyncio.ensure_future(connection.execute("SELECT 1"))
    try:
        # The limit is counted in slices of our own running time: a process that was held up itself, or stopped, must
        # not take its own silence for the server's.
        for _ in range(SLICES):
            done, _ = await asyncio.wait({asking}, timeout=LIMIT_SECONDS / SLICES)
            if done:
                return True
        return False
    finally:
        if not asking.done():
            connection.terminate()
        await asyncio.gather(asking, return_exceptions=True)
