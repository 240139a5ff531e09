"""Events, the platform's table `orders`, kills: each fill counts once, whoever tells of it, and none needs an event."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from model_service.contracts.types import Side
from tests.faults.arena import Arena
from tests.faults.book import check_book
from tests.faults.ingest import end_services, prepared
from tests.faults.ledger import Event, Order, truth_of
from tests.faults.scenario import Scenario
from tests.support.platform_tables import BALANCES, ORDERS, POSITIONS, Platform

pytestmark = pytest.mark.faults
NEVER_PUBLISHED_SHARE = 0.3
"""Of the reports: order-manager publishes no fill that it finds by itself, and no partial one after the first."""
ROWS_PER_SECOND = 100.0
KILLS = 3
QUICK: dict[str, object] = {
    "TRADING_ORDER_LOOKUP_ENABLED": "true",
    "EXECUTION_RECONCILIATION_INTERVAL_SECONDS": 0.5,
    "EXECUTION_RECONCILIATION_GRACE_SECONDS": 1,
    "EXECUTION_RECONCILIATION_SWEEP_SECONDS": 3,
    "SIGNAL_LOST_AFTER_SECONDS": 600,
}
WITHIN_SECONDS = 30.0


@pytest.mark.timeout(300)
async def test_events_and_orders_table_race_while_the_service_is_killed(arena: Arena, scenario: Scenario) -> None:
    rng = random.Random(12)
    await arena.postgres.execute(ORDERS + POSITIONS + BALANCES, arena.name)
    # Decided just now: a signal that has no order when it is old is reported as lost.
    async with prepared(arena, orders=600, age=timedelta(0), settings=QUICK) as run:
        await run.service.until_ready()
        published = [event for event in run.ledger.events if rng.random() > NEVER_PUBLISHED_SHARE]
        work = asyncio.gather(
            keep_table(arena, run.ledger.events, rng), run.feed(published, per_second=ROWS_PER_SECOND * 0.7)
        )
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            run.service.kill()
            run.service.start()
        await work
        began, truth = time.monotonic(), truth_of(run.ledger.events)
        while not (verdict := await check_book(arena.address, run.sent, truth=truth)).is_clean:
            if time.monotonic() - began > WITHIN_SECONDS:
                break
            await asyncio.sleep(0.5)
        recovery = time.monotonic() - began
        verdict += await end_services(arena)
    scenario.conclude(verdict, recovery_seconds=recovery)


async def keep_table(arena: Arena, events: Sequence[Event], rng: random.Random) -> None:
    """Write the totals of each order as they grow; its rows may come long before the events or long after."""
    async with arena.database() as database:
        platform = Platform(database)
        for state in _states(events, rng):
            order, side = state.order, "Buy" if state.order.side is Side.BUY else "SELL"
            await platform.put(
                order.order_id, order.signal_id, state.status, str(state.quantity), fees=str(state.fees),
                asset=order.asset, side=side, row_id=UUID(int=order.signal_id.int ^ 1),
            )  # fmt: skip
            await asyncio.sleep(1.0 / ROWS_PER_SECOND)


@dataclass(frozen=True, slots=True)
class _State:
    """An order's row after one of its reports."""

    order: Order
    status: str
    quantity: Decimal
    fees: Decimal


def _states(events: Sequence[Event], rng: random.Random) -> list[_State]:
    """In the order of the reports, but each order moved by up to 200 of them."""
    lag: dict[str, float] = defaultdict(lambda: rng.uniform(-200.0, 200.0))
    totals: dict[str, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    last = {event.order.order_id: event for event in events}
    placed: list[tuple[float, _State]] = []
    for place, event in enumerate(events):
        name = event.order.order_id
        quantity, fees = totals[name] if event.is_increment else (Decimal(0), Decimal(0))
        totals[name] = (quantity + event.quantity, fees + event.fees)
        status = "filled" if last[name] is event else "partially_filled" if totals[name][0] else "pending"
        placed.append((place + lag[name], _State(event.order, status, *totals[name])))
    return [state for _, state in sorted(placed, key=lambda pair: pair[0])]
