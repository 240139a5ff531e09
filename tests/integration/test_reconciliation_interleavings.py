"""Events, looks at the real table and restarts in any order, in the real database: the book is the true one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest_asyncio
from hypothesis import HealthCheck, Phase, example, given, settings

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from tests.integration.test_order_reconciliation import LIMITS, Scene, scene_in
from tests.integration.test_stores import decided
from tests.support.builders import NOON
from tests.support.order_histories import (
    OrderRow,
    Polled,
    Restarted,
    Told,
    fills_under_both_identifiers,
    platforms,
    signed_quantities,
)
from tests.support.order_histories import Platform as History

GRACE = timedelta(seconds=LIMITS.grace_seconds)


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with scene_in(database) as made:
        yield made


async def publish(scene: Scene, history: History) -> None:
    signals = {order.signal_id: order.book for order in history.orders}
    made = []
    for signal_id, book in signals.items():
        strategy, _, asset = book.partition(":")
        one = decided(signal_id, Side.BUY)
        made.append(replace(one, signal=replace(one.signal, strategy_id=strategy, asset=asset)))
    await PostgresDecisionStore(scene.service).record(made, (), ())


async def play(scene: Scene, history: History) -> None:
    """All steps, one second apart, and one full look at the table as it stays."""
    now, reconciler = NOON, scene.reconciler()
    for step in history.steps:
        now += timedelta(seconds=1)
        match step:
            case Told(observation):
                await scene.record(observation)
            case Polled(rows):
                for row in rows:
                    await scene.platform.put_row(row)
                await reconciler.step(now)
                now += GRACE
                await reconciler.step(now)
            case Restarted():
                reconciler = scene.reconciler()
    for row in history.last_poll.rows:
        await scene.platform.put_row(row)
    await reconciler.step(now)
    await reconciler.step(now + GRACE)


async def known_of(scene: Scene, row: OrderRow) -> tuple[str, Decimal, Decimal]:
    [order] = await scene.service.fetch(
        "SELECT * FROM model_service.order_progress WHERE order_id = ANY($1) OR other_order_id = ANY($1)",
        [row.order_id, str(row.row_id)],
    )
    return order["status"], order["filled_quantity"], order["filled_fees"]


async def book_of_lots(scene: Scene) -> dict[str, Decimal]:
    rows = await scene.service.fetch(
        "SELECT strategy_id || ':' || asset AS book,"
        " sum(CASE side WHEN 'buy' THEN remaining_quantity ELSE -remaining_quantity END) AS net"
        " FROM model_service.lots GROUP BY 1"
    )
    return {row["book"]: row["net"] for row in rows if row["net"]}


async def book_of_fills(scene: Scene) -> dict[str, Decimal]:
    rows = await scene.service.fetch(
        "SELECT strategy_id || ':' || asset AS book, sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END) AS net"
        " FROM model_service.fills GROUP BY 1"
    )
    return {row["book"]: row["net"] for row in rows if row["net"]}


@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=platforms())
@example(history=fills_under_both_identifiers())
async def test_any_interleaving_ends_at_the_true_book(scene: Scene, history: History) -> None:
    await scene.platform.database.execute(
        "TRUNCATE public.orders, model_service.trading_signals, model_service.execution_events,"
        " model_service.order_progress, model_service.fills, model_service.lots, model_service.lot_closures CASCADE"
    )
    await publish(scene, history)
    await play(scene, history)
    for row in history.last_poll.rows:
        assert await known_of(scene, row) == (row.status.value, row.filled_quantity, row.fees or 0)
    truth = {book: net for book, net in signed_quantities(history.orders).items() if net}
    assert await book_of_fills(scene) == truth
    assert await book_of_lots(scene) == truth
