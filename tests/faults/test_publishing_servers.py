"""Signals while the servers under the publisher are killed, frozen or silent, and while it is stopped in order."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.faults.arena import Arena
from tests.faults.publishing import publishing
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
ENDED = frozenset({"published", "expired"})
LIFETIME_SECONDS = 5.0
SILENT_SECONDS = 12.0
"""Longer than a signal lives, and than the broker's word is waited for."""
KILLS = 5
STOP_SECONDS = 10.0
DOUBT = "publish_unconfirmed"
"""Said as an error, each with its signal: an operator may want to look."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["black_holed", "frozen"])
async def test_no_signal_is_late_after_the_broker_was(arena: Arena, scenario: Scenario, how: str) -> None:
    async with publishing(arena, lifetime_seconds=LIFETIME_SECONDS) as run:
        run.expected_errors.append(DOUBT)
        deciding = asyncio.create_task(run.decide(2_500, per_second=25.0))
        await run.until_arrived(30.0)
        for _ in range(2):
            if how == "frozen":
                arena.broker.pause()
                await asyncio.sleep(SILENT_SECONDS)
                arena.broker.resume()
            else:
                arena.amqp.black_hole()
                await asyncio.sleep(SILENT_SECONDS)
                arena.amqp.heal()
            recovery = await run.until_arrived(60.0)
        await deciding
        verdict = await run.settle(final=ENDED)
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=30.0)


@pytest.mark.timeout(300)
async def test_signals_while_the_database_is_killed_5_times(arena: Arena, scenario: Scenario) -> None:
    rng, slowest = random.Random(10), 0.0
    async with publishing(arena) as run:
        run.expected_errors.append(DOUBT)
        for _ in range(KILLS):
            deciding = asyncio.create_task(run.decide(60, per_second=40.0))
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            arena.postgres.kill()
            await arena.postgres.start()
            # The decision that was under way has failed, as it does in the service.
            await asyncio.gather(deciding, return_exceptions=True)
            deciding = asyncio.create_task(run.decide(40, per_second=40.0))
            slowest = max(slowest, await run.until_arrived(60.0))
            await deciding
        run.decided = await run.count_recorded()
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=15.0)


@pytest.mark.timeout(400)
async def test_signals_while_the_broker_is_killed_5_times(arena: Arena, scenario: Scenario) -> None:
    rng, slowest = random.Random(11), 0.0
    async with publishing(arena) as run:
        run.expected_errors.append(DOUBT)
        await run.decide(50, per_second=25.0)
        await run.until_quiet()
        await arena.until_metadata_are_written()
        await asyncio.sleep(3.0)
        deciding = asyncio.create_task(run.decide(1_500, per_second=25.0))
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            arena.broker.kill()
            await arena.broker.start()
            slowest = max(slowest, await run.until_arrived(60.0))
        await deciding
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=15.0)


@pytest.mark.timeout(120)
async def test_publisher_stopped_in_order_under_load(arena: Arena, scenario: Scenario) -> None:
    slowest = 0.0
    async with publishing(arena) as run:
        deciding = asyncio.create_task(run.decide(600, per_second=60.0))
        for _ in range(3):
            await run.until_arrived(30.0)
            slowest = max(slowest, await run.service.terminate(within_seconds=STOP_SECONDS))
            run.service.start()
        await deciding
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest, within_seconds=STOP_SECONDS)
