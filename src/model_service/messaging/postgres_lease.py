"""Publishing as a role in the embedded transport: an advisory lock is the lease, and each message is accepted once.

The lock and the messages are of one connection. When it has gone, so has all that it could still have committed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import asyncpg

from model_service.config.clock import Clock
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE
from model_service.messaging.postgres_session import fetch_or_end
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingRoute,
    PublishOutcome,
    RoleTaken,
    TransportUnavailable,
)

CLOSE_SECONDS = 2.0
REMEMBERED = 1000
"""Message_ids that a successor is told; more than a predecessor can have claimed at once."""
FORGET_AFTER = 5000

LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
BIND = """
    WITH declared AS (
        INSERT INTO model_service.message_queues (queue) VALUES ($2) ON CONFLICT DO NOTHING)
    INSERT INTO model_service.message_bindings (exchange, routing_key, queue) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING
"""
PUBLISH = """
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[])
            WITH ORDINALITY AS g (exchange, routing_key, message_id, headers, body, expires_at, position)),
    routed AS (
        SELECT given.*, queue FROM given JOIN model_service.message_bindings USING (exchange, routing_key)),
    fresh AS (
        INSERT INTO model_service.accepted_messages (exchange, message_id)
        SELECT DISTINCT exchange, message_id FROM routed ON CONFLICT DO NOTHING RETURNING exchange, message_id),
    inserted AS (
        INSERT INTO model_service.messages (queue, message_id, headers, body, expires_at)
        SELECT queue, message_id, headers::jsonb, body, expires_at
        FROM routed JOIN fresh USING (exchange, message_id) ORDER BY position
        RETURNING queue),
    woken AS (SELECT pg_notify($7, queue) FROM (SELECT DISTINCT queue FROM inserted) AS queues)
    SELECT array_agg(DISTINCT position) AS positions, (SELECT count(*) FROM woken) AS woken FROM routed
"""
ACCEPTED = """
    SELECT message_id FROM model_service.accepted_messages WHERE exchange = $1 ORDER BY accepted_seq DESC LIMIT $2
"""
FORGET = """
    DELETE FROM model_service.accepted_messages WHERE exchange = $1 AND accepted_seq <= (
        SELECT accepted_seq FROM model_service.accepted_messages
        WHERE exchange = $1 ORDER BY accepted_seq DESC OFFSET $2 LIMIT 1)
"""


class PostgresPublishingLease:
    """One connection's right to publish on a route; see the port. Made by `take`."""

    def __init__(self, database: Database, connection: asyncpg.Connection, route: PublishingRoute, clock: Clock):
        self._database = database
        self._connection = connection
        self._route = route
        self._clock = clock
        self._is_bound = False
        self._since_forgetting = 0

    @classmethod
    async def take(cls, database: Database, route: PublishingRoute, clock: Clock) -> PostgresPublishingLease:
        """Take the role on a connection of its own. Raises RoleTaken, TransportUnavailable."""
        try:
            connection = await database.connect()
        except DatabaseUnavailable as error:
            raise TransportUnavailable(str(error)) from error
        lease = cls(database, connection, route, clock)
        if not (await lease._fetch(LOCK, f"{database.address.schema}:role:{route.role}"))[0][0]:
            await lease.release()
            raise RoleTaken(route.role)
        return lease

    @property
    def is_held(self) -> bool:
        """As the port says."""
        return not self._connection.is_closed()

    async def accepted(self, *, complete: bool) -> AsyncIterator[list[str]]:
        """As the port says: a predecessor's newest; what this lease publishes again is accepted once all the same."""
        if complete:
            await self._fetch(FORGET, self._route.exchange, REMEMBERED)
            if rows := await self._fetch(ACCEPTED, self._route.exchange, REMEMBERED):
                yield [row["message_id"] for row in rows]

    async def renew_route(self) -> None:
        """As the port says; here a missing binding is seen when something is published. Raises TransportUnavailable."""
        if not self._is_bound:
            await self._fetch(BIND, self._route.exchange, self._route.queue)
            self._is_bound = True

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says: one statement for all. Raises TransportUnavailable."""
        if not self.is_held:
            raise TransportUnavailable(f"PostgreSQL at {self._database.address}: the connection was lost")
        now = self._clock.now()
        outcomes = [PublishOutcome.NOT_SENT] * len(messages)
        sendable = [i for i, message in enumerate(messages) if message.expires_at is None or message.expires_at > now]
        for index, outcome in zip(sendable, await self._insert([messages[i] for i in sendable]), strict=True):
            outcomes[index] = outcome
        return outcomes

    async def release(self) -> None:
        """As the port says."""
        with suppress(*UNAVAILABLE):
            await self._connection.close(timeout=CLOSE_SECONDS)

    async def _insert(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        if not messages:
            return []
        try:
            (row,) = await self._fetch(PUBLISH, *columns_of(messages), self._database.address.schema)
        except TransportUnavailable:
            return [PublishOutcome.UNKNOWN] * len(messages)
        await self._forget_some(len(messages))
        routed = set(row["positions"] or ())
        self._is_bound = len(routed) == len(messages)
        return [
            PublishOutcome.CONFIRMED if position in routed else PublishOutcome.UNROUTABLE
            for position in range(1, len(messages) + 1)
        ]

    async def _forget_some(self, count: int) -> None:
        self._since_forgetting += count
        if self._since_forgetting >= FORGET_AFTER:
            self._since_forgetting = 0
            with suppress(TransportUnavailable):  # the messages are accepted; the lease says that it has ended
                await self._fetch(FORGET, self._route.exchange, REMEMBERED)

    async def _fetch(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement; what breaks it ends the lease. Raises TransportUnavailable."""
        return await fetch_or_end(self._database, self._connection, text, *arguments)


def columns_of(messages: Sequence[OutgoingMessage]) -> tuple[list[object], ...]:
    """Messages as the arrays that a publishing statement takes."""
    return (
        [message.exchange for message in messages],
        [message.routing_key for message in messages],
        [message.message_id for message in messages],
        [json.dumps(dict(message.headers)) for message in messages],
        [message.body for message in messages],
        [message.expires_at for message in messages],
    )
