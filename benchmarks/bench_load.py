"""Fifty strategies on twenty assets: is a tick missed, and how long until its signals are in the outbox?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import structlog
import uvloop

from benchmarks.decision_workload import START
from benchmarks.figure import Figure
from benchmarks.load_workload import ASSETS, STRATEGIES, TICK_SECONDS, make_load, resident_megabytes, training_beside
from benchmarks.servers import private_database

REAL_TICKS = 60
ACCELERATED_TICKS = int(os.environ.get("BENCH_ACCELERATED_TICKS", "600"))
LATENCY_LIMIT_SECONDS = 0.25
MEMORY_LIMIT_MB = 20.0
WARM_UP_TICKS = 100


def run() -> Iterator[Figure]:
    """`load_ticks_missed`, `load_tick_to_outbox_p99` and `load_memory_growth`; `floor` is what is allowed.

    Memory is that of BENCH_ACCELERATED_TICKS seconds without waiting for the clock; 3600 makes an hour of them.
    """
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    decisions, latencies = uvloop.run(_in_real_time(REAL_TICKS))
    wanted = STRATEGIES * ASSETS * REAL_TICKS
    yield Figure("load_ticks_missed", 1.0 - decisions / wanted, decisions, wanted, "decisions", REAL_TICKS, 0.0)
    p99 = quantiles(latencies, n=100, method="inclusive")[98]
    ratio = round(p99 / LATENCY_LIMIT_SECONDS, 3)
    yield Figure("load_tick_to_outbox_p99", ratio, round(p99, 4), LATENCY_LIMIT_SECONDS, "seconds", REAL_TICKS, 1.0)
    growth = uvloop.run(_accelerated(ACCELERATED_TICKS))
    grown = (round(growth / MEMORY_LIMIT_MB, 3), round(growth, 1), MEMORY_LIMIT_MB)
    yield Figure("load_memory_growth", *grown, "megabytes", ACCELERATED_TICKS, 1.0)


async def _in_real_time(ticks: int) -> tuple[int, list[float]]:
    """Decisions that were accounted for, and of each tick the seconds from its moment until all of it was committed."""
    async with private_database() as database:
        load = make_load(database, datetime.now(UTC))
        with training_beside():
            await load.tick(datetime.now(UTC))
            before, latencies = load.source.ticks, []
            for _ in range(ticks):
                moment = (int(time.time() / TICK_SECONDS) + 1) * TICK_SECONDS
                await asyncio.sleep(moment - time.time())
                await load.tick(datetime.now(UTC))
                latencies.append(time.time() - moment)
        return load.source.ticks - before, latencies


async def _accelerated(ticks: int) -> float:
    """Megabytes that the process has grown by after its first ticks."""
    async with private_database() as database:
        load = make_load(database, START)
        before = 0.0
        for second in range(ticks):
            await load.tick(START + timedelta(seconds=second))
            if second == WARM_UP_TICKS:
                before = resident_megabytes()
        return resident_megabytes() - before
