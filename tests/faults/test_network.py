"""What a network does to open connections: silence, resets, cuts in the middle of a frame."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.arena import Arena
from tests.faults.ingest import ingest
from tests.faults.proxy import FaultProxy, Towards
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
BROKER_NOTICED_SECONDS = 33.0
DATABASE_NOTICED_SECONDS = 5.0
WITHIN_SECONDS = 15.0
FAULTS = 50
LARGEST_CUT_BYTES = 500
"""A consumer says little: acknowledgements of 21 bytes."""
RECONNECTED_SECONDS = 40.0


@pytest.mark.timeout(300)
async def test_broker_black_holed(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=8_000) as run:
        mark = run.service.mark()
        arena.amqp.black_hole()
        noticed = await run.service.until_logged("broker_lost", mark, BROKER_NOTICED_SECONDS, purpose="consume")
        arena.amqp.heal()
        recovery = await run.until_recorded(60.0)
        verdict = await run.settle()
    scenario.note(noticed_seconds=round(noticed, 2))
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


@pytest.mark.parametrize("tells_server", [True, False], ids=["and_mended", "and_its_sessions_never_ended"])
@pytest.mark.timeout(300)
async def test_database_black_holed(arena: Arena, scenario: Scenario, tells_server: bool) -> None:
    async with ingest(arena, orders=6_000) as run:
        mark = run.service.mark()
        arena.sql.black_hole()
        noticed = await run.service.until_logged("database_lost", mark, DATABASE_NOTICED_SECONDS)
        await run.service.until("/health", lambda _, body: body is not None and not body["database_connected"], 5.0)
        await asyncio.sleep(10.0)
        arena.sql.heal(tells_server=tells_server)
        recovery = await run.until_recorded(90.0)
        verdict = await run.settle()
    scenario.note(noticed_seconds=round(noticed, 2))
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(240)
async def test_database_frozen_and_thawed(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=4_000) as run:
        mark = run.service.mark()
        arena.postgres.pause()
        noticed = await run.service.until_logged("database_lost", mark, DATABASE_NOTICED_SECONDS)
        await asyncio.sleep(5.0)
        arena.postgres.resume()
        recovery = await run.until_recorded(60.0)
        verdict = await run.settle()
    scenario.note(noticed_seconds=round(noticed, 2))
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


@pytest.mark.timeout(600)
async def test_50_resets_ends_and_cuts_in_the_middle_of_a_frame(arena: Arena, scenario: Scenario) -> None:
    async with ingest(arena, orders=30_000) as run:
        # Side by side, since each waits for its own connection to be made again.
        await asyncio.gather(
            break_often(arena.amqp, FAULTS // 2, random.Random(4)),
            break_often(arena.sql, FAULTS - FAULTS // 2, random.Random(5)),
        )
        recovery = await run.until_recorded(60.0)
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)


async def break_often(proxy: FaultProxy, faults: int, rng: random.Random) -> None:
    """Reset or end all live connections, or cut one, so many times, each time when there are some again."""
    for _ in range(faults):
        await _until(lambda: bool(proxy.links))
        await asyncio.sleep(rng.uniform(0.1, 0.7))
        if (draw := rng.random()) < 0.3:
            proxy.reset()
        elif draw < 0.5:
            proxy.finish()
        else:
            proxy.cut_after(rng.randint(1, LARGEST_CUT_BYTES), rng.choice(list(Towards)))
            await _until(lambda: proxy.cut is None)


async def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RECONNECTED_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "the service did not connect again"
        await asyncio.sleep(0.01)
