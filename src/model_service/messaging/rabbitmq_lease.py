"""Publishing as a role that one connection holds: an exclusive queue is the lease, an echo queue is its memory.

The broker frees an exclusive queue when the connection that declared it has gone. Whoever declares it next therefore
knows that nothing of the predecessor is under way any more, and finds in the echo all that was accepted from it. Each
message is published in one transaction with its entry in the echo.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import aiormq.abc
import structlog
from aiormq.exceptions import ChannelLockedResource

from model_service.config.clock import Clock
from model_service.messaging.backoff import FIRST_SECONDS
from model_service.messaging.rabbitmq_connection import REFUSALS, BrokerConnection, ask, describe
from model_service.messaging.rabbitmq_echo import EchoReader, declare_echo, echo_queue, is_marker
from model_service.messaging.rabbitmq_publisher import publish_one
from model_service.messaging.rabbitmq_queues import bind_exchange, ensure_queue, throwaway_channel
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.rabbitmq_transaction import EchoedTransaction, commit_within, lasts
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingRoute,
    PublishOutcome,
    RoleTaken,
    TransportUnavailable,
)

log = structlog.get_logger()

ANSWER_SECONDS = 5.0
ROUTE_SECONDS = 1.0
"""How long exchange, queue and binding are taken to be there."""
SETTLE_SECONDS = 0.5
"""The broker frees the exclusive queue of a lost connection a moment before it has ended the connection's channels."""


