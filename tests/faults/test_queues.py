"""Queues that are missing, deleted, made again, foreign; and the queue of dead letters."""

from __future__ import annotations

import asyncio
import time

import pytest

from model_service.consumers.dead_letter_office import DEAD_LETTER_QUEUE
from tests.faults.arena import EXECUTIONS, Arena
from tests.faults.broker_limits import memory_alarm
from tests.faults.ingest import Ingest, ingest, prepared
from tests.faults.poison import KINDS, poisons
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
WITHIN_SECONDS = 15.0
FOREIGN = {"x-message-ttl": 86_400_000, "x-max-length": 100_000, "x-overflow": "drop-head"}
PART = 300
COPIES_SECONDS = 90.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "of_others"])
async def test_execution_queue_missing_deleted_made_again_foreign(
    arena: Arena, scenario: Scenario, is_ours: bool
) -> None:
    async with prepared(arena, orders=1_000, settings={"EXECUTION_QUEUE_IS_OURS": str(is_ours).lower()}) as run:
        parts = [slice(start, start + PART) for start in range(0, len(run.ledger.events), PART)]
        if is_ours:
            await arena.until_consumers(EXECUTIONS, 1)
        else:
            await run.service.until_logged("queue_absent", 0, 30.0, queue=EXECUTIONS)
            await arena.declare_queue(EXECUTIONS)
        slowest = await feed_and_count(run, parts[0])
        # What lies in a queue that somebody deletes is gone, so it is emptied first; then it is made by somebody else.
        await arena.delete_queue(EXECUTIONS)
        if is_ours:
            await arena.until_consumers(EXECUTIONS, 1)
        else:
            await asyncio.sleep(2.0)
            await arena.declare_queue(EXECUTIONS)
        slowest = max(slowest, await feed_and_count(run, parts[1]))
        await arena.delete_queue(EXECUTIONS)
        # Between the two the service may have made it again as its own.
        await arena.delete_and_declare(EXECUTIONS, FOREIGN)
        slowest = max(slowest, await feed_and_count(run, parts[2]))
        run.service.kill()
        run.service.start()
        await feed_and_count(run, parts[3])
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=WITHIN_SECONDS)


async def feed_and_count(run: Ingest, part: slice) -> float:
    """Send a part, and wait until all of it is in the book; returns how long the first took."""
    feeding = asyncio.create_task(run.feed(run.ledger.events[part], per_second=200.0))
    took = await run.until_recorded(60.0)
    await feeding
    await run.until_all_counted()
    return took


@pytest.mark.timeout(300)
async def test_dead_letter_queue_deleted_and_foreign(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=200, per_second=20.0) as run:
        await feed_poison(run, 0)
        await until_depth(arena, len(KINDS))
        await arena.delete_queue(DEAD_LETTER_QUEUE)
        await feed_poison(run, 1)
        recovery = await until_depth(arena, len(KINDS))
        # Foreign: with a bound, and what comes after is refused; the table is the record.
        await arena.delete_and_declare(DEAD_LETTER_QUEUE, {"x-max-length": 5, "x-overflow": "reject-publish"})
        await feed_poison(run, 2)
        recovery = max(recovery, await until_depth(arena, 5))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery)


@pytest.mark.timeout(300)
async def test_broker_takes_no_copies_of_dead_letters(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=200, per_second=20.0) as run:
        # In the queue before the broker blocks all publishers, the feeder included.
        run.service.kill()
        await feed_poison(run, 0)
        async with memory_alarm(arena.broker):
            run.service.start()
            recovery = await run.until_recorded(60.0)
            await asyncio.sleep(10.0)
        await until_depth(arena, len(KINDS))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery)


async def feed_poison(run: Ingest, round_number: int) -> None:
    """One of each kind, among good events."""
    await run.feed(poisons(round_number), per_second=100.0)


async def until_depth(arena: Arena, count: int) -> float:
    """Wait until so many copies lie in the queue of dead letters; returns how long. Raises AssertionError."""
    began = time.monotonic()
    while (found := await arena.depth(DEAD_LETTER_QUEUE) or 0) < count:
        assert time.monotonic() - began < COPIES_SECONDS, f"{found} copies of dead letters, not {count}"
        await asyncio.sleep(0.2)
    return time.monotonic() - began
