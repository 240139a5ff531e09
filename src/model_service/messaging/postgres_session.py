"""One consumer's own connection to PostgreSQL: while it lives, the messages that the consumer has taken stay taken."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE, cause, is_unavailable
from model_service.messaging.transport import TransportUnavailable

STATEMENT_SECONDS = 5.0
CLOSE_SECONDS = 2.0

# A lock of its own says "this consumer lives"; a shared one, of which the key is the queue, counts the consumers.
ENTER = "SELECT pg_advisory_lock($1), pg_advisory_lock_shared(hashtextextended($2, 0))"
DECLARE = "INSERT INTO model_service.message_queues (queue) VALUES ($1) ON CONFLICT DO NOTHING"
RELEASE = """
    WITH released AS (
        UPDATE model_service.messages SET consumer_id = NULL WHERE consumer_id = $1 RETURNING 1)
    SELECT pg_notify($2, $3) WHERE EXISTS (SELECT FROM released)
"""


def queue_key(schema: str, queue: str) -> str:
    """What is hashed to the advisory lock that all consumers of a queue share."""
    return f"{schema}:queue:{queue}"


class ConsumerSession:
    """A dedicated connection that holds the consumer's advisory lock and listens for new messages.

    Args:
        on_message: called when a message may have come for the queue, and when the connection is lost.
    """

    def __init__(self, database: Database, queue: str, connection: asyncpg.Connection, on_message: Callable[[], None]):
        self.consumer_id = secrets.randbits(63)
        self._database = database
        self._queue = queue
        self._connection = connection
        self._on_message = on_message
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    async def open(
        cls, database: Database, queue: str, *, declare: bool, on_message: Callable[[], None]
    ) -> ConsumerSession:
        """Connect and enter the queue. Raises TransportUnavailable."""
        try:
            connection = await database.connect()
        except DatabaseUnavailable as error:
            raise TransportUnavailable(str(error)) from error
        session = cls(database, queue, connection, on_message)
        await session._enter(declare)
        return session

    @property
    def is_open(self) -> bool:
        """Whether the connection lives, as far as is known."""
        return not self._connection.is_closed()

    async def fetch(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement.

        Whatever breaks it, a cancellation too, ends the session: then nobody knows whether it took messages, and the
        end of the connection gives them back. Raises TransportUnavailable.
        """
        async with self._one_at_a_time:
            return await fetch_or_end(self._database, self._connection, text, *arguments)

    async def close(self) -> None:
        """Give back what is taken and disconnect; a connection that does not answer is cut, which gives it back too."""
        with suppress(TransportUnavailable):
            await self.fetch(RELEASE, self.consumer_id, self._database.address.schema, self._queue)
        with suppress(*UNAVAILABLE):
            await self._connection.close(timeout=CLOSE_SECONDS)

    async def _enter(self, declare: bool) -> None:
        schema = self._database.address.schema
        self._connection.add_termination_listener(self._on_end)
        await self.fetch(ENTER, self.consumer_id, queue_key(schema, self._queue))
        if declare:
            await self.fetch(DECLARE, self._queue)
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await self._connection.add_listener(schema, self._on_notice)
        except BaseException as error:
            _end_with(self._database, self._connection, error)
            raise

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._queue:
            self._on_message()

    def _on_end(self, _connection: Any) -> None:
        self._on_message()


async def fetch_or_end(
    database: Database, connection: asyncpg.Connection, text: str, *arguments: object
) -> list[asyncpg.Record]:
    """Run one statement on a connection that stands for something; whatever breaks it, a cancellation too, ends it.

    Raises TransportUnavailable where waiting may mend it.
    """
    try:
        return await connection.fetch(database.sql(text), *arguments, timeout=STATEMENT_SECONDS)
    except BaseException as error:
        _end_with(database, connection, error)
        raise


def _end_with(database: Database, connection: asyncpg.Connection, error: BaseException) -> None:
    """End the connection. Raises TransportUnavailable where waiting may mend what `error` says."""
    connection.terminate()
    if is_unavailable(error):
        raise TransportUnavailable(f"PostgreSQL at {database.address}: {cause(error)}") from error
