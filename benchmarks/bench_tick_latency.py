"""From the tick to the broker's confirmation, against one committed insert and one confirmed publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import structlog
import uvloop

from benchmarks.decision_workload import OnePolicy, acting_strategy, generator, refresh, trained_model, warm_market
from benchmarks.figure import Figure
from benchmarks.servers import Servers, private_servers
from model_service.config.clock import SystemClock
from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.outbox import Outbox
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import OutgoingMessage, PublishingRoute, RoleTaken, TransportUnavailable
from model_service.policies.model import ModelPolicy
from model_service.publishers.signal_publisher import PUBLISHER_ROLE, SignalPublisher
from model_service.roles import Role, RoleLoops

TICKS = 800
TICK_SECONDS = 0.1
ROUND = 50
"""Ticks of ours, then as many of the floor, in turn."""
LIMIT = 3.0
ASSET = "BTCUSDT"
CLOCK = SystemClock()
FLOOR_TABLE = "CREATE TABLE public.floor_ticks (signal_id uuid PRIMARY KEY, body text NOT NULL)"
SETTLED = "UPDATE model_service.trading_signals SET order_state = 'filled' WHERE order_state IS NULL"


def run() -> Iterator[Figure]:
    """`tick_to_confirmed_vs_floor_p50` and `tick_to_confirmed_vs_floor`, which is the ratio of the 99th percentiles."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    ours, floor = uvloop.run(_measure(TICKS))
    mine, bare = quantiles(ours, n=100), quantiles(floor, n=100)
    for name, index, limit in (("_p50", 49, None), ("", 98, LIMIT)):
        ratio = round(mine[index] / bare[index], 3)
        seconds = (round(mine[index], 5), round(bare[index], 5))
        yield Figure(f"tick_to_confirmed_vs_floor{name}", ratio, *seconds, "seconds", len(ours), limit)


@dataclass
class Latencies:
    """When a signal's tick began, and how long after that the broker confirmed it."""

    started: dict[UUID, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)

    def confirm(self, messages: Sequence[OutgoingMessage]) -> None:
        """The broker has taken these."""
        now = time.perf_counter()
        self.seconds += [now - self.started.pop(UUID(message.message_id)) for message in messages]
        self.confirmed.set()


class TimedTransport:
    """The transport, with an eye on its confirmations."""

    def __init__(self, transport: RabbitTransport, latencies: Latencies) -> None:
        self._transport = transport
        self._latencies = latencies

    async def lease_publishing(self, route: PublishingRoute) -> Any:
        """The role, watched."""
        return TimedLease(await self._transport.lease_publishing(route), self._latencies)


class TimedLease:
    """A lease that notes when its signals were confirmed."""

    def __init__(self, lease: Any, latencies: Latencies) -> None:
        self._lease = lease
        self._latencies = latencies

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Any:
        """As the lease does."""
        answers = await self._lease.publish(messages)
        self._latencies.confirm(messages)
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)


async def _measure(count: int) -> tuple[list[float], list[float]]:
    async with private_servers() as servers:
        await servers.database.execute(FLOOR_TABLE)
        transport = RabbitTransport(servers.amqp_url, clock=CLOCK)
        await transport.start()
        latencies = Latencies()
        publisher = SignalPublisher(Outbox(servers.database, PUBLISHER_ROLE), TimedTransport(transport, latencies))  # type: ignore[arg-type]
        await _take_role(publisher)
        now = asyncio.Event()
        source = _source(servers)
        loops = asyncio.create_task(RoleLoops([_publishing(publisher, now)], ()).run())
        floor: list[float] = []
        await _ticks(ROUND, source, latencies, now)
        latencies.seconds.clear()
        while len(floor) < count:
            await _ticks(ROUND, source, latencies, now)
            await servers.database.execute(SETTLED)
            floor += await _floor(servers, ROUND)
        loops.cancel()
        await asyncio.gather(loops, return_exceptions=True)
        await publisher.close()
        await transport.close()
    return latencies.seconds, floor


def _source(servers: Servers) -> Any:
    model, _ = trained_model()
    markets = {ASSET: warm_market(ASSET, CLOCK.now())}
    strategies = [acting_strategy("bench", [ASSET], 600.0)]
    policy = OnePolicy(ModelPolicy(model, "v1"), "model")
    store = PostgresDecisionStore(servers.database)
    return markets[ASSET], generator(strategies, markets, policy, store, tick_seconds=TICK_SECONDS)


def _publishing(publisher: SignalPublisher, now: asyncio.Event) -> Role:
    """As the service has it."""

    async def publish() -> bool:
        return await publisher.step(CLOCK.now()) > 0

    return Role("publish", publish, lambda: 1.0, wake=now)


async def _ticks(count: int, source: Any, latencies: Latencies, publish_now: asyncio.Event) -> None:
    """So many ticks that made a signal, each when the one before is confirmed and its time has come."""
    market, generation = source
    made = 0
    while made < count:
        await asyncio.sleep(generation.seconds_to_next_tick(CLOCK.now()))
        refresh(market, CLOCK.now())
        latencies.confirmed.clear()
        started = time.perf_counter()
        signals = await generation.step(CLOCK.now())
        if not signals:
            continue
        latencies.started |= {one.signal.signal_id: started for one in signals}
        publish_now.set()
        await asyncio.wait_for(latencies.confirmed.wait(), 30)
        made += 1


async def _floor(servers: Servers, count: int) -> list[float]:
    """A bare insert, committed, and a bare publish, confirmed, at the same pace."""
    address = servers.database.address
    database = await asyncpg.connect(host=address.host, port=address.port, user=address.user, database=address.database)
    broker = await aio_pika.connect(servers.amqp_url)
    channel = await broker.channel(publisher_confirms=True)
    body = b"x" * 600
    seconds = []
    for _ in range(count):
        await asyncio.sleep(TICK_SECONDS)
        started = time.perf_counter()
        await database.execute("INSERT INTO floor_ticks VALUES ($1, $2)", uuid4(), body.decode())
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=SIGNAL_QUEUE)
        seconds.append(time.perf_counter() - started)
    await broker.close()
    await database.close()
    return seconds


async def _take_role(publisher: SignalPublisher) -> None:
    """Connecting and taking the role is not what is measured."""
    async with asyncio.timeout(30):
        while True:
            try:
                await publisher.step(CLOCK.now())
            except (TransportUnavailable, RoleTaken):
                await asyncio.sleep(0.1)
            else:
                return
