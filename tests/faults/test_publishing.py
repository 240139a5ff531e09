"""Signals: each reaches order-manager once, or says why it did not, and none after its expiry."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from model_service.contracts.signals import SIGNAL_EXCHANGE, SIGNAL_QUEUE
from tests.faults import careless_resend
from tests.faults.arena import Arena
from tests.faults.book import Verdict
from tests.faults.broker_limits import disk_alarm, memory_alarm
from tests.faults.publishing import PUBLISHED, Publishing, publishing
from tests.faults.scenario import Scenario

pytestmark = pytest.mark.faults
SIGNALS = 4_000
FAULTS = 25
ALARM_SECONDS = 120.0
DROPPED_SECONDS = 1.0
TX_COMMIT = bytes.fromhex("00000004 005a 0014 ce")
"""The end of the AMQP frame that commits a transaction: its size, class and method, and the mark of the frame's end."""
CARELESS_RESEND = (sys.executable, str(Path(careless_resend.__file__)), "run")
ENDED = frozenset({"published", "expired"})


@pytest.mark.timeout(600)
async def test_publisher_killed_reset_and_its_confirms_dropped_25_times(arena: Arena, scenario: Scenario) -> None:
    rng = random.Random(8)
    async with publishing(arena) as run:
        # Doubts are said as errors, each with its signal: an operator may want to look at them.
        run.expected_errors.append("publish_unconfirmed")
        deciding = asyncio.create_task(run.decide(SIGNALS, per_second=20.0))
        slowest = 0.0
        for number in range(FAULTS):
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            await (kill, reset, drop_confirms)[number % 3](run)
            slowest = max(slowest, await run.until_arrived(60.0))
        await deciding
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=slowest)


async def kill(run: Publishing) -> None:
    """kill -9 of the service."""
    run.service.kill()
    run.service.start()


async def reset(run: Publishing) -> None:
    """A reset of all its connections to the broker."""
    run.arena.amqp.reset()


async def drop_confirms(run: Publishing) -> None:
    """It commits signals, they are delivered, and the broker's word of that does not come back."""
    run.arena.amqp.drop_replies_from(TX_COMMIT)
    await run.arena.amqp.has_heard_it.wait()
    await asyncio.sleep(DROPPED_SECONDS)
    run.arena.amqp.heal()


@pytest.mark.quick
@pytest.mark.timeout(240)
async def test_publisher_killed_and_its_confirms_dropped(arena: Arena, scenario: Scenario) -> None:
    verdict, slowest = await kill_and_drop_confirms(arena)
    scenario.conclude(verdict, recovery_seconds=slowest)


@pytest.mark.timeout(240)
async def test_a_publisher_that_sends_again_without_asking_is_caught(arena: Arena) -> None:
    verdict, _ = await kill_and_drop_confirms(arena, CARELESS_RESEND)
    assert verdict.lost + verdict.unexpected == [], "nothing else may be wrong with it"
    assert verdict.duplicated, "the check would pass a wrong publisher"


async def kill_and_drop_confirms(arena: Arena, program: Sequence[str] | None = None) -> tuple[Verdict, float]:
    """What is wrong in the end, and the longest time until signals arrived again."""
    async with publishing(arena, program=program) as run:
        run.expected_errors.append("publish_unconfirmed")
        deciding = asyncio.create_task(run.decide(600, per_second=60.0))
        slowest = await run.until_arrived(30.0)
        for damage in (kill, drop_confirms, drop_confirms):
            await damage(run)
            slowest = max(slowest, await run.until_arrived(60.0))
        await deciding
        return await run.settle(), slowest


@pytest.mark.timeout(400)
async def test_memory_alarm_for_two_minutes(arena: Arena, scenario: Scenario) -> None:
    async with publishing(arena, lifetime_seconds=10.0) as run:
        # One that is sent milliseconds before its expiry may be left in doubt, which is said as an error.
        run.expected_errors.append("publish_unconfirmed")
        await run.decide(100, per_second=20.0)
        async with memory_alarm(arena.broker):
            await run.decide(round(10 * ALARM_SECONDS), per_second=10.0)
            deciding = asyncio.create_task(run.decide(300, per_second=10.0))
        # While more are decided: what is about to expire must not hold up what is not.
        recovery = await run.until_arrived(60.0)
        await deciding
        verdict = await run.settle(final=ENDED)
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=15.0)


@pytest.mark.timeout(240)
async def test_broker_lacks_disk(arena: Arena, scenario: Scenario) -> None:
    async with publishing(arena) as run:
        await run.decide(100, per_second=20.0)
        async with disk_alarm(arena.broker):
            await run.decide(300, per_second=20.0)
        recovery = await run.until_arrived(60.0)
        verdict = await run.settle()
    scenario.conclude(verdict, recovery_seconds=recovery)


@pytest.mark.timeout(300)
async def test_binding_removed_order_queue_deleted_exchange_deleted(arena: Arena, scenario: Scenario) -> None:
    async with publishing(arena) as run:
        run.expected_errors += ["signals_unroutable", "publish_unconfirmed", "route_refused"]
        await run.decide(100, per_second=20.0)
        slowest = 0.0
        for damage in (unbind, delete_order_queue, delete_exchange):
            await run.until_quiet()
            await damage(arena)
            # A binding is taken to be there for a second after it was renewed.
            await asyncio.sleep(1.5)
            deciding = asyncio.create_task(run.decide(100, per_second=20.0))
            slowest = max(slowest, await run.until_arrived(60.0))
            await deciding
        verdict = await run.settle(final=PUBLISHED | {"unroutable"})
    scenario.conclude(verdict, recovery_seconds=slowest)


async def unbind(arena: Arena) -> None:
    """Somebody removes the binding of order-manager's queue to our exchange."""
    async with arena.channel() as channel:
        queue = await channel.get_queue(SIGNAL_QUEUE, ensure=False)
        await queue.unbind(SIGNAL_EXCHANGE, SIGNAL_QUEUE)


async def delete_order_queue(arena: Arena) -> None:
    """Somebody deletes order-manager's queue."""
    await arena.delete_queue(SIGNAL_QUEUE)


async def delete_exchange(arena: Arena) -> None:
    """Somebody deletes our exchange."""
    async with arena.channel() as channel:
        await channel.exchange_delete(SIGNAL_EXCHANGE)