class RabbitPublishingLease:
    """One connection's right to publish on a route; see the port. Made by `take`."""

    def __init__(
        self,
        connection: BrokerConnection,
        probing: aiormq.abc.AbstractChannel,
        transaction: EchoedTransaction,
        route: PublishingRoute,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._probing = probing
        self._transaction = transaction
        self._route = route
        self._clock = clock
        self._echo = EchoReader(connection, echo_queue(route.exchange))
        self._renewed_at = float("-inf")

    @classmethod
    async def take(cls, session: BrokerSession, route: PublishingRoute, clock: Clock) -> RabbitPublishingLease:
        """Take the role on the session's connection. Raises RoleTaken, TransportUnavailable."""
        connection = await session.connection(within_seconds=FIRST_SECONDS)
        await _take_role(connection, route.role)
        try:
            probing = await connection.channel_for("probe", confirms=True)
            transaction = await EchoedTransaction.open(connection, echo_queue(route.exchange))
            lease = cls(connection, probing, transaction, route, clock)
            await asyncio.sleep(SETTLE_SECONDS)
            await lease._open()
        except BaseException:
            connection.cut()
            raise
        log.info("publishing_role_taken", role=route.role)
        return lease

    @property
    def is_held(self) -> bool:
        """As the port says."""
        closed = self._connection.lost.is_set() or self._probing.is_closed or self._transaction.is_closed
        return not closed

    async def accepted(self, *, complete: bool) -> AsyncIterator[list[str]]:
        """As the port says. Raises TransportUnavailable."""
        marker = await self._echo.mark_end(self._probing) if complete else None
        ended = False
        while not ended and (batch := await self._echo.take(wait=complete)):
            named = [message_id for _, message_id in batch]
            ended = marker in named
            if accepted := [message_id for message_id in named if not is_marker(message_id)]:
                yield accepted
            await self._echo.acknowledge_up_to(batch[-1][0])

    async def renew_route(self) -> None:
        """As the port says; the order queue is declared as order-manager does. Raises TransportUnavailable."""
        if time.monotonic() - self._renewed_at < ROUTE_SECONDS:
            return
        try:
            await self._declare_route()
        except REFUSALS as error:
            log.error("route_refused", queue=self._route.queue, exchange=self._route.exchange, reason=describe(error))
            raise TransportUnavailable(
                f"RabbitMQ refused to bind {self._route.queue} to {self._route.exchange}: {describe(error)}"
            ) from error
        self._renewed_at = time.monotonic()

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says: after a probe, in one transaction. Raises TransportUnavailable."""
        if (reason := await self._why_closed()) is not None:
            raise TransportUnavailable(f"RabbitMQ takes no messages: {reason}")
        now = self._clock.now()
        lasting = [message for message in messages if lasts(message, now)]
        outcomes = await self._transact(lasting, now) if lasting else {}
        return [outcomes.get(message.message_id, PublishOutcome.NOT_SENT) for message in messages]

    async def release(self) -> None:
        """As the port says: the whole connection ends."""
        await self._connection.end()

    # Taking

    async def _open(self) -> None:
        try:
            await self._declare_route()
            await declare_echo(self._connection, self._route.exchange)
            await self._echo.open()
        except REFUSALS as error:
            raise TransportUnavailable(
                f"RabbitMQ refused the echo of {self._route.exchange}: {describe(error)}"
            ) from error
        self._renewed_at = time.monotonic()

    async def _declare_route(self) -> None:
        refusal = await ensure_queue(self._connection, self._route.queue)
        if refusal is not None and self._renewed_at == float("-inf"):
            log.warning("queue_has_other_arguments", queue=self._route.queue, reason=refusal)
        await bind_exchange(self._connection, self._route.exchange, self._route.queue)

    # Sending

    async def _why_closed(self) -> str | None:
        """Why the broker takes nothing now, if so: found out with a message to the role's own queue, which keeps none.

        A broker that lacks memory or disk says so only when something is published.
        """
        if not self.is_held:
            return "the connection was lost"
        if not self._connection.is_ready:
            return "it lacks memory or disk"
        probe = OutgoingMessage("", self._route.role, b"", "probe")
        try:
            outcome = await ask(publish_one(self._probing, probe, self._clock.now()), "take a probe", ANSWER_SECONDS)
        except (TransportUnavailable, *REFUSALS) as error:
            if self._connection.is_ready:
                self._connection.cut()
            return describe(error)
        if not self._connection.is_ready:
            return "it lacks memory or disk"
        return None if outcome is PublishOutcome.CONFIRMED else f"a probe was {outcome}"

    async def _transact(self, messages: Sequence[OutgoingMessage], now: datetime) -> dict[str, PublishOutcome]:
        """Outcomes by message_id; what has none was not sent."""
        try:
            return await self._put_and_commit(messages, now)
        except (TransportUnavailable, *REFUSALS) as error:
            if not self._connection.lost.is_set():
                log.error("publish_unconfirmed", count=len(messages), reason=describe(error))
            self._connection.cut()
            return {message.message_id: PublishOutcome.UNKNOWN for message in messages}
        except asyncio.CancelledError:
            # Nobody hears the broker's word any more.
            self._connection.cut()
            raise

    async def _put_and_commit(self, messages: Sequence[OutgoingMessage], now: datetime) -> dict[str, PublishOutcome]:
        await self._transaction.put(messages, now, ANSWER_SECONDS)
        if self._clock.now() - now > min(commit_within(message, now) for message in messages):
            # Their expirations count from the commit, so they would outlive their time.
            await self._transaction.roll_back()
            return {}
        returned = await self._transaction.commit(messages, ANSWER_SECONDS)
        confirmed = {message.message_id: PublishOutcome.CONFIRMED for message in messages}
        return confirmed | dict.fromkeys(returned, PublishOutcome.UNROUTABLE)


async def _take_role(connection: BrokerConnection, role: str) -> None:
    """Raises RoleTaken, TransportUnavailable."""
    async with throwaway_channel(connection, f"take the role {role}") as channel:
        # What comes into it is gone at once: nobody reads it.
        declaring = channel.queue_declare(role, exclusive=True, arguments={"x-message-ttl": 0})
        try:
            await ask(declaring, f"take the role {role}")
        except ChannelLockedResource:
            raise RoleTaken(role) from None
        except REFUSALS as error:
            raise TransportUnavailable(f"RabbitMQ refused the role {role}: {describe(error)}") from error
