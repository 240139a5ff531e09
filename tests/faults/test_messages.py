"""What is sent: the same event again and again, replicas that race for it, and bodies that mean nothing.

Nothing breaks here, so the recovery that is printed is the time from the last event until the book was right.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest

from tests.faults.arena import EXECUTIONS, Arena
from tests.faults.feeder import Message
from tests.faults.ingest import ingest, recording_delays
from tests.faults.ledger import make_ledger
from tests.faults.poison import KINDS, poisons
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
COPIES = 1_000
REPLICAS = 3
ROUNDS = 2
GOOD_TO_BAD = 100
P99_SECONDS = 1.0
"""From the first attempt to send an event until it is in the book."""


@pytest.mark.timeout(240)
async def test_one_event_1000_times_and_three_replicas_racing(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=800, per_second=100.0) as run:
        for _ in range(REPLICAS - 1):
            arena.service().start()
        for replica in arena.services:
            await replica.until_ready()
        await arena.until_consumers(EXECUTIONS, REPLICAS)
        again = list(run.ledger.events[:400]) * 2
        random.Random(6).shuffle(again)
        await asyncio.gather(
            run.feed([run.ledger.events[0]] * COPIES, per_second=1_000.0), run.feed(again, per_second=200.0)
        )
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=run.settled_seconds)


@pytest.mark.quick
@pytest.mark.timeout(240)
async def test_poison_1_in_100_of_each_kind(arena: Arena, scenario: Scenario) -> None:
    good = make_ledger(7, ROUNDS * len(KINDS) * GOOD_TO_BAD // 2, datetime.now(UTC))
    async with arena.database() as database:
        await good.seed(database)
    events = iter(good.events)
    mixed: list[Message] = []
    for round_number in range(ROUNDS):
        for poison in poisons(round_number):
            mixed += [event for _, event in zip(range(GOOD_TO_BAD), events, strict=False)]
            mixed.append(poison)
    async with ingest(arena, orders=100) as run:
        await run.feed(mixed, per_second=400.0)
        verdict = await run.settle()
        assert len(run.poison) == ROUNDS * len(KINDS)
    scenario.conclude(verdict, recovery_seconds=run.settled_seconds)


@pytest.mark.timeout(240)
async def test_an_event_is_in_the_book_within_a_second(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=2_000, per_second=100.0) as run:
        await asyncio.sleep(20.0)
        verdict = await run.settle()
    delays = await recording_delays(run)
    p50, p99 = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
    scenario.note(events=len(delays), p50_seconds=round(p50, 3), p99_seconds=round(p99, 3))
    scenario.conclude(verdict, recovery_seconds=run.settled_seconds)
    assert p99 <= P99_SECONDS, f"the p99 is {p99:.2f} s"
