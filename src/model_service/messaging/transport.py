"""The port between the service and whatever carries its messages.

Two adapters fulfil it under one contract test suite: RabbitMQ in the platform, PostgreSQL in the embedded default.
Consumers pull batches and settle them explicitly, so the same code runs in its own loop in production and step by step
in virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class TransportUnavailable(Exception):  # noqa: N818 - the state of the world, not a programming error
    """The broker cannot be reached now; the caller waits and tries again. The text says which one and why."""


class RoleTaken(Exception):  # noqa: N818 - the state of the world, not a programming error
    """Another connection holds the role now; the caller stands by and asks again. The text says which role."""


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
    """The broker said no, for one of the queues at least; another may have the message."""
    UNKNOWN = "unknown"
    """No answer in time: it may or may not have been accepted."""
    NOT_SENT = "not_sent"
    """It was not handed to the broker: it has expired, or sending had to stop before it."""


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


@dataclass(frozen=True, slots=True)
class PublishingRoute:
    """Where one role publishes: an exchange of ours, the queue that it feeds, and the name of the role."""

    role: str
    exchange: str
    queue: str


class PublishingLease(Protocol):
    """The right to publish on a route, held by one connection at a time, and the memory of what was accepted there.

    It ends with its connection, and for good: a successor gets it only when nothing of the predecessor can reach the
    broker any more.
    """

    @property
    def is_held(self) -> bool:
        """Whether it lives, as far as is known."""
        ...

    def accepted(self, *, complete: bool) -> AsyncIterator[list[str]]:
        """Batches of message_ids that the broker has accepted on the route.

        A batch is forgotten when the next one is asked for, so record it before. With `complete` it ends when all
        that was accepted before the call has been named, else when nothing more is there now. Raises
        TransportUnavailable, and then the lease has ended.
        """
        ...

    async def renew_route(self) -> None:
        """Declare a durable direct exchange, a durable queue and a binding by its name, if that is some time ago.

        Raises TransportUnavailable.
        """
        ...

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """As `Transport.publish`; after UNKNOWN or REFUSED the lease has ended, and nothing of it is sent later.

        Raises TransportUnavailable when nothing was sent at all.
        """
        ...

    async def release(self) -> None:
        """Give it up."""
        ...


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

    async def lease_publishing(self, route: PublishingRoute) -> PublishingLease:
        """Take the route's role. Raises RoleTaken while another connection holds it, or TransportUnavailable."""
        ...

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        """Publish all, persistent and mandatory, and wait for the broker's word on each; same order as given.

        A message whose `expires_at` has passed is the caller's matter; a future one is carried as AMQP expiration.
        Raises TransportUnavailable when nothing was sent at all.
        """
        ...
