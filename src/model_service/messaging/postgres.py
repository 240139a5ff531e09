"""The transport of the embedded default: queues, bindings and messages are rows, and NOTIFY wakes who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from model_service.config.clock import Clock
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.messaging.backoff import Backoff
from model_service.messaging.postgres_lease import PostgresPublishingLease, columns_of
from model_service.messaging.postgres_session import DECLARE, queue_key
from model_service.messaging.postgres_subscription import PostgresSubscription
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingLease,
    PublishingRoute,
    PublishOutcome,
    QueueState,
    Subscription,
    TransportUnavailable,
)

log = structlog.get_logger()

PUBLISH = """
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[])
            WITH ORDINALITY AS g (exchange, routing_key, message_id, headers, body, expires_at, position)),
    routed AS (
        SELECT position, queue, message_id, headers::jsonb, body, expires_at
        FROM given JOIN model_service.message_queues ON exchange = '' AND queue = routing_key
        UNION ALL
        SELECT position, queue, message_id, headers::jsonb, body, expires_at
        FROM given JOIN model_service.message_bindings USING (exchange, routing_key)),
    inserted AS (
        INSERT INTO model_service.messages (queue, message_id, headers, body, expires_at)
        SELECT queue, message_id, headers, body, expires_at FROM routed ORDER BY position
        RETURNING queue),
    woken AS (SELECT pg_notify($7, queue) FROM (SELECT DISTINCT queue FROM inserted) AS queues)
    SELECT array_agg(DISTINCT position) AS positions, (SELECT count(*) FROM woken) AS woken FROM routed
"""
STATE = """
    SELECT queue,
           (SELECT count(*) FROM model_service.messages AS m
            WHERE m.queue = q.queue AND consumer_id IS NULL AND (expires_at IS NULL OR expires_at > $2)) AS messages,
           (SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
              AND (classid::bigint << 32) | objid::bigint = hashtextextended($3, 0)
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS consumers
    FROM model_service.message_queues AS q WHERE queue = $1
"""


class PostgresTransport:
    """Messages as rows of the service's own database.

    Args:
        database: an open Database; each subscription connects by itself besides the pool.
        clock: decides which messages have expired; virtual in the demo.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._subscriptions: list[PostgresSubscription] = []
        self._leases: list[PostgresPublishingLease] = []
        self._is_connected = False
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """As the port says."""
        self._look_again()

    async def close(self) -> None:
        """As the port says. The Database stays open: it is the caller's."""
        self._is_closed = True
        self._is_connected = False
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await asyncio.gather(*(lease.release() for lease in self._leases))
        self._subscriptions.clear()
        self._leases.clear()

    @property
    def is_connected(self) -> bool:
        """Whether PostgreSQL answered last time; after a failure it is tried again in the background."""
        return self._is_connected

    async def declare_queue(self, queue: str) -> None:
        """As the port says. Raises TransportUnavailable."""
        await self._execute(DECLARE, queue)

    async def queue_state(self, queue: str) -> QueueState | None:
        """As the port says. Raises TransportUnavailable."""
        key = queue_key(self._database.address.schema, queue)
        try:
            row = await self._database.fetchrow(STATE, queue, self._clock.now(), key)
        except DatabaseUnavailable as error:
            raise self._unavailable(error) from error
        self._note(None)
        return None if row is None else QueueState(row["queue"], row["messages"], row["consumers"])

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> Subscription:
        """As the port says."""
        subscription = PostgresSubscription(
            self._database, queue, prefetch=prefetch, declare=declare, clock=self._clock, on_state=self._note
        )
        self._subscriptions.append(subscription)
        return subscription

    async def lease_publishing(self, route: PublishingRoute) -> PublishingLease:
        """As the port says. Raises RoleTaken, TransportUnavailable."""
        lease = await PostgresPublishingLease.take(self._database, route, self._clock)
        self._leases = [one for one in self._leases if one.is_held] + [lease]
        return lease

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says: one statement for all. Raises TransportUnavailable."""
        now = self._clock.now()
        outcomes = [PublishOutcome.NOT_SENT] * len(messages)
        sendable = [i for i, m in enumerate(messages) if m.expires_at is None or m.expires_at > now]
        for index, outcome in zip(sendable, await self._insert([messages[i] for i in sendable]), strict=True):
            outcomes[index] = outcome
        return outcomes

    async def _insert(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        if not messages:
            return []
        sent = False
        try:
            async with self._database.acquire() as connection:
                sent = True
                statement = self._database.sql(PUBLISH)
                row = await connection.fetchrow(statement, *columns_of(messages), self._database.address.schema)
        except DatabaseUnavailable as error:
            if not sent:
                raise self._unavailable(error) from error
            self._note(str(error))
            return [PublishOutcome.UNKNOWN] * len(messages)
        self._note(None)
        routed = set(row["positions"] or ()) if row is not None else set()
        return [
            PublishOutcome.CONFIRMED if position in routed else PublishOutcome.UNROUTABLE
            for position in range(1, len(messages) + 1)
        ]

    async def _execute(self, statement: str, *arguments: object) -> None:
        try:
            await self._database.execute(statement, *arguments)
        except DatabaseUnavailable as error:
            raise self._unavailable(error) from error
        self._note(None)

    def _unavailable(self, error: DatabaseUnavailable) -> TransportUnavailable:
        self._note(str(error))
        return TransportUnavailable(str(error))

    def _note(self, reason: str | None) -> None:
        """Log the change, once, and look for the server's return when it went away."""
        was_connected, self._is_connected = self._is_connected, reason is None and not self._is_closed
        if self._is_connected and not was_connected:
            log.info("broker_connected", broker=str(self._database.address))
        elif was_connected and reason is not None:
            log.warning("broker_lost", broker=str(self._database.address), reason=reason)
            self._look_again()

    def _look_again(self) -> None:
        if not self._is_closed and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._until_it_answers(), name="postgres-transport-probe")

    async def _until_it_answers(self) -> None:
        backoff = Backoff()
        said = False
        while True:
            try:
                await self._database.fetchval("SELECT 1")
            except DatabaseUnavailable as error:
                if not said:
                    log.warning("broker_unreachable", broker=str(self._database.address), reason=str(error))
                said = True
                await asyncio.sleep(backoff.next_seconds())
            else:
                return self._note(None)
