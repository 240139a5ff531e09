"""Execution events per second from RabbitMQ into PostgreSQL, against a bare consumer on the same servers.

All events are fills of known signals. Ours stores, commits and acknowledges an event first and enters it into the
position book right after, so there are two figures: until the last event is acknowledged, without the book, which is
what the floor does too; and until the last event is in the book, both at work side by side as in the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from statistics import median

import structlog
import uvloop

from benchmarks import ingest_floor
from benchmarks.figure import Figure
from benchmarks.ingest_workload import make_workload
from benchmarks.servers import Servers, private_servers
from model_service.config.clock import SystemClock
from model_service.consumers.executions import ExecutionConsumer
from model_service.consumers.fills import FillDeriver
from model_service.database.dead_letters import DeadLetters
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.executions import ExecutionStore
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import OutgoingMessage

EVENTS = 20_000
REPETITIONS = 5
QUEUE = "bench.execution_events"
PREFETCH = 400
CLOCK = SystemClock()
EMPTY = """
    TRUNCATE model_service.execution_events, model_service.underived_executions, model_service.order_progress,
        model_service.fills, model_service.lots, model_service.lot_closures;
    DROP TABLE IF EXISTS public.floor_events;
    UPDATE model_service.trading_signals SET order_state = NULL, first_filled_at = NULL;
    VACUUM ANALYZE model_service.trading_signals;
    CHECKPOINT
"""
Contestant = Callable[[Servers, int], Awaitable[None]]


def run() -> Iterator[Figure]:
    """`ingest_vs_floor` and `ingest_to_book_vs_floor`."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield from uvloop.run(_compare(EVENTS, REPETITIONS))


async def _compare(count: int, repetitions: int) -> list[Figure]:
    workload = make_workload(count, seed=1)
    contestants = [_floor, _ingest, _ingest_to_book]
    rates: dict[Contestant, list[float]] = {one: [] for one in contestants}
    async with private_servers() as servers:
        await PostgresDecisionStore(servers.database).record(workload.signals, (), ())
        for turn in range(repetitions):
            for one in contestants if turn % 2 else contestants[::-1]:
                rates[one].append(await _rate(servers, workload.events[:count], one))
    return [
        _figure("ingest_vs_floor", rates[_ingest], rates[_floor]),
        _figure("ingest_to_book_vs_floor", rates[_ingest_to_book], rates[_floor]),
    ]


def _figure(name: str, ours: Sequence[float], floor: Sequence[float]) -> Figure:
    ratio = median(mine / bare for mine, bare in zip(ours, floor, strict=True))
    return Figure(name, round(ratio, 3), round(median(ours)), round(median(floor)), "events per second", len(ours))


async def _rate(servers: Servers, events: Sequence[bytes], contestant: Contestant) -> float:
    """Events per second, of events that lie in the queue when the time begins."""
    await _prepare(servers, events)
    started = time.perf_counter()
    await contestant(servers, len(events))
    return len(events) / (time.perf_counter() - started)


async def _floor(servers: Servers, count: int) -> None:
    address = servers.database.address
    place = {"host": address.host, "port": address.port, "user": address.user, "database": address.database}
    await ingest_floor.consume(servers.amqp_url, QUEUE, place, count)
    assert await servers.database.fetchval("SELECT count(*) FROM public.floor_events") == count


async def _ingest(servers: Servers, count: int) -> None:
    await _consume(servers, count, asyncio.Event())
    assert await servers.database.fetchval("SELECT count(*) FROM model_service.underived_executions") == count


async def _ingest_to_book(servers: Servers, count: int) -> None:
    news = asyncio.Event()
    await asyncio.gather(_consume(servers, count, news), _derive(servers, count, news))
    assert await servers.database.fetchval("SELECT count(*) FROM model_service.fills") == count


async def _consume(servers: Servers, count: int, news: asyncio.Event) -> None:
    transport = RabbitTransport(servers.amqp_url, clock=CLOCK)
    await transport.start()
    subscription = transport.subscribe(QUEUE, prefetch=PREFETCH, declare=True)
    consumer = ExecutionConsumer(subscription, ExecutionStore(servers.database), DeadLetters(servers.database))
    while count > 0:
        count -= await consumer.step(CLOCK.now(), wait_seconds=1.0)
        news.set()
    await transport.close()


async def _derive(servers: Servers, count: int, news: asyncio.Event) -> None:
    deriver = FillDeriver(ExecutionStore(servers.database))
    while deriver.fills < count:
        await news.wait()
        news.clear()
        await deriver.catch_up(CLOCK.now())


async def _prepare(servers: Servers, events: Sequence[bytes]) -> None:
    """The queue holds exactly these, persistent, and every table that either fills is empty."""
    async with servers.database.acquire() as connection:
        for statement in EMPTY.split(";"):
            await connection.execute(statement)
    transport = RabbitTransport(servers.amqp_url, clock=CLOCK)
    await transport.start()
    await transport.declare_queue(QUEUE)
    state = await transport.queue_state(QUEUE)
    assert state is not None
    assert state.messages == 0, f"{state.messages} messages were left unacknowledged"
    for start in range(0, len(events), 500):
        batch = [OutgoingMessage("", QUEUE, body, str(start + n)) for n, body in enumerate(events[start : start + 500])]
        await transport.publish(batch)
    await transport.close()
