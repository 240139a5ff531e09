"""kill -9 of the service: it starts, and starting is recovering. A service that is wrong on purpose fails the same."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import early_ack
from tests.faults.arena import Arena
from tests.faults.book import Verdict
from tests.faults.ingest import ingest
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
WITHIN_SECONDS = 10.0
EARLY_ACK = (sys.executable, str(Path(early_ack.__file__)), "run")
DATABASE_DELAY_SECONDS = 0.02
"""Each way, while the service is killed: so that the blow falls between receipt and commit more often than not."""


async def kill_under_load(arena: Arena, kills: int, program: Sequence[str] | None = None) -> tuple[Verdict, float]:
    """Kill and start again under load; what is wrong in the end, and the longest time until events were recorded."""
    rng, slowest = random.Random(1), 0.0
    async with ingest(arena, orders=500 * kills, program=program) as run:
        for _ in range(kills):
            arena.sql.delay(DATABASE_DELAY_SECONDS)
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            run.service.kill()
            arena.sql.heal()
            run.service.start()
            slowest = max(slowest, await run.until_recorded(30.0))
        return await run.settle(stall_seconds=10.0), slowest


@pytest.mark.timeout(400)
async def test_service_killed_20_times_under_load(arena: Arena, scenario: Scenario) -> None:
    verdict, slowest = await kill_under_load(arena, kills=20)
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(240)
async def test_a_consumer_that_acknowledges_before_it_commits_is_caught(arena: Arena) -> None:
    verdict, _ = await kill_under_load(arena, kills=5, program=EARLY_ACK)
    assert not verdict.unexpected, "nothing else may be wrong with it"
    assert len(verdict.lost) > 0, "the check would pass a wrong consumer"
