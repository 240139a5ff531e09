"""The embedded transport: messages as rows of the same PostgreSQL that holds everything else.

A queue is a name, a message is a row, an unacknowledged message belongs to a consumer. A consumer holds an advisory
lock on a connection of its own for as long as it lives; messages whose consumer's lock nobody holds are free again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import Any

import asyncpg

from model_service.config.clock import Clock
from model_service.database.connection import UNAVAILABLE, Database, DatabaseUnavailable
from model_service.messaging.transport import (
    Delivery,
    OutgoingMessage,
    PublishOutcome,
    QueueState,
    TransportUnavailable,
)

CHANNEL = "model_service_messages"
RECOVERY_SECONDS = 2.0
"""How often a waiting consumer looks for messages of consumers that have died."""

DECLARE_QUEUE = "INSERT INTO model_service.message_queues (queue) VALUES ($1) ON CONFLICT DO NOTHING"
BIND = """
    INSERT INTO model_service.message_bindings (exchange, routing_key, queue) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING
"""
QUEUE_STATE = """
    SELECT (SELECT count(*) FROM model_service.messages AS m WHERE m.queue = q.queue AND m.consumer_id IS NULL) AS ready,
           (SELECT count(DISTINCT consumer_id) FROM model_service.messages AS m WHERE m.queue = q.queue) AS consumers
    FROM model_service.message_queues AS q WHERE queue = $1
"""
PUBLISH = """
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[])
            WITH ORDINALITY AS g (exchange, routing_key, message_id, headers, body, expires_at, place)
    ), routed AS (
        SELECT g.*, q.queue FROM given AS g JOIN model_service.message_queues AS q
            ON g.exchange = '' AND q.queue = g.routing_key
        UNION ALL
        SELECT g.*, b.queue FROM given AS g JOIN model_service.message_bindings AS b
            ON g.exchange <> '' AND b.exchange = g.exchange AND b.routing_key = g.routing_key
    ), stored AS (
        INSERT INTO model_service.messages (queue, message_id, headers, body, expires_at)
        SELECT queue, message_id, headers::jsonb, body, expires_at FROM routed ORDER BY place
        RETURNING queue
    ), told AS (
        SELECT pg_notify($7, queue) FROM (SELECT DISTINCT queue FROM stored) AS queues
    )
    SELECT DISTINCT place, (SELECT count(*) FROM told) AS told FROM routed
