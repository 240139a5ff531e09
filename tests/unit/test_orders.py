"""One order under two identifiers, several orders of one signal."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus
from model_service.trades.fills import OrderProgress
from model_service.trades.orders import KnownOrders
from tests.support.strategies import report

ONE = Decimal(1)


def flat(index: int, order_id: str, quantity: Decimal = ONE) -> Observation:
    return replace(report(index, ObservationKind.INCREMENT, quantity, Decimal(100), Decimal("0.1")), order_id=order_id)


def total(quantity: Decimal, status: OrderStatus = OrderStatus.FILLED) -> Observation:
    seen = report(9, ObservationKind.CHECKPOINT, quantity, Decimal(100), quantity / 10, status)
    return replace(seen, order_id="exchange-1", other_order_id="row-1")


def test_a_total_finds_the_fill_that_came_under_the_other_identifier() -> None:
    known = KnownOrders(())
    known.take(flat(0, "row-1"))
    order, rise = known.take(total(ONE))
    assert rise is None
    assert (order.order_id, order.other_order_id, order.filled_quantity) == ("row-1", "exchange-1", ONE)


def test_a_fill_that_comes_late_under_the_other_identifier_counts_once() -> None:
    known = KnownOrders(())
    known.take(total(ONE))
    _, rise = known.take(flat(0, "row-1"))
    assert rise is None


def test_fills_under_both_identifiers_are_joined_by_the_first_report_that_knows_both() -> None:
    known = KnownOrders(())
    known.take(flat(0, "row-1"))
    known.take(flat(1, "exchange-1"))
    order, rise = known.take(total(Decimal(3)))
    assert rise is not None
    assert (rise.quantity, order.filled_quantity, order.increment_quantity) == (ONE, Decimal(3), Decimal(2))
    assert known.joined == {"row-1": "exchange-1"}
    assert known.changed == {"exchange-1": order}
    assert known.find(flat(2, "row-1")) == order


@pytest.mark.parametrize("names", [["row-1", "exchange-1"], ["row-1", "row-1"], ["exchange-1", "exchange-1"]])
def test_a_total_of_nothing_but_known_fills_tells_more_until_both_identifiers_are_known(names: list[str]) -> None:
    known = KnownOrders(())
    for index, name in enumerate(names):
        known.take(flat(index, name))
    assert known.tells_more(total(Decimal(2)))
    order, rise = known.take(total(Decimal(2)))
    assert rise is None
    assert order.filled_quantity == 2
    assert {order.order_id, order.other_order_id} == {"row-1", "exchange-1"}
    assert not known.tells_more(total(Decimal(2)))


@pytest.mark.parametrize("late", ["row-1", "exchange-1"])
def test_a_late_total_under_one_identifier_books_nothing_that_came_under_the_other(late: str) -> None:
    known = KnownOrders(())
    known.take(flat(0, "row-1"))
    known.take(flat(1, "exchange-1"))
    known.take(total(Decimal(2)))
    _, rise = known.take(replace(total(Decimal(2)), order_id=late, other_order_id=None))
    assert rise is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["rejected", "filled"], "filled"),
        (["filled", "pending"], "pending"),
        (["pending", "partially_filled"], "partially_filled"),
        (["dry_run", "dry_run"], "dry_run"),
        (["cancelled", "rejected"], "cancelled"),
    ],
)
def test_the_state_of_a_signal_is_that_of_all_its_orders(states: list[str], expected: str) -> None:
    orders = [OrderProgress(f"order-{n}", "signal-1", OrderStatus(state)) for n, state in enumerate(states)]
    for order in (orders, orders[::-1]):
        assert KnownOrders(order).state_of("signal-1") is OrderStatus(expected)


def test_an_order_that_is_reported_for_two_signals_has_its_state_for_both() -> None:
    known = KnownOrders(())
    known.take(flat(0, "row-1"))
    other = replace(flat(0, "row-1"), event_id="again", signal_id="signal-2", quantity=Decimal(0), price=None)
    _, rise = known.take(other)
    assert rise is None
    assert known.state_of("signal-2") is OrderStatus.FILLED
    known.take(flat(1, "exchange-1"))
    known.take(total(Decimal(2)))
    assert known.joined, "the order is known by one identifier now"
    assert known.state_of("signal-2") is OrderStatus.FILLED
