"""Looking at queues and declaring our own, each on a throwaway channel, since a refusal closes the channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiormq.abc
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from model_service.messaging.rabbitmq_connection import CLOSE_SECONDS, REFUSALS, BrokerConnection, ask, describe
from model_service.messaging.transport import QueueState, TransportUnavailable


async def look_at_queue(connection: BrokerConnection, queue: str) -> QueueState | None:
    """A passive look; None when there is no such queue. Raises TransportUnavailable, or one of REFUSALS."""
    async with throwaway_channel(connection, f"look at queue {queue}") as channel:
        try:
            answer = await ask(channel.queue_declare(queue, passive=True), f"look at queue {queue}")
        except ChannelNotFoundEntity:
            return None
    return QueueState(queue, answer.message_count or 0, answer.consumer_count or 0)


async def ensure_queue(connection: BrokerConnection, queue: str) -> str | None:
    """Declare a durable queue without arguments; one that exists with other arguments is left as it is.

    Returns None, or the broker's words on why the queue that exists is not such a one (or is not ours to declare).
    Raises TransportUnavailable, or one of REFUSALS when there is no queue after all.
    """
    async with throwaway_channel(connection, f"declare queue {queue}") as channel:
        try:
            await ask(channel.queue_declare(queue, durable=True), f"declare queue {queue}")
        except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
            refusal = error
        else:
            return None
    if await look_at_queue(connection, queue) is None:
        raise refusal
    return describe(refusal)


async def bind_exchange(connection: BrokerConnection, exchange: str, queue: str) -> None:
    """Declare a durable direct exchange and bind the queue to it by the queue's name.

    Raises TransportUnavailable, or one of REFUSALS.
    """
    async with throwaway_channel(connection, f"declare exchange {exchange}") as channel:
        await ask(channel.exchange_declare(exchange, durable=True), f"declare exchange {exchange}")
        await ask(channel.queue_bind(queue, exchange, routing_key=queue), f"bind {queue} to {exchange}")


@asynccontextmanager
async def throwaway_channel(connection: BrokerConnection, what: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel that is closed at the end of the block, by us or by the broker. Raises TransportUnavailable."""
    channel = await connection.channel_for(what)
    try:
        yield channel
    finally:
        await close_channel(channel)


async def close_channel(channel: aiormq.abc.AbstractChannel) -> None:
    """Close a channel of a connection that may be gone."""
    if not channel.is_closed:
        with suppress(TransportUnavailable, *REFUSALS):
            await ask(channel.close(), "close a channel", CLOSE_SECONDS)
