"""Fills are rises of what is known of an order, whatever the mixture and order of reports."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus
from model_service.trades.fills import FillRise, OrderProgress, advance
from tests.support.strategies import OrderHistory, order_histories, report

PENDING, PARTIAL, FILLED = OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED
CANCELLED, REJECTED = OrderStatus.CANCELLED, OrderStatus.REJECTED


def checkpoint(quantity: str, price: str | None, fees: str = "0", status: OrderStatus = PARTIAL) -> Observation:
    return report(
        0,
        ObservationKind.CHECKPOINT,
        Decimal(quantity),
        None if price is None else Decimal(price),
        Decimal(fees),
        status,
    )


def increment(quantity: str, price: str, fees: str = "0") -> Observation:
    return report(0, ObservationKind.INCREMENT, Decimal(quantity), Decimal(price), Decimal(fees))


def play(observations: Sequence[Observation]) -> tuple[OrderProgress, list[FillRise]]:
    progress: OrderProgress | None = None
    rises = []
    for observation in observations:
        progress, rise = advance(progress, observation)
        rises += [rise] if rise else []
    assert progress is not None
    return progress, rises


def rise(quantity: str, price: str, fees: str) -> FillRise:
    return FillRise(Decimal(quantity), Decimal(price), Decimal(fees))


def test_totals_become_the_fills_between_them() -> None:
    _, rises = play(
        [
            checkpoint("0", None, status=PENDING),
            checkpoint("0.001", "50001.5", "0.0275"),
            checkpoint("0.002", "50002.25", "0.055", FILLED),
        ]
    )
    assert rises == [rise("0.001", "50001.5", "0.0275"), rise("0.001", "50003", "0.0275")]


def test_increments_are_fills() -> None:
    progress, rises = play([increment("1", "100", "0.1"), increment("2", "103", "0.3")])
    assert rises == [rise("1", "100", "0.1"), rise("2", "103", "0.3")]
    assert (progress.filled_quantity, progress.filled_notional) == (Decimal(3), Decimal(306))


def test_the_same_fill_told_twice_in_both_shapes_counts_once() -> None:
    _, rises = play([increment("1", "100", "0.1"), checkpoint("1", "100", "0.1", FILLED)])
    assert rises == [rise("1", "100", "0.1")]


def test_a_total_supplies_the_increment_that_was_lost() -> None:
    _, rises = play([increment("1", "100", "0.1"), checkpoint("3", "102", "0.4", FILLED)])
    assert rises == [rise("1", "100", "0.1"), rise("2", "103", "0.3")]


def test_an_older_total_lowers_nothing() -> None:
    newest, _ = play([checkpoint("2", "101", "0.2", FILLED)])
    after, found = advance(newest, checkpoint("1", "100", "0.1"))
    assert after == newest
    assert found is None


def test_rebates_and_falling_fees_pass_through() -> None:
    _, rises = play([checkpoint("1", "100", "0.2"), checkpoint("2", "100", "-0.1", FILLED)])
    assert rises[1].fees == Decimal("-0.3")


@pytest.mark.parametrize("average", ["99", "101"])
def test_sources_that_disagree_do_not_make_up_a_price(average: str) -> None:
    """By arithmetic the last 0.001 would have cost -900.9 or 1101 apiece; it cost what its report says."""
    progress, rises = play([increment("1", "100"), checkpoint("1.001", average, status=FILLED)])
    assert rises[1] == rise("0.001", average, "0")
    assert progress.filled_notional == Decimal(100) + Decimal("0.001") * Decimal(average)


def test_a_quantity_without_a_price_counts_for_its_status_only() -> None:
    progress, rises = play([checkpoint("1", None, status=CANCELLED), checkpoint("1", "100", status=PARTIAL)])
    assert rises == [rise("1", "100", "0")]
    assert progress.status is CANCELLED


def test_digits_beyond_the_default_precision_are_kept() -> None:
    quantity, price = "123456789.12345678", "98765432.12345678"
    progress, _ = play([increment(quantity, price), increment("0.00000001", price)])
    assert progress.filled_quantity == Decimal("123456789.12345679")
    assert progress.filled_notional == Decimal("12193263126352688.8520042777625362")


@pytest.mark.parametrize(
    ("observations", "status"),
    [
        ([checkpoint("0", None, status=PENDING)], PENDING),
        ([checkpoint("1", "100"), checkpoint("0", None, status=PENDING)], PARTIAL),
        ([checkpoint("1", "100", status=CANCELLED), checkpoint("1", "100")], CANCELLED),
        ([checkpoint("0", None, status=REJECTED), checkpoint("0", None, status=PENDING)], REJECTED),
        ([checkpoint("2", "100", status=FILLED), checkpoint("1", "100", status=CANCELLED)], FILLED),
        ([increment("1", "100")], FILLED),
        ([increment("1", "100"), checkpoint("0", None, status=PENDING)], FILLED),
        ([increment("1", "100"), checkpoint("1", "100")], PARTIAL),
        ([increment("1", "100"), checkpoint("1", "100", status=CANCELLED)], CANCELLED),
        ([checkpoint("1", "100"), increment("1", "100")], PARTIAL),
        ([checkpoint("1", "100", status=CANCELLED), increment("1", "100")], CANCELLED),
        ([checkpoint("1", "100", status=CANCELLED), checkpoint("2", "100", status=FILLED)], FILLED),
    ],
)
def test_status(observations: list[Observation], status: OrderStatus) -> None:
    assert play(observations)[0].status is status


def test_another_orders_observation_is_a_mistake_of_the_caller() -> None:
    stranger = OrderProgress("order-2", "signal-1", PENDING)
    with pytest.raises(ValueError, match=r"order-1.*order-2"):
        advance(stranger, increment("1", "100"))


@given(order_histories())
def test_any_order_of_reports_ends_at_the_true_total(history: OrderHistory) -> None:
    progress, rises = play(history.observations)
    assert progress.filled_quantity == history.quantity
    assert sum((found.quantity for found in rises), Decimal(0)) == history.quantity
    assert progress.filled_fees == history.fees
    assert sum((found.fees for found in rises), Decimal(0)) == history.fees


@given(order_histories())
def test_every_rise_is_a_real_fill(history: OrderHistory) -> None:
    """All prices lie in 95 to 105, so a price outside of half and twice them is an artefact of arithmetic."""
    progress, rises = play(history.observations)
    assert all(found.quantity > 0 and 47 < found.price < 211 for found in rises)
    notional = sum((found.quantity * found.price for found in rises), Decimal(0))
    assert abs(notional - progress.filled_notional) < Decimal("1e-18")


@given(order_histories())
def test_the_status_does_not_depend_on_the_order_of_reports(history: OrderHistory) -> None:
    if history.ends_as is not None:
        assert play(history.observations)[0].status is history.ends_as
