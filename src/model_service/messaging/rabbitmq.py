"""The transport of the platform: RabbitMQ, with one connection to publish and one to consume."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from model_service.config.clock import Clock
from model_service.messaging.rabbitmq_connection import REFUSALS, BrokerConnection, describe
from model_service.messaging.rabbitmq_publisher import RabbitPublisher
from model_service.messaging.rabbitmq_queues import ensure_bound_exchange, ensure_queue, look_at_queue
from model_service.messaging.rabbitmq_session import BrokerSession
from model_service.messaging.rabbitmq_subscription import RabbitSubscription
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishOutcome,
    QueueState,
    Subscription,
    TransportUnavailable,
)

CONNECTION_WAIT_SECONDS = 5.0
T = TypeVar("T")


class RabbitTransport:
    """RabbitMQ by our own supervised sessions.

    Args:
        url: amqp://user:password@host:port/vhost.
        clock: turns `expires_at` into the AMQP expiration.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._publishing = BrokerSession(url, "publish")
        self._consuming = BrokerSession(url, "consume")
        self._publisher = RabbitPublisher(self._publishing, clock)
        self._subscriptions: list[RabbitSubscription] = []

    async def start(self) -> None:
        """As the port says."""
        self._publishing.start()
        self._consuming.start()

    async def close(self) -> None:
        """As the port says."""
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        self._subscriptions.clear()
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    @property
    def is_connected(self) -> bool:
        """Whether both connections live and the broker blocks neither."""
        return self._publishing.is_ready and self._consuming.is_ready

    async def declare_exchange_with_queue(self, exchange: str, queue: str) -> None:
        """As the port says; a queue that is there already is bound as it is. Raises TransportUnavailable."""
        await self._manage(lambda connection: ensure_bound_exchange(connection, exchange, queue))

    async def declare_queue(self, queue: str) -> None:
        """As the port says; a queue that is there already is left as it is. Raises TransportUnavailable."""
        await self._manage(lambda connection: ensure_queue(connection, queue))

    async def queue_state(self, queue: str) -> QueueState | None:
        """As the port says. Raises TransportUnavailable."""
        return await self._manage(lambda connection: look_at_queue(connection, queue))

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> Subscription:
        """As the port says. Consuming begins in the background as soon as there is a connection."""
        subscription = RabbitSubscription(self._consuming, queue, prefetch=prefetch, declare=declare)
        self._subscriptions.append(subscription)
        return subscription

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As the port says. Raises TransportUnavailable."""
        return await self._publisher.publish(messages)

    async def _manage(self, action: Callable[[BrokerConnection], Awaitable[T]]) -> T:
        connection = await self._consuming.connection(CONNECTION_WAIT_SECONDS)
        try:
            return await action(connection)
        except REFUSALS as error:
            raise TransportUnavailable(f"RabbitMQ at {self._consuming.place} refuses: {describe(error)}") from error
