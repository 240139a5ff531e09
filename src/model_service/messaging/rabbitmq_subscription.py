"""A consumer of one RabbitMQ queue that survives the loss of the connection, of the channel and of the queue."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import aiormq.abc
import structlog

from model_service.messaging.backoff import FIRST_SECONDS, Backoff
from model_service.messaging.rabbitmq_connection import REFUSALS, BrokerConnection, ask, describe
from model_service.messaging.rabbitmq_deliveries import WireDelivery
from model_service.messaging.rabbitmq_queues import close_channel, ensure_queue, look_at_queue
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.transport import Delivery, TransportUnavailable

log = structlog.get_logger()
Settle = Callable[[int, bool], Awaitable[None]]


class QueueAbsent(Exception):  # noqa: N818 - the state of the world, not a programming error
    """There is no queue of that name yet."""


class RabbitSubscription:
    """Fills a buffer of at most `prefetch` messages; one caller at a time takes batches from it.

    Args:
        session: the connection that all subscriptions of the service share; each has a channel of its own.
    """

    def __init__(self, session: BrokerSession, queue: str, *, prefetch: int, declare: bool) -> None:
        self._session = session
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._log = log.bind(queue=queue)
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._tags = itertools.count(1)
        self._buffer: deque[Delivery] = deque()
        self._unsettled: dict[int, int] = {}
        """Broker's tag by ours, in the order of both."""
        self._wanted = 0
        self._enough = asyncio.Event()
        self._trouble: str | None = None
        self._is_closed = False
        self._task = asyncio.create_task(self._run(), name=f"rabbitmq-subscription-{queue}")

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._queue

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        """As the port says; for one caller at a time. Raises TransportUnavailable."""
        await self._wait_for(1, wait_seconds)
        if not self._buffer:
            await self._raise_if_away(wait_seconds)
            return []
        if wait_seconds > 0:
            await self._wait_for(min(limit, self._prefetch), linger_seconds)
        return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """As the port says."""
        if (channel := self._channel) is not None:
            await self._settle(deliveries, lambda tag, multiple: channel.basic_ack(tag, multiple, wait=False))

    async def close(self) -> None:
        """As the port says."""
        self._is_closed = True
        self._enough.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # Receiving

    async def _wait_for(self, count: int, seconds: float) -> None:
        """Wait until the buffer holds `count` messages, the state changes, or the time is up."""
        if len(self._buffer) >= count or seconds <= 0 or self._is_closed:
            return
        self._wanted = count
        self._enough.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._enough.wait()
        except TimeoutError:
            return

    async def _raise_if_away(self, wait_seconds: float) -> None:
        if self._is_closed:
            raise TransportUnavailable(f"the subscription to {self._queue} is closed")
        if self._session.is_alive:
            return
        # Whoever asks without waiting must not spin while the broker is away.
        await asyncio.sleep(max(0.0, FIRST_SECONDS - wait_seconds))
        raise self._session.unavailable

    def _on_delivery(self, channel: aiormq.abc.AbstractChannel, wire: WireDelivery) -> None:
        if channel is not self._channel:
            return
        if (properties := wire.properties()) is None:
            self._log.warning("delivery_properties_unreadable", redelivered=wire.redelivered)
        delivery = Delivery(
            tag=next(self._tags),
            body=wire.body,
            headers=_as_text(properties.headers if properties else None),
            message_id=properties.message_id if properties else None,
            redelivered=wire.redelivered,
        )
        self._unsettled[delivery.tag] = wire.delivery_tag
        self._buffer.append(delivery)
        if len(self._buffer) >= self._wanted:
            self._enough.set()

    # Settling

    async def _settle(self, deliveries: Sequence[Delivery], settle: Settle) -> None:
        """Settle those that belong to the present session; the broker brings all others again."""
        tags = sorted(delivery.tag for delivery in deliveries if delivery.tag in self._unsettled)
        prefix = _shared_prefix(self._unsettled, tags)
        broker_tags = [self._unsettled.pop(tag) for tag in tags]
        calls = [(broker_tags[prefix - 1], True)] if prefix else []
        calls += [(tag, False) for tag in broker_tags[prefix:]]
        try:
            for tag, multiple in calls:
                await ask(settle(tag, multiple), f"settle messages of {self._queue}")
        except (TransportUnavailable, *REFUSALS) as error:
            self._log.warning("settlement_lost", reason=describe(error))

    # Consuming, in the background

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._is_closed:
            connection = await self._session.connection()
            try:
                await self._consume(connection, backoff)
            except QueueAbsent:
                self._note("queue_absent", "there is no such queue; waiting for it")
            except REFUSALS as error:
                self._note("queue_refused", describe(error))
            except TransportUnavailable as error:
                self._note("queue_unavailable", str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue must not be left alone for good
                self._note("consumer_failed", describe(error), error)
            await asyncio.sleep(backoff.next_seconds())

    async def _consume(self, connection: BrokerConnection, backoff: Backoff) -> None:
        """Consume until the connection, the channel or the consumer is lost."""
        await self._find(connection)
        channel = await connection.channel_for(f"consume {self._queue}")
        ended = asyncio.Event()
        channel.closing.add_done_callback(lambda _: ended.set())
        channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        self._channel = channel
        try:
            await ask(channel.basic_qos(prefetch_count=self._prefetch), f"set the prefetch of {self._queue}")
            await connection.consume(channel, self._queue, partial(self._on_delivery, channel))
            self._trouble = None
            backoff.reset()
            self._log.info("queue_consumed")
            await ended.wait()
            self._log.warning("consumer_ended", connection_alive=not connection.lost.is_set())
        finally:
            self._forget()
            try:
                await close_channel(channel)
            finally:
                connection.leave_deliveries(channel)

    async def _find(self, connection: BrokerConnection) -> None:
        if self._declare:
            if (refusal := await ensure_queue(connection, self._queue)) is not None:
                self._note("queue_has_other_arguments", refusal)
        elif await look_at_queue(connection, self._queue) is None:
            raise QueueAbsent

    def _forget(self) -> None:
        """What is unsettled belongs to the broker again."""
        self._channel = None
        self._buffer.clear()
        self._unsettled.clear()
        self._enough.set()

    def _note(self, event: str, reason: str, fault: Exception | None = None) -> None:
        """Log a state once, until it changes; with its traceback where nobody expected it."""
        if self._trouble != event:
            self._log.warning(event, reason=reason, exc_info=fault)
        self._trouble = event


def _shared_prefix(unsettled: dict[int, int], tags: Sequence[int]) -> int:
    """How many of the sorted `tags` are the oldest unsettled ones, without a gap: these may be settled at once."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(unsettled, tags, strict=False)))


def _as_text(headers: Mapping[str, object] | None) -> dict[str, str]:
    """Headers as text; none, when one of them is nested so deeply that it cannot be written."""
    try:
        return {name: value if isinstance(value, str) else str(value) for name, value in (headers or {}).items()}
    except RecursionError:
        return {}