"""
CLAIM = """
    UPDATE model_service.messages SET consumer_id = $1, deliveries = deliveries + 1
    WHERE message_seq IN (
        SELECT message_seq FROM model_service.messages
        WHERE queue = $2 AND consumer_id IS NULL ORDER BY message_seq LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING message_seq, body, headers, message_id, deliveries, expires_at
"""
ACKNOWLEDGE = "DELETE FROM model_service.messages WHERE message_seq = ANY($1::bigint[]) AND consumer_id = $2"
GIVE_BACK = """
    UPDATE model_service.messages SET consumer_id = NULL
    WHERE message_seq = ANY($1::bigint[]) AND consumer_id = $2
"""
RELEASE_ALL = "UPDATE model_service.messages SET consumer_id = NULL WHERE consumer_id = $1"
RELEASE_DEAD = """
    UPDATE model_service.messages SET consumer_id = NULL
    WHERE queue = $1 AND consumer_id IS NOT NULL AND consumer_id NOT IN (
        SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


class PostgresTransport:
    """Publish, consume and look at queues that are rows."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._subscriptions: list[PostgresSubscription] = []
        self._started = False

    async def start(self) -> None:
        """Nothing to connect: the database's pool is the connection."""
        self._started = True

    async def close(self) -> None:
        """Close all subscriptions."""
        self._started = False
        for subscription in self._subscriptions:
            await subscription.close()

    @property
    def is_connected(self) -> bool:
        """Whether the database's pool is open."""
        return self._started

    async def declare_exchange_with_queue(self, exchange: str, queue: str) -> None:
        """A queue that messages to `exchange` with its name as routing key reach. Raises TransportUnavailable."""
        await self.declare_queue(queue)
        await self._run(BIND, exchange, queue)

    async def declare_queue(self, queue: str) -> None:
        """A queue. Raises TransportUnavailable."""
        await self._run(DECLARE_QUEUE, queue)

    async def queue_state(self, queue: str) -> QueueState | None:
        """A look; None when there is no such queue. Raises TransportUnavailable."""
        rows = await self._run(QUEUE_STATE, queue)
        return QueueState(queue, rows[0]["ready"], rows[0]["consumers"]) if rows else None

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> PostgresSubscription:
        """Consume `queue`, declaring it first where `declare` is set."""
        subscription = PostgresSubscription(self._database, self._clock, queue, prefetch=prefetch, declare=declare)
        self._subscriptions.append(subscription)
        return subscription

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """Store all in one statement; what no queue takes is unroutable. Raises TransportUnavailable."""
        if not messages:
            return []
        rows = await self._run(PUBLISH, *_columns(messages), CHANNEL)
        routed = {row["place"] for row in rows}
        return [
            PublishOutcome.CONFIRMED if place in routed else PublishOutcome.UNROUTABLE
            for place in range(1, len(messages) + 1)
        ]

    async def _run(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            return await self._database.fetch(text, *arguments)
        except DatabaseUnavailable as error:
            raise TransportUnavailable(str(error)) from error


class PostgresSubscription:
    """A consumer of one queue, with a connection of its own that holds its lock and hears notifications."""

    def __init__(self, database: Database, clock: Clock, queue: str, *, prefetch: int, declare: bool) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._consumer_id = secrets.randbits(62)
        self._connection: asyncpg.Connection | None = None
        self._unsettled = 0
        self._news = asyncio.Event()
        self._next_recovery = 0.0

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._queue

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        """Up to `limit` messages in order; see the port."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            self._news.clear()
            deliveries = await self._claim(limit)
            if deliveries or wait_seconds <= 0:
                return deliveries
            left = deadline - loop.time()
            if left <= 0:
                return []
            await self._wait_for_news(min(left, RECOVERY_SECONDS))

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these for good."""
        await self._settle(ACKNOWLEDGE, deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put these back for another try."""
        await self._settle(GIVE_BACK, deliveries)

    async def close(self) -> None:
        """Stop consuming; what is unsettled goes back to the queue."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        try:
            await connection.execute(self._database.sql(RELEASE_ALL), self._consumer_id)
            await connection.close(timeout=2.0)
        except (*UNAVAILABLE, asyncpg.PostgresError):
            connection.terminate()

    async def _claim(self, limit: int) -> list[Delivery]:
        room = min(limit, self._prefetch - self._unsettled)
        if room <= 0:
            return []
        connection = await self._connected()
        try:
            rows = await connection.fetch(self._database.sql(CLAIM), self._consumer_id, self._queue, room)
            if not rows and await self._recover(connection):
                rows = await connection.fetch(self._database.sql(CLAIM), self._consumer_id, self._queue, room)
        except UNAVAILABLE as error:
            raise self._lost(error) from error
        rows.sort(key=lambda row: row["message_seq"])
        return await self._without_expired(connection, rows)

    async def _without_expired(self, connection: asyncpg.Connection, rows: list[asyncpg.Record]) -> list[Delivery]:
        now = self._clock.now()
        expired = [row["message_seq"] for row in rows if row["expires_at"] is not None and row["expires_at"] <= now]
        if expired:
            await connection.execute(self._database.sql(ACKNOWLEDGE), expired, self._consumer_id)
        gone = set(expired)
        deliveries = [_delivery(row) for row in rows if row["message_seq"] not in gone]
        self._unsettled += len(deliveries)
        return deliveries

    async def _recover(self, connection: asyncpg.Connection) -> bool:
        """Free what dead consumers hold, at most once in RECOVERY_SECONDS; whether there was any."""
        now = asyncio.get_running_loop().time()
        if now < self._next_recovery:
            return False
        self._next_recovery = now + RECOVERY_SECONDS
        return str(await connection.execute(self._database.sql(RELEASE_DEAD), self._queue)) != "UPDATE 0"

    async def _settle(self, statement: str, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        self._unsettled = max(0, self._unsettled - len(deliveries))
        connection = self._connection
        if connection is None or connection.is_closed():
            # The session is lost, and with it the lock: these messages come again by themselves.
            return
        try:
            await connection.execute(
                self._database.sql(statement), [delivery.tag for delivery in deliveries], self._consumer_id
            )
        except UNAVAILABLE as error:
            raise self._lost(error) from error

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._unsettled = 0
        self._consumer_id = secrets.randbits(62)
        try:
            connection = await self._database.connect()
            await connection.execute("SELECT pg_advisory_lock($1)", self._consumer_id)
            await connection.add_listener(CHANNEL, self._heard)
            if self._declare:
                await connection.execute(self._database.sql(DECLARE_QUEUE), self._queue)
        except DatabaseUnavailable as error:
            raise TransportUnavailable(str(error)) from error
        except UNAVAILABLE as error:
            raise self._lost(error) from error
        self._connection = connection
        return connection

    async def _wait_for_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._queue:
            self._news.set()

    def _lost(self, error: BaseException) -> TransportUnavailable:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        return TransportUnavailable(f"PostgreSQL at {self._database.address}: {error or type(error).__name__}")


def _columns(messages: Sequence[OutgoingMessage]) -> tuple[list[Any], ...]:
    return (
        [message.exchange for message in messages],
        [message.routing_key for message in messages],
        [message.message_id for message in messages],
        [json.dumps(dict(message.headers)) for message in messages],
        [message.body for message in messages],
        [message.expires_at for message in messages],
    )


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(row["message_seq"], row["body"], row["headers"], row["message_id"], row["deliveries"] > 1)
