"""The position book: first in, first out, and not a fraction of a coin or of a fee is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from uuid import UUID

import pytest
from hypothesis import given

from model_service.contracts.types import Side
from model_service.trades.ledger import Fill, LedgerChange, Lot, LotClosure, apply_fill
from tests.support.strategies import MOMENT, ledger_fills

SIGNALS = {Side.BUY: UUID(int=1), Side.SELL: UUID(int=2)}


def fill(side: Side, quantity: str, price: str, fees: str = "0") -> Fill:
    return Fill(SIGNALS[side], "momentum_v1", "BTCUSDT", side, Decimal(quantity), Decimal(price), Decimal(fees), MOMENT)


def buy(quantity: str, price: str, fees: str = "0") -> Fill:
    return fill(Side.BUY, quantity, price, fees)


def sell(quantity: str, price: str, fees: str = "0") -> Fill:
    return fill(Side.SELL, quantity, price, fees)


def play(fills: Sequence[Fill]) -> tuple[list[Lot], list[LedgerChange]]:
    """The open lots after `fills`, and every change on the way; lots are numbered from 0 as a database would."""
    lots: list[Lot] = []
    changes = []
    for index, each in enumerate(fills):
        change = apply_fill([lot for lot in lots if lot.remaining_quantity > 0], each)
        lots = [_updated(lot, change) for lot in lots]
        lots += [replace(change.opened, lot_id=index)] if change.opened else []
        changes.append(change)
    return [lot for lot in lots if lot.remaining_quantity > 0], changes


def _updated(lot: Lot, change: LedgerChange) -> Lot:
    return next((reduced for reduced in change.reduced if reduced.lot_id == lot.lot_id), lot)


def closures(changes: Sequence[LedgerChange]) -> list[LotClosure]:
    return [closure for change in changes for closure in change.closures]


def test_a_fill_without_lots_opens_one() -> None:
    change = apply_fill([], buy("2", "100", "0.2"))
    assert (change.closures, change.reduced) == ((), ())
    assert change.opened == Lot(
        lot_id=None,
        strategy_id="momentum_v1",
        asset="BTCUSDT",
        side=Side.BUY,
        signal_id=SIGNALS[Side.BUY],
        opened_at=MOMENT,
        entry_price=Decimal(100),
        quantity=Decimal(2),
        remaining_quantity=Decimal(2),
        entry_fees=Decimal("0.2"),
    )


def test_a_part_is_closed_with_its_share_of_both_fees() -> None:
    lots, changes = play([buy("4", "100", "0.4"), sell("1", "110", "0.11")])
    (closure,) = closures(changes)
    assert closure.quantity == 1
    assert closure.fees == Decimal("0.21")
    assert closure.realized_pnl == Decimal("9.79")
    assert closure.signal_id == SIGNALS[Side.BUY]
    assert [(lot.remaining_quantity, lot.open_fees) for lot in lots] == [(Decimal(3), Decimal("0.3"))]


def test_the_oldest_lot_closes_first() -> None:
    lots, changes = play([buy("1", "100"), buy("1", "120"), sell("1.5", "130")])
    assert [(closure.lot_id, closure.quantity, closure.realized_pnl) for closure in closures(changes)] == [
        (0, Decimal(1), Decimal(30)),
        (1, Decimal("0.5"), Decimal(5)),
    ]
    assert [(lot.lot_id, lot.remaining_quantity) for lot in lots] == [(1, Decimal("0.5"))]


def test_a_short_earns_when_the_price_falls() -> None:
    _, changes = play([sell("2", "100", "0.2"), buy("2", "90", "0.18")])
    (closure,) = closures(changes)
    assert closure.side is Side.SELL
    assert closure.realized_pnl == Decimal("19.62")


def test_a_flip_closes_everything_and_opens_the_rest() -> None:
    lots, changes = play([buy("1", "100", "0.1"), sell("3", "110", "0.33")])
    (closure,) = closures(changes)
    assert closure.fees == Decimal("0.21")
    assert [(lot.side, lot.quantity, lot.entry_price, lot.entry_fees) for lot in lots] == [
        (Side.SELL, Decimal(2), Decimal(110), Decimal("0.22"))
    ]


def test_shares_of_fees_that_do_not_divide_add_up() -> None:
    _, changes = play([buy("3", "100", "0.1"), sell("1", "100"), sell("1", "100"), sell("1", "100")])
    fees = [closure.fees for closure in closures(changes)]
    assert sum(fees, Decimal(0)) == Decimal("0.1")
    assert max(fees) - min(fees) <= Decimal("1e-18")


def test_fees_finer_than_the_unit_of_shares_are_kept_whole() -> None:
    fees = "0.1234567890123456789012345"
    _, changes = play([buy("3", "100", fees), sell("1", "100"), sell("2", "100")])
    assert sum((closure.fees for closure in closures(changes)), Decimal(0)) == Decimal(fees)


def test_lots_of_another_book_are_refused() -> None:
    lot = apply_fill([], buy("1", "100")).opened
    assert lot is not None
    with pytest.raises(ValueError, match="ETHUSDT"):
        apply_fill([replace(lot, asset="ETHUSDT")], sell("1", "100"))
    with pytest.raises(ValueError, match="reversion_v1"):
        apply_fill([replace(lot, strategy_id="reversion_v1")], sell("1", "100"))
    with pytest.raises(ValueError, match="both sides"):
        apply_fill([lot, replace(lot, side=Side.SELL)], sell("1", "100"))


@pytest.mark.parametrize(("quantity", "price"), [("0", "100"), ("-1", "100"), ("1", "0")])
def test_a_fill_has_quantity_and_price(quantity: str, price: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        buy(quantity, price)


@given(ledger_fills())
def test_the_book_holds_what_was_bought_less_what_was_sold(fills: list[Fill]) -> None:
    lots, _ = play(fills)
    assert sum((lot.side.sign * lot.remaining_quantity for lot in lots), Decimal(0)) == sum(
        (each.side.sign * each.quantity for each in fills), Decimal(0)
    )
    assert len({lot.side for lot in lots}) <= 1


@given(ledger_fills())
def test_each_fill_is_used_up_by_closing_and_opening(fills: list[Fill]) -> None:
    for each, change in zip(fills, play(fills)[1], strict=True):
        closed = sum((closure.quantity for closure in change.closures), Decimal(0))
        assert closed + (change.opened.quantity if change.opened else 0) == each.quantity


@given(ledger_fills())
def test_results_and_open_cost_account_for_all_cash(fills: list[Fill]) -> None:
    """Cash paid and received = realised results, less what the open lots cost, less their fees; exactly."""
    lots, changes = play(fills)
    with localcontext(prec=200):
        cash = sum((-each.side.sign * each.quantity * each.price - each.fees for each in fills), Decimal(0))
        realized = sum((closure.realized_pnl for closure in closures(changes)), Decimal(0))
        cost = sum(
            (lot.side.sign * lot.remaining_quantity * lot.entry_price + lot.open_fees for lot in lots), Decimal(0)
        )
        assert cash == realized - cost


@given(ledger_fills())
def test_a_lot_that_is_closed_has_no_fees_left(fills: list[Fill]) -> None:
    for change in play(fills)[1]:
        assert all(lot.open_fees == 0 for lot in change.reduced if lot.remaining_quantity == 0)
