"""The least that a consumer of executions can do: consume, parse, insert, commit, acknowledge. No fills, no book."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage
from pydantic import BaseModel

PREFETCH = 400
BATCH = 200
TABLE = """
    CREATE TABLE IF NOT EXISTS public.floor_events (
        event_id text PRIMARY KEY, order_id text NOT NULL, signal_id text NOT NULL, strategy_id text,
        asset text NOT NULL, side text NOT NULL, price numeric NOT NULL, quantity numeric NOT NULL,
        fees numeric NOT NULL, executed_at timestamptz NOT NULL, trace_id text, body bytea NOT NULL)
"""
INSERT = """
    INSERT INTO public.floor_events
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[],
                         $8::numeric[], $9::numeric[], $10::timestamptz[], $11::text[], $12::bytea[])
    ON CONFLICT DO NOTHING
"""


class Execution(BaseModel):
    """The documented flat event."""

    event_id: str
    order_id: str
    signal_id: str
    strategy_id: str | None = None
    asset: str
    side: str
    execution_price: float
    execution_quantity: float
    execution_fees: float
    executed_at: datetime
    signal_price: float | None = None
    signal_timestamp: datetime | None = None
    market_conditions: dict[str, float] | None = None
    performance: dict[str, float] | None = None
    trace_id: str | None = None


async def consume(amqp_url: str, queue: str, postgres: dict[str, Any], count: int) -> None:
    """Take `count` events of `queue` into `public.floor_events`, in batches of 200."""
    database = await asyncpg.connect(**postgres)
    await database.execute(TABLE)
    broker = await aio_pika.connect(amqp_url)
    channel = await broker.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await (await channel.declare_queue(queue, durable=True)).consume(arrived.put)
    while count > 0:
        batch = [await arrived.get() for _ in range(min(BATCH, count))]
        await _insert(database, batch)
        await batch[-1].ack(multiple=True)
        count -= len(batch)
    await broker.close()
    await database.close()


async def _insert(database: asyncpg.Connection, batch: list[AbstractIncomingMessage]) -> None:
    events = [(Execution.model_validate_json(message.body), message.body) for message in batch]
    rows = [
        (e.event_id, e.order_id, e.signal_id, e.strategy_id, e.asset, e.side, e.execution_price, e.execution_quantity,
         e.execution_fees, e.executed_at, e.trace_id, body)
        for e, body in events
    ]  # fmt: skip
    async with database.transaction():
        await database.execute(INSERT, *map(list, zip(*rows, strict=True)))
