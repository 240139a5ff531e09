"""How long an execution event takes from being published to being in the position book, at 100 events a second."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from statistics import quantiles

import structlog
import uvloop

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
from model_service.roles import Role, RoleLoops

EVENTS = 1_500
EVENTS_PER_SECOND = 100
LIMIT_SECONDS = 1.0
LOOK_SECONDS = 0.005
QUEUE = "bench.book_latency"
CLOCK = SystemClock()
NEW_FILLS = "SELECT fill_id, event_id FROM model_service.fills WHERE fill_id > $1 ORDER BY fill_id"


def run() -> Iterator[Figure]:
    """`book_latency_p50` and `book_latency_p99`, in seconds; `floor` is the limit, a ratio below 1 is within it."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    latencies = uvloop.run(_measure(EVENTS))
    cuts = quantiles(latencies, n=100)
    for name, seconds in (("book_latency_p50", cuts[49]), ("book_latency_p99", cuts[98])):
        yield Figure(
            name, round(seconds / LIMIT_SECONDS, 4), round(seconds, 4), LIMIT_SECONDS, "seconds", len(latencies)
        )


async def _measure(count: int) -> list[float]:
    workload = make_workload(count, seed=2)
    async with private_servers() as servers:
        await PostgresDecisionStore(servers.database).record(workload.signals, (), ())
        transport = RabbitTransport(servers.amqp_url, clock=CLOCK)
        await transport.start()
        await transport.declare_queue(QUEUE)
        loops = asyncio.create_task(RoleLoops(_roles(servers, transport), ()).run())
        watching = asyncio.create_task(_watch(servers, count))
        published = await _publish(transport, workload.events[:count])
        seen = await watching
        loops.cancel()
        await asyncio.gather(loops, return_exceptions=True)
        await transport.close()
    return [seen[event_id] - at for event_id, at in published.items()]


def _roles(servers: Servers, transport: RabbitTransport) -> list[Role]:
    """The two roles of the service that an event goes through, wired as there."""
    store = ExecutionStore(servers.database)
    consumer = ExecutionConsumer(transport.subscribe(QUEUE, declare=True), store, DeadLetters(servers.database))
    deriver = FillDeriver(store)
    news = asyncio.Event()

    async def take() -> bool:
        if await consumer.step(CLOCK.now(), wait_seconds=1.0):
            news.set()
        return True

    async def derive() -> bool:
        return await deriver.step(CLOCK.now()) > 0

    return [Role("executions", take, lambda: 0.0), Role("fills", derive, lambda: 1.0, wake=news)]


async def _publish(transport: RabbitTransport, events: Sequence[bytes]) -> dict[str, float]:
    """Publish at random moments, each message by itself; returns by event_id when that began."""
    rng = random.Random(3)
    published: dict[str, float] = {}
    sending: list[asyncio.Task[object]] = []
    due = time.perf_counter()
    for body in events:
        due += rng.expovariate(EVENTS_PER_SECOND)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        event_id = json.loads(body)["event_id"]
        published[event_id] = time.perf_counter()
        sending.append(asyncio.create_task(transport.publish([OutgoingMessage("", QUEUE, body, event_id)])))
    await asyncio.gather(*sending)
    return published


async def _watch(servers: Servers, count: int) -> dict[str, float]:
    """By event_id, when its fill was first seen; looks every 5 ms."""
    seen: dict[str, float] = {}
    newest = 0
    while len(seen) < count:
        rows = await servers.database.fetch(NEW_FILLS, newest)
        now = time.perf_counter()
        seen.update({row["event_id"]: now for row in rows})
        newest = rows[-1]["fill_id"] if rows else newest
        await asyncio.sleep(LOOK_SECONDS)
    return seen
