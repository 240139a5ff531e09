"""Market events per second from RabbitMQ into the live state, bars stored, against a bare consumer, in turns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from statistics import median

import structlog
import uvloop

from benchmarks import market_floor
from benchmarks.figure import Figure
from benchmarks.market_workload import ASSETS, START, market_events
from benchmarks.servers import Servers, private_servers
from model_service.config.clock import SystemClock
from model_service.consumers.market_data import MarketDataConsumer
from model_service.database.bars import BarStore
from model_service.database.dead_letters import DeadLetters
from model_service.market.state import AssetMarket
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import OutgoingMessage

EVENTS = 20_000
REPETITIONS = 5
QUEUE = "bench.market_data"
BAR_SECONDS = 60
CLOCK = SystemClock()
Contestant = Callable[[Servers, int], Awaitable[float]]


def run() -> Iterator[Figure]:
    """`market_events_vs_floor`: the ratio of the rates, in turns; 0.7 and 5,000 a second are wanted."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield uvloop.run(_compare(EVENTS, REPETITIONS))


async def _compare(count: int, repetitions: int) -> Figure:
    events = market_events(count, seed=1)
    ours: list[float] = []
    floor: list[float] = []
    async with private_servers() as servers:
        for turn in range(repetitions):
            pair = [(_consume, ours), (_floor, floor)]
            for contestant, rates in pair if turn % 2 else pair[::-1]:
                rates.append(await _rate(servers, events, contestant))
    ratio = median(mine / bare for mine, bare in zip(ours, floor, strict=True))
    name = "market_events_vs_floor"
    return Figure(name, round(ratio, 3), round(median(ours)), round(median(floor)), "events per second", repetitions)


async def _rate(servers: Servers, events: Sequence[bytes], contestant: Contestant) -> float:
    """Events per second, of events that lie in the queue when the time begins."""
    await _prepare(servers, events)
    return len(events) / await contestant(servers, len(events))


async def _floor(servers: Servers, count: int) -> float:
    started = time.perf_counter()
    await market_floor.consume(servers.amqp_url, QUEUE, count)
    return time.perf_counter() - started


async def _consume(servers: Servers, count: int) -> float:
    started = time.perf_counter()
    transport = RabbitTransport(servers.amqp_url, clock=CLOCK)
    await transport.start()
    markets = {asset: AssetMarket(asset, BAR_SECONDS, jump_limit_percent=50.0, longest_gap_bars=5) for asset in ASSETS}
    subscription = transport.subscribe(QUEUE, declare=True)
    letters = DeadLetters(servers.database)
    consumer = MarketDataConsumer(subscription, markets, BarStore(servers.database, BAR_SECONDS), letters)
    taken = 0
    while taken < count:
        taken += await consumer.step(CLOCK.now(), wait_seconds=1.0)
    await transport.close()
    seconds = time.perf_counter() - started
    await _check(servers, markets, count)
    return seconds


async def _check(servers: Servers, markets: dict[str, AssetMarket], count: int) -> None:
    """Nothing was refused, every minute of every asset is a stored bar, and every market is up to date."""
    minutes = count // len(ASSETS) // 600
    stored = await servers.database.fetchval("SELECT count(*) FROM model_service.market_bars")
    refused = await servers.database.fetchval("SELECT count(*) FROM model_service.dead_letters")
    assert (stored, refused) == (minutes * len(ASSETS), 0), f"{stored} bars stored, {refused} messages refused"
    for market in markets.values():
        assert market.updated_at is not None
        assert market.updated_at - START > timedelta(minutes=minutes)


async def _prepare(servers: Servers, events: Sequence[bytes]) -> None:
    """The queue holds exactly these, and no bar is stored."""
    await servers.database.execute("TRUNCATE model_service.market_bars")
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
