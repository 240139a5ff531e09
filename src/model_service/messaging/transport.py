"""The port between the service and whatever carries its messages.

Two adapters fulfil it under one contract test suite: RabbitMQ in the platform, PostgreSQL in the embedded default.
Consumers pull batches and settle them explicitly, so the same code runs in its own loop in production and step by step
in virtual time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class TransportUnavailable(Exception):  # noqa: N818 - the state of the world, not a programming error
    """The broker cannot be reached now; the caller waits and tries again. The text says which one and why."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish, addressed as in AMQP; the empty exchange means "to the queue of that name"."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


class PublishOutcome(StrEnum):
    """What the broker said of one message."""

    CONFIRMED = "confirmed"
    UNROUTABLE = "unroutable"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No answer in time: it may or may not have been accepted."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received message; `tag` belongs to the subscription that delivered it."""

    tag: int
    body: bytes
    headers: Mapping[str, str]
    message_id: str | None
    redelivered: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """Depth and consumers of a queue, as a passive look shows them."""

    name: str
    messages: int
    consumers: int


class Subscription(Protocol):
    """A consumer of one queue. It survives the loss of the connection by itself."""

    @property
    def queue(self) -> str:
        """The name of the queue."""
        ...

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        """Up to `limit` messages in order; waits at most `wait_seconds` for the first, then `linger_seconds` for more.

        Returns an empty list when none came. Raises TransportUnavailable while the broker is away (not in a hot loop:
        at most once per back-off interval).
        """
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these for good. Tags of a lost session are ignored: their messages come again."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put these back for another try."""
        ...

    async def close(self) -> None:
        """Stop consuming; what is unsettled goes back to the queue."""
        ...


class Transport(Protocol):
    """Publish with confirmation, consume in batches, look at queues."""

    async def start(self) -> None:
        """Begin connecting; returns at once, a broker that is away is waited for in the background with back-off."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether messages can be published and consumed now."""
        ...

    async def declare_exchange_with_queue(self, exchange: str, queue: str) -> None:
        """A durable direct exchange and a durable queue without arguments, bound with the queue's name as routing key.

        Raises TransportUnavailable.
        """
        ...

    async def declare_queue(self, queue: str) -> None:
        """A durable queue of ours without arguments. Raises TransportUnavailable."""
        ...

    async def queue_state(self, queue: str) -> QueueState | None:
        """A passive look; None when there is no such queue. Never declares. Raises TransportUnavailable."""
        ...

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> Subscription:
        """Consume `queue`.

        With `declare` it is declared (durable, no arguments) when absent; without, it is only ever probed passively and
        waited for with back-off (queues of other services).
        """
        ...

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """Publish all, persistent and mandatory, and wait for the broker's word on each; same order as given.

        A message whose `expires_at` has passed is the caller's matter; a future one is carried as AMQP expiration.
        Raises TransportUnavailable when nothing was sent at all.
        """
        ...
