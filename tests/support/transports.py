"""What the tests of both transports share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from model_service.messaging.transport import (
    Delivery,
    OutgoingMessage,
    Subscription,
    Transport,
    TransportUnavailable,
)

PATIENCE_SECONDS = 20.0


def to_queue(queue: str, *bodies: bytes, expires_at: datetime | None = None) -> list[OutgoingMessage]:
    """One message for each body, through the default exchange; the message_id is the body's first 20 bytes."""
    return [OutgoingMessage("", queue, body, body[:20].decode(), {}, expires_at) for body in bodies]


def numbered(count: int) -> list[bytes]:
    """Bodies 0, 1, 2, ..."""
    return [str(number).encode() for number in range(count)]


async def until_connected(transport: Transport) -> None:
    """Wait until the transport is connected. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not transport.is_connected:
            await asyncio.sleep(0.02)


async def receive(subscription: Subscription, count: int) -> list[Delivery]:
    """Exactly `count` messages, in as many batches as it takes, whatever is lost between. Raises TimeoutError."""
    received: list[Delivery] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(received) < count:
            try:
                received += await subscription.receive(limit=count - len(received), wait_seconds=1.0)
            except TransportUnavailable:
                continue
    return received


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Their bodies, in order."""
    return [delivery.body for delivery in deliveries]
