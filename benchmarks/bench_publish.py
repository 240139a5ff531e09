"""Signals per second from being stored to being confirmed, against a bare insert and publish, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from statistics import median
from uuid import uuid4

import aio_pika
import asyncpg
import structlog
import uvloop

from benchmarks.figure import Figure
from benchmarks.servers import Servers, private_servers
from model_service.config.clock import SystemClock
from model_service.contracts.signals import SIGNAL_QUEUE, encode_signal
from model_service.contracts.types import Side
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.outbox import Outbox
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import RoleTaken, TransportUnavailable
from model_service.publishers.signal_publisher import PUBLISHER_ROLE, SignalPublisher
from model_service.services.ports import DecidedSignal
from tests.integration.test_stores import decided

SIGNALS = 2000
REPETITIONS = 5
FLOOR_TABLE = "CREATE TABLE IF NOT EXISTS public.floor_signals (signal_id uuid PRIMARY KEY, body jsonb NOT NULL)"


def run() -> Iterator[Figure]:
    """`publish_vs_floor`: stored one at a time, as decisions are, and published by the role beside it."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield uvloop.run(_compare(SIGNALS, REPETITIONS))


async def _compare(count: int, repetitions: int) -> Figure:
    async with private_servers() as servers:
        await servers.database.execute(FLOOR_TABLE)
        pairs = [await _pair(servers, count, ours_first=bool(turn % 2)) for turn in range(repetitions)]
    return Figure(
        "publish_vs_floor",
        round(median(ours / floor for ours, floor in pairs), 3),
        round(median(ours for ours, _ in pairs), 1),
        round(median(floor for _, floor in pairs), 1),
        "signals per second",
        repetitions,
    )


async def _pair(servers: Servers, count: int, *, ours_first: bool) -> tuple[float, float]:
    """Ours and the floor, signals per second."""
    ours = await _ours(servers, _signals(count)) if ours_first else 0.0
    floor = await _floor(servers, _signals(count))
    return ours or await _ours(servers, _signals(count)), floor


async def _floor(servers: Servers, signals: list[DecidedSignal]) -> float:
    address = servers.database.address
    database = await asyncpg.connect(host=address.host, port=address.port, user=address.user, database=address.database)
    broker = await aio_pika.connect(servers.amqp_url)
    channel = await broker.channel(publisher_confirms=True)
    await channel.declare_queue(SIGNAL_QUEUE, durable=True)
    started = time.perf_counter()
    for one in signals:
        body = encode_signal(one.signal)
        await database.execute("INSERT INTO floor_signals VALUES ($1, $2)", one.signal.signal_id, body.decode())
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=SIGNAL_QUEUE)
    seconds = time.perf_counter() - started
    await _empty(channel, len(signals))
    await broker.close()
    await database.close()
    return len(signals) / seconds


async def _ours(servers: Servers, signals: list[DecidedSignal]) -> float:
    clock = SystemClock()
    transport = RabbitTransport(servers.amqp_url, clock=clock)
    await transport.start()
    store = PostgresDecisionStore(servers.database)
    publisher = SignalPublisher(Outbox(servers.database, PUBLISHER_ROLE), transport)
    await _take_role(publisher, clock)
    started = time.perf_counter()
    storing = asyncio.create_task(_store(store, signals))
    while publisher.published < len(signals):
        if not await publisher.step(clock.now()):
            await asyncio.sleep(0)
    seconds = time.perf_counter() - started
    await storing
    statuses = "SELECT count(*) FROM model_service.trading_signals WHERE status = 'published'"
    assert await servers.database.fetchval(statuses) == len(signals), "not all signals are marked published"
    await publisher.close()
    await transport.close()
    async with await aio_pika.connect(servers.amqp_url) as broker:
        await _empty(await broker.channel(), len(signals))
    await servers.database.execute("TRUNCATE model_service.trading_signals CASCADE")
    return len(signals) / seconds


async def _store(store: PostgresDecisionStore, signals: list[DecidedSignal]) -> None:
    for one in signals:
        await store.record([one], (), ())


async def _take_role(publisher: SignalPublisher, clock: SystemClock) -> None:
    """Connecting and taking the role is not what is measured."""
    async with asyncio.timeout(30):
        while True:
            try:
                await publisher.step(clock.now())
            except (TransportUnavailable, RoleTaken):
                await asyncio.sleep(0.1)
            else:
                return


async def _empty(channel: aio_pika.abc.AbstractChannel, expected: int) -> None:
    purged = await (await channel.get_queue(SIGNAL_QUEUE)).purge()
    assert purged.message_count == expected, f"the queue held {purged.message_count} signals, not {expected}"


def _signals(count: int) -> list[DecidedSignal]:
    """Signals that do not expire within the measurement."""
    now = SystemClock().now()
    made = []
    for number in range(count):
        one = decided(uuid4(), Side.BUY)
        moment, expires_at = now + timedelta(microseconds=number), now + timedelta(hours=1)
        made.append(replace(one, signal=replace(one.signal, timestamp=moment, expires_at=expires_at)))
    return made
