"""kill -9 of the service: it starts, and starting is recovering."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.faults.arena import Arena
from tests.faults.ingest import ingest
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
WITHIN_SECONDS = 10.0


@pytest.mark.timeout(400)
async def test_service_killed_20_times_under_load(arena: Arena, scenario: Scenario) -> None:
    rng, slowest = random.Random(1), 0.0
    async with ingest(arena, orders=8_000) as run:
        for _ in range(20):
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            run.service.kill()
            run.service.start()
            slowest = max(slowest, await run.until_recorded(30.0))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=WITHIN_SECONDS)
