"""Orders in the database: known under two identifiers, several of them for one signal."""

from __future__ import annotations

from dataclasses import replace

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus, Side
from model_service.database.connection import Database
from tests.integration.test_stores import BUY_ID, decided, increment, record, with_signals

SIGNAL = str(BUY_ID)


def fill(event_id: str, order_id: str, quantity: str = "1") -> Observation:
    return replace(increment(event_id, SIGNAL, Side.BUY, quantity, "100"), order_id=order_id)


def total(event_id: str, quantity: str, status: OrderStatus = OrderStatus.FILLED) -> Observation:
    seen = fill(event_id, "exchange-1", quantity)
    return replace(seen, kind=ObservationKind.CHECKPOINT, status=status, other_order_id="row-1")


async def fills(database: Database) -> list[tuple[str, int]]:
    rows = await database.fetch("SELECT order_id, quantity FROM model_service.fills ORDER BY fill_id")
    return [(row["order_id"], int(row["quantity"])) for row in rows]


async def state(database: Database) -> str:
    return str(await database.fetchval("SELECT order_state FROM model_service.trading_signals"))


async def test_a_fill_under_one_identifier_and_a_total_under_the_other_count_once(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, fill("e1", "row-1"))
    await record(database, total("e2", "1"))
    await record(database, fill("e3", "exchange-1"))
    assert await fills(database) == [("row-1", 1), ("row-1", 1)]
    await record(database, total("e4", "2"))
    assert await database.fetchval("SELECT sum(remaining_quantity) FROM model_service.lots") == 2


async def test_what_was_kept_apart_is_joined(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, fill("e1", "row-1"), fill("e2", "exchange-1"))
    await record(database, total("e3", "3"))
    assert await fills(database) == [("exchange-1", 1), ("exchange-1", 1), ("exchange-1", 1)]
    orders = await database.fetch("SELECT order_id, other_order_id, filled_quantity FROM model_service.order_progress")
    assert [tuple(order) for order in orders] == [("exchange-1", "row-1", 3)]


async def test_the_state_of_a_signal_is_that_of_all_its_orders(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, replace(total("e1", "1", OrderStatus.PARTIALLY_FILLED), signal_id=SIGNAL.upper()))
    await record(database, replace(total("e2", "2"), order_id="exchange-2", other_order_id="row-2"))
    assert await state(database) == "partially_filled"
    await record(database, total("e3", "1", OrderStatus.CANCELLED))
    assert await state(database) == "filled"
