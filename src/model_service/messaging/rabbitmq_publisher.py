"""Publishing with confirmation: what the broker said of each message, and nothing that is delivered later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import aiormq.abc
import structlog
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from model_service.config.clock import Clock
from model_service.messaging.rabbitmq_connection import BROKER_ERRORS, BrokerConnection, describe
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, TransportUnavailable

log = structlog.get_logger()

CONFIRM_SECONDS = 10.0
CONNECTION_WAIT_SECONDS = 5.0
IN_FLIGHT = 256
PERSISTENT = 2
LAST_TIME_TO_LIVE_MS = 2**32 - 1


class RabbitPublisher:
    """Publishes on one confirming channel of the publishing connection."""

    def __init__(self, session: BrokerSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._in_flight: set[str] = set()
        self._landed = asyncio.Condition()

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says. Raises TransportUnavailable."""
        outcomes = [PublishOutcome.REFUSED] * len(messages)
        for first, chunk in _chunks(messages):
            try:
                answers = await self._publish_chunk(chunk)
            except TransportUnavailable:
                if first == 0:
                    raise
                break  # the rest was not sent, which is what their outcome says
            outcomes[first : first + len(chunk)] = answers
        return outcomes

    async def _publish_chunk(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        connection = await self._session.connection(CONNECTION_WAIT_SECONDS)
        if not connection.is_ready:
            raise TransportUnavailable(f"RabbitMQ at {self._session.place} takes no messages: it lacks memory or disk")
        channel = await self._open_channel(connection)
        identifiers = {message.message_id for message in messages}
        async with self._landed:
            # The driver finds a returned message by its identifier, so no two of the same may be on their way.
            await self._landed.wait_for(lambda: self._in_flight.isdisjoint(identifiers))
            self._in_flight |= identifiers
        try:
            return await self._send_and_wait(connection, channel, messages)
        finally:
            async with self._landed:
                self._in_flight -= identifiers
                self._landed.notify_all()

    async def _open_channel(self, connection: BrokerConnection) -> aiormq.abc.AbstractChannel:
        async with self._opening:
            channel = self._channel
            if channel is None or channel.is_closed or channel.connection is not connection.driver:
                channel = self._channel = await connection.channel_for("publish", confirms=True)
            return channel

    async def _send_and_wait(
        self, connection: BrokerConnection, channel: aiormq.abc.AbstractChannel, messages: Sequence[OutgoingMessage]
    ) -> list[PublishOutcome]:
        """Hand over all of them in order and wait for all confirms together.

        Confirms that do not come in time, or that nobody waits for any more, end the connection: a message that still waits
        in a buffer must not reach the broker after its sender has given it up.
        """
        now = self._clock.now()
        tasks = [asyncio.create_task(_send(channel, message, now)) for message in messages]
        try:
            _, late = await asyncio.wait(tasks, timeout=CONFIRM_SECONDS)
        except asyncio.CancelledError:
            self._give_up(connection, tasks, "cancelled")
            raise
        if late:
            self._give_up(connection, late, "timeout")
            await asyncio.gather(*late, return_exceptions=True)
        return [PublishOutcome.UNKNOWN if task.cancelled() else task.result() for task in tasks]

    def _give_up(
        self,
        connection: BrokerConnection,
        tasks: Sequence[asyncio.Task[PublishOutcome]] | set[asyncio.Task[PublishOutcome]],
        why: str,
    ) -> None:
        waiting = [task for task in tasks if not task.done()]
        if not waiting:
            return
        log.warning("publish_unconfirmed", broker=self._session.place, messages=len(waiting), reason=why)
        connection.cut()
        for task in waiting:
            task.cancel()


async def _send(channel: aiormq.abc.AbstractChannel, message: OutgoingMessage, now: datetime) -> PublishOutcome:
    if message.expires_at is not None and message.expires_at <= now:
        return PublishOutcome.REFUSED
    try:
        await channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=_properties(message, now),
            mandatory=True,
            wait=False,
        )
    except PublishError:
        return PublishOutcome.UNROUTABLE
    except DeliveryError:
        return PublishOutcome.REFUSED
    except ChannelNotFoundEntity as error:
        return PublishOutcome.UNROUTABLE if f"'{message.exchange}'" in describe(error) else PublishOutcome.UNKNOWN
    except BROKER_ERRORS as error:
        log.debug("publish_interrupted", reason=describe(error))
        return PublishOutcome.UNKNOWN
    return PublishOutcome.CONFIRMED


def _properties(message: OutgoingMessage, now: datetime) -> Basic.Properties:
    return Basic.Properties(
        delivery_mode=PERSISTENT,
        message_id=message.message_id,
        headers=dict(message.headers),
        expiration=None if message.expires_at is None else _time_to_live(message.expires_at - now),
    )


def _time_to_live(remaining: timedelta) -> str:
    return str(min(remaining // timedelta(milliseconds=1), LAST_TIME_TO_LIVE_MS))


def _chunks(messages: Sequence[OutgoingMessage]) -> Iterator[tuple[int, Sequence[OutgoingMessage]]]:
    """The messages in order, with the index of each chunk's first; no chunk holds the same message_id twice.

    The first message goes alone. A broker that lacks memory takes one message, says that it is blocked, and keeps what
    follows in its buffers, to take it when it can: minutes later, perhaps after `expires_at`.
    """
    first = 0
    while first < len(messages):
        last, seen, room = first, set[str](), IN_FLIGHT if first else 1
        while last < len(messages) and last - first < room and messages[last].message_id not in seen:
            seen.add(messages[last].message_id)
            last += 1
        yield first, messages[first:last]
        first = last
