"""Publishing to RabbitMQ with the broker's word on each message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import aiormq.abc
import structlog
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from model_service.config.clock import Clock
from model_service.messaging.backoff import FIRST_SECONDS
from model_service.messaging.rabbitmq_connection import REFUSALS, BrokerConnection, ask, describe
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, TransportUnavailable

log = structlog.get_logger()

CONFIRM_SECONDS = 10.0
MAXIMUM_IN_FLIGHT = 256
PERSISTENT = 2


class RabbitPublisher:
    """Keeps one channel with confirms on the publishing connection; a lost channel is opened again at the next publish.

    Args:
        session: the connection that only publishes, so that a broker that blocks publishers does not stop consumers.
        clock: decides what has expired and how long the broker may keep the rest.
    """

    def __init__(self, session: BrokerSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._opening = asyncio.Lock()
        self._connection: BrokerConnection | None = None
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._in_flight = asyncio.Semaphore(MAXIMUM_IN_FLIGHT)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says; what has expired is not sent. Raises TransportUnavailable."""
        if not messages:
            return []
        connection, channel = await self._open()
        try:
            return await asyncio.gather(*(self._send(connection, channel, message) for message in messages))
        except asyncio.CancelledError:
            # Nobody hears the broker's word any more, so nothing may leave this side's buffers later.
            connection.cut()
            raise

    async def _open(self) -> tuple[BrokerConnection, aiormq.abc.AbstractChannel]:
        connection = await self._session.connection(within_seconds=FIRST_SECONDS)
        if not connection.is_ready:
            await asyncio.sleep(FIRST_SECONDS)
            raise TransportUnavailable(f"RabbitMQ at {self._session.place} takes no messages: it lacks memory or disk")
        async with self._opening:
            if self._channel is None or self._channel.is_closed or self._connection is not connection:
                self._channel = await connection.channel_for("publish", confirms=True)
                self._connection = connection
            return connection, self._channel

    async def _send(
        self, connection: BrokerConnection, channel: aiormq.abc.AbstractChannel, message: OutgoingMessage
    ) -> PublishOutcome:
        async with self._in_flight:
            now = self._clock.now()
            if message.expires_at is not None and message.expires_at <= now:
                return PublishOutcome.NOT_SENT
            what = f"publish message {message.message_id}"
            try:
                return await ask(publish_one(channel, message, now), what, CONFIRM_SECONDS)
            except REFUSALS as error:
                return _refused(message, error)
            except TransportUnavailable as error:
                if not connection.lost.is_set():
                    log.warning("publish_unconfirmed", message_id=message.message_id, reason=str(error))
                connection.cut()
                return PublishOutcome.UNKNOWN


async def publish_one(channel: aiormq.abc.AbstractChannel, message: OutgoingMessage, now: datetime) -> PublishOutcome:
    """Send one message over a channel with confirms and wait for the broker's word; raises what the driver raises."""
    try:
        await channel.basic_publish(  # type: ignore[call-arg]  # the abstract class lacks `wait`
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=properties_of(message, now),
            mandatory=True,
            wait=False,  # the confirmation is waited for, not the socket
        )
    except PublishError:
        return PublishOutcome.UNROUTABLE
    except DeliveryError:
        return PublishOutcome.REFUSED
    return PublishOutcome.CONFIRMED


def _refused(message: OutgoingMessage, error: Exception) -> PublishOutcome:
    """The broker closed the channel, and with it ended all publishes that it had not confirmed yet.

    It names the exchange that does not exist; what was for another one may have been accepted.
    """
    if isinstance(error, ChannelNotFoundEntity) and f"'{message.exchange}'" in str(error):
        return PublishOutcome.UNROUTABLE
    log.warning("publish_refused", message_id=message.message_id, reason=describe(error))
    return PublishOutcome.UNKNOWN


def properties_of(message: OutgoingMessage, until: datetime) -> Basic.Properties:
    """Persistent, and forgotten by the broker so long after it was routed as the message lasts after `until`."""
    return Basic.Properties(
        delivery_mode=PERSISTENT,
        message_id=message.message_id,
        headers=dict(message.headers),
        expiration=None if message.expires_at is None else _milliseconds(message.expires_at - until),
    )


def _milliseconds(rest: timedelta) -> str:
    """For AMQP; never 0, which would still reach a consumer that waits."""
    return str(max(rest // timedelta(milliseconds=1), 1))
