"""The echo of a route: a queue of ours into which each publish leaves its message_id, and so proves acceptance."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from datetime import UTC, datetime

import aiormq.abc

from model_service.messaging.rabbitmq_connection import BrokerConnection, ask
from model_service.messaging.rabbitmq_deliveries import WireDelivery
from model_service.messaging.rabbitmq_publisher import publish_one
from model_service.messaging.rabbitmq_queues import throwaway_channel
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, TransportUnavailable

PREFETCH = 500
LIMIT = 200
MARKER = "marker-"
MARKER_SECONDS = 10.0
REMEMBERED_MILLISECONDS = 7 * 86_400_000
NEVER = datetime.min.replace(tzinfo=UTC)
"""The present for a message that does not expire."""


def echo_queue(exchange: str) -> str:
    """The echo of what is published to the exchange."""
    return f"{exchange}.echo"


async def declare_echo(connection: BrokerConnection, exchange: str) -> None:
    """It is ours alone, and its entries outlive the messages. Raises TransportUnavailable, or one of REFUSALS."""
    echo = echo_queue(exchange)
    arguments: dict[str, str | int] = {"x-message-ttl": REMEMBERED_MILLISECONDS}
    async with throwaway_channel(connection, f"declare {echo}") as channel:
        await ask(channel.queue_declare(echo, durable=True, arguments=dict(arguments)), f"declare {echo}")


class EchoReader:
    """Reads one echo queue over a channel of its own; both end with the connection of the lease.

    One caller takes batches, and acknowledges each as a whole before it takes the next.
    """

    def __init__(self, connection: BrokerConnection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._buffer: deque[tuple[int, str]] = deque()
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Begin to consume. Raises TransportUnavailable, or one of REFUSALS."""
        channel = await self._connection.channel_for(f"consume {self._queue}")
        channel.closing.add_done_callback(self._on_end)
        channel.on_consumer_cancel_callbacks.add(self._on_end)
        await ask(channel.basic_qos(prefetch_count=PREFETCH), f"set the prefetch of {self._queue}")
        await self._connection.consume(channel, self._queue, self._on_delivery)
        self._channel = channel

    async def mark_end(self, publishing: aiormq.abc.AbstractChannel) -> str:
        """Put a marker behind all that is in the queue now; returns its identifier. Raises TransportUnavailable."""
        marker = MARKER + secrets.token_hex(8)
        message = OutgoingMessage("", self._queue, b"", marker)
        outcome = await ask(publish_one(publishing, message, NEVER), f"mark the end of {self._queue}")
        if outcome is not PublishOutcome.CONFIRMED:
            raise TransportUnavailable(f"RabbitMQ did not take a marker for {self._queue}: {outcome}")
        return marker

    async def take(self, *, wait: bool) -> list[tuple[int, str]]:
        """Up to 200 pairs of tag and message_id; with `wait` one at least.

        Raises TransportUnavailable when none comes in time, or the connection is lost.
        """
        if wait:
            await self._wait()
        return [self._buffer.popleft() for _ in range(min(LIMIT, len(self._buffer)))]

    async def acknowledge_up_to(self, tag: int) -> None:
        """All that was taken, the message with this tag included. Raises TransportUnavailable."""
        if self._channel is not None:
            await ask(self._channel.basic_ack(tag, multiple=True, wait=False), f"acknowledge {self._queue}")

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(MARKER_SECONDS):
                while not self._buffer:
                    if self._connection.lost.is_set():
                        raise TransportUnavailable("RabbitMQ: the connection was lost")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TransportUnavailable(f"RabbitMQ did not bring back a marker of {self._queue}") from None

    def _on_delivery(self, wire: WireDelivery) -> None:
        # What a stranger put there names no message of ours, and is acknowledged with the rest.
        self._buffer.append((wire.delivery_tag, wire.message_id() or ""))
        self._news.set()

    def _on_end(self, _: object) -> None:
        # Without its echo the lease could not tell any more what was accepted.
        self._connection.cut()
        self._news.set()


def is_marker(message_id: str) -> bool:
    """Whether it is one of `mark_end`, of this lease or of a former one."""
    return message_id.startswith(MARKER)
