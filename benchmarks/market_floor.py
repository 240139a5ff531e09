"""The least that a reader of market data can do: consume, parse, acknowledge. No state, no bars, nothing checked."""

from __future__ import annotations

import asyncio
import json

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

PREFETCH = 400
BATCH = 200


async def consume(amqp_url: str, queue: str, count: int) -> None:
    """Take `count` messages of `queue` in batches of 200, acknowledged at once."""
    broker = await aio_pika.connect(amqp_url)
    channel = await broker.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await (await channel.declare_queue(queue, durable=True)).consume(arrived.put)
    while count > 0:
        batch = [await arrived.get() for _ in range(min(BATCH, count))]
        for message in batch:
            json.loads(message.body)
        await batch[-1].ack(multiple=True)
        count -= len(batch)
    await broker.close()
