"""kill -9, restarts and long absences of RabbitMQ and PostgreSQL under load."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.faults.arena import Arena
from tests.faults.ingest import ingest
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
WITHIN_SECONDS = 15.0
"""After the server takes connections again."""


@pytest.mark.timeout(400)
async def test_broker_killed_5_times_under_load(arena: Arena, scenario: Scenario) -> None:
    rng, slowest = random.Random(2), 0.0
    async with ingest(arena, orders=4_000) as run:
        await arena.until_metadata_are_written()
        for _ in range(5):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            arena.broker.kill()
            await arena.broker.start()
            slowest = max(slowest, await run.until_recorded(60.0))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(240)
async def test_broker_restarted_in_order_under_load(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena) as run:
        await arena.broker.stop()
        await arena.broker.start()
        recovery = await run.until_recorded(60.0)
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(240)
async def test_database_killed_5_times_under_load(arena: Arena, scenario: Scenario) -> None:
    rng, slowest = random.Random(3), 0.0
    async with ingest(arena, orders=4_000) as run:
        for _ in range(5):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            arena.postgres.kill()
            await arena.postgres.start()
            slowest = max(slowest, await run.until_recorded(60.0))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(300)
async def test_database_away_for_70_seconds(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=8_000, per_second=100.0) as run:
        await arena.postgres.stop()
        await asyncio.sleep(70.0)
        assert not run.service.has_ended, run.service.tail()
        await arena.postgres.start()
        recovery = await run.until_recorded(60.0)
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


@pytest.mark.quick
@pytest.mark.timeout(240)
async def test_service_database_and_broker_killed_once_each(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=1_000, per_second=100.0) as run:
        await arena.until_metadata_are_written()
        run.service.kill()
        run.service.start()
        slowest = await run.until_recorded(60.0)
        arena.postgres.kill()
        await arena.postgres.start()
        slowest = max(slowest, await run.until_recorded(60.0))
        arena.broker.kill()
        await arena.broker.start()
        slowest = max(slowest, await run.until_recorded(60.0))
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest)


@pytest.mark.quick
@pytest.mark.timeout(120)
async def test_stopped_in_order_under_load(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=1_000, per_second=300.0) as run:
        took = await run.service.terminate(within_seconds=10.0)
        run.service.start()
        verdict = await run.settle()
    scenario.note(stop_seconds=round(took, 2))
    scenario.conclude(verdict, recovery_seconds=took, within_seconds=10.0)
