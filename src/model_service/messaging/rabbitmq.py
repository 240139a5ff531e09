"""The transport of the platform: RabbitMQ over AMQP 0-9-1, kept alive by our own supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from model_service.config.clock import Clock
from model_service.messaging.backoff import FIRST_SECONDS
from model_service.messaging.rabbitmq_connection import REFUSALS, BrokerConnection, describe
from model_service.messaging.rabbitmq_lease import RabbitPublishingLease
from model_service.messaging.rabbitmq_publisher import RabbitPublisher
from model_service.messaging.rabbitmq_queues import ensure_queue, look_at_queue
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.rabbitmq_subscription import RabbitSubscription
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
T = TypeVar("T")


class RabbitTransport:
    """A connection for each purpose, each rebuilt as a whole after a loss.

    One publishes; one consumes and looks at queues; and one, from the first lease on, publishes what only the holder of
    a role may publish, so that it can be cut without disturbing the others.

    Args:
        url: `amqp://user:password@host:port/vhost`, or amqps; the password is never logged.
        clock: what `expires_at` of messages is compared with.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._publishing = BrokerSession(url, "publish")
        self._consuming = BrokerSession(url, "consume")
        self._leasing = BrokerSession(url, "lease")
        self._clock = clock
        self._publisher = RabbitPublisher(self._publishing, clock)
        self._subscriptions: list[RabbitSubscription] = []
        self._foreign: set[str] = set()

    async def start(self) -> None:
        """As the port says."""
        self._publishing.start()
        self._consuming.start()

    async def close(self) -> None:
        """As the port says; takes a few seconds at most, also when the broker does not answer."""
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await asyncio.gather(self._publishing.close(), self._consuming.close(), self._leasing.close())
        self._subscriptions.clear()

    @property
    def is_connected(self) -> bool:
        """Whether both connections live and the broker takes messages."""
        return self._publishing.is_ready and self._consuming.is_alive

    async def declare_queue(self, queue: str) -> None:
        """As the port says; one that exists with other arguments is left as it is. Raises TransportUnavailable."""
        refusal = await self._ask(f"declare queue {queue}", lambda c: ensure_queue(c, queue))
        if refusal is not None and queue not in self._foreign:
            log.warning("queue_has_other_arguments", queue=queue, reason=refusal)
            self._foreign.add(queue)

    async def queue_state(self, queue: str) -> QueueState | None:
        """As the port says. Raises TransportUnavailable."""
        return await self._ask(f"look at queue {queue}", lambda c: look_at_queue(c, queue))

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> Subscription:
        """As the port says; needs a running event loop."""
        subscription = RabbitSubscription(self._consuming, queue, prefetch=prefetch, declare=declare)
        self._subscriptions.append(subscription)
        return subscription

    async def lease_publishing(self, route: PublishingRoute) -> PublishingLease:
        """As the port says. Raises RoleTaken, TransportUnavailable."""
        self._leasing.start()
        return await RabbitPublishingLease.take(self._leasing, route, self._clock)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says. Raises TransportUnavailable."""
        return await self._publisher.publish(messages)

    async def _ask(self, what: str, question: Callable[[BrokerConnection], Awaitable[T]]) -> T:
        """Put a question over the consuming connection, which the broker answers even while it blocks publishers."""
        connection = await self._consuming.connection(within_seconds=FIRST_SECONDS)
        try:
            return await question(connection)
        except REFUSALS as error:
            place = self._consuming.place
            raise TransportUnavailable(f"RabbitMQ at {place} refused to {what}: {describe(error)}") from error
