"""Publishing as a role that one connection holds: an exclusive queue is the lease, an echo queue is its memory.

The broker frees an exclusive queue when the connection that declared it has gone. Whoever declares it next therefore
knows that nothing of the predecessor is under way any more, and finds in the echo all that was accepted from it.
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
from model_service.messaging.rabbitmq_echo import EchoReader, declare_echo, echo_queue, is_marker, late_echo_queue
from model_service.messaging.rabbitmq_publisher import publish_one
from model_service.messaging.rabbitmq_queues import bind_exchange, ensure_queue, throwaway_channel
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingRoute,
    PublishOutcome,
    RoleTaken,
    TransportUnavailable,
)

log = structlog.get_logger()

CONFIRM_SECONDS = 5.0
WINDOW = 32
"""Messages that wait for the broker's word at the same time."""
ROUTE_SECONDS = 1.0
"""How long a binding is taken to be there. With the echo bound as well, the broker never returns a message."""
SETTLE_SECONDS = 0.5
"""The broker frees the exclusive queue of a lost connection a moment before it has ended the connection's channels."""


class RabbitPublishingLease:
    """One connection's right to publish on a route; see the port. Made by `take`."""

    def __init__(
        self,
        connection: BrokerConnection,
        channel: aiormq.abc.AbstractChannel,
        route: PublishingRoute,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._route = route
        self._clock = clock
        self._echo = EchoReader(connection, echo_queue(route.exchange))
        self._late_echo = EchoReader(connection, late_echo_queue(route.exchange))
        self._renewed_at = float("-inf")

    @classmethod
    async def take(cls, session: BrokerSession, route: PublishingRoute, clock: Clock) -> RabbitPublishingLease:
        """Take the role on the session's connection. Raises RoleTaken, TransportUnavailable."""
        connection = await session.connection(within_seconds=FIRST_SECONDS)
        await _take_role(connection, route.role)
        try:
            channel = await connection.channel_for("publish signals", confirms=True)
            lease = cls(connection, channel, route, clock)
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
        return not self._connection.lost.is_set() and not self._channel.is_closed

    async def accepted(self, *, complete: bool) -> AsyncIterator[list[str]]:
        """As the port says. Raises TransportUnavailable."""
        # What expires while it waits in the echo goes to the late echo, so that one is read last.
        for reader in (self._echo, self._late_echo):
            marker = await reader.mark_end(self._channel) if complete else None
            async for batch in self._read(reader, marker):
                yield batch

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
        """As the port says: in small windows, each after a probe. Raises TransportUnavailable."""
        outcomes: list[PublishOutcome] = []
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            if not await self._is_open_for(window, is_first=start == 0):
                break
            outcomes += await self._send_all(window)
        return outcomes + [PublishOutcome.NOT_SENT] * (len(messages) - len(outcomes))

    async def release(self) -> None:
        """As the port says: the whole connection ends."""
        await self._connection.end()

    # Taking

    async def _open(self) -> None:
        try:
            await self._declare_route()
            await declare_echo(self._connection, self._route.exchange, self._route.queue)
            for reader in (self._echo, self._late_echo):
                await reader.open()
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

    # Remembering

    async def _read(self, reader: EchoReader, marker: str | None) -> AsyncIterator[list[str]]:
        """What `reader` has, up to `marker`; without one, what is there now."""
        ended = False
        while not ended and (batch := await reader.take(wait=marker is not None)):
            named = [message_id for _, message_id in batch]
            ended = marker in named
            if signals := [message_id for message_id in named if not is_marker(message_id)]:
                yield signals
            await reader.acknowledge_up_to(batch[-1][0])

    # Sending

    async def _is_open_for(self, window: Sequence[OutgoingMessage], *, is_first: bool) -> bool:
        """Whether the broker takes messages now. Raises TransportUnavailable when nothing has been sent yet."""
        if not self.is_held:
            reason: str | None = "the connection was lost"
        else:
            reason = await self._probe()
        if reason is not None and is_first:
            raise TransportUnavailable(f"RabbitMQ takes no messages: {reason}")
        return reason is None

    async def _probe(self) -> str | None:
        """Publish to the role's own queue, which keeps nothing; returns why the broker is not to be trusted with more.

        A broker that lacks memory or disk says so only when something is published, and then holds back what comes
        next: the probe takes that place, so that no signal is delivered long after it has expired.
        """
        if not self._connection.is_ready:
            return "it lacks memory or disk"
        probe = OutgoingMessage("", self._route.role, b"", "probe")
        try:
            outcome = await ask(publish_one(self._channel, probe, self._clock.now()), "take a probe", CONFIRM_SECONDS)
        except (TransportUnavailable, *REFUSALS) as error:
            if self._connection.is_ready:
                self._connection.cut()
            return describe(error)
        if outcome is not PublishOutcome.CONFIRMED:
            self._connection.cut()
            return f"a probe was {outcome}"
        return None if self._connection.is_ready else "it lacks memory or disk"

    async def _send_all(self, window: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        try:
            outcomes = await asyncio.gather(*(self._send(message) for message in window))
        except asyncio.CancelledError:
            # Nobody hears the broker's word any more, so nothing may leave this side's buffers later.
            self._connection.cut()
            raise
        if not {PublishOutcome.UNKNOWN, PublishOutcome.REFUSED}.isdisjoint(outcomes):
            self._connection.cut()
        return outcomes

    async def _send(self, message: OutgoingMessage) -> PublishOutcome:
        now = self._clock.now()
        if message.expires_at is not None and message.expires_at <= now:
            return PublishOutcome.NOT_SENT
        try:
            publishing = publish_one(self._channel, message, now)
            return await ask(publishing, f"publish message {message.message_id}", self._patience_seconds(message, now))
        except (TransportUnavailable, *REFUSALS) as error:
            # Also when the exchange is gone: what was sent just before that may have been accepted.
            if not self._connection.lost.is_set():
                log.error("publish_unconfirmed", message_id=message.message_id, reason=describe(error))
            # At once, not when the others are done: the later it ends, the later something could still be delivered.
            self._connection.cut()
            return PublishOutcome.UNKNOWN

    def _patience_seconds(self, message: OutgoingMessage, now: datetime) -> float:
        if message.expires_at is None:
            return CONFIRM_SECONDS
        return min(CONFIRM_SECONDS, (message.expires_at - now).total_seconds())


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
