"""What the side that was not chosen would have earned: worked by hand, and in mirrored and motionless markets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.market.snapshot import Bar
from model_service.trades.labels import Barriers, Entry, Label, label_opening, opposite_entry
from tests.support.strategies import MOMENT, SIDES, barriers, entries, paths

HORIZON = timedelta(minutes=3)
NO_BARRIERS = Barriers(None, None, HORIZON)
HALF_SPREADS = st.sampled_from([0.0, 0.01, 0.05, 0.5])


def judge(entry: Entry, limits: Barriers, path: Sequence[Bar], half_spread: float, fee_rate: float = 0.0) -> Label:
    label = label_opening(
        entry, limits, path, half_spread_percent=half_spread, exit_fee_rate=fee_rate, minimum_net_return=0.0
    )
    assert label is not None
    return label


def minute_bars(*closes: float) -> list[Bar]:
    starts = [MOMENT + timedelta(minutes=index) for index in range(len(closes))]
    return [
        Bar(start, start + timedelta(minutes=1), close, close, close, close, 1.0)
        for start, close in zip(starts, closes, strict=True)
    ]


def test_worked_by_hand() -> None:
    """Middle 100, half spread 1 %: bought 2 at 101, fee 0.202 (0.1 %). The seller gets 99 and pays 0.198.

    The mark is 95: the seller buys back at 95 * 1.01 = 95.95, fee 0.05 % of 191.9 = 0.09595. What is left of 198 is
    2 * (99 - 95.95) - 0.198 - 0.09595 = 5.80605.
    """
    bought = Entry(Side.BUY, MOMENT, Decimal(101), Decimal(2), fees=Decimal("0.202"))
    sold = opposite_entry(bought, 1.0)
    assert (sold.side, sold.at, sold.quantity) == (Side.SELL, MOMENT, Decimal(2))
    assert float(sold.price) == pytest.approx(99.0, rel=1e-15)
    assert float(sold.fees) == pytest.approx(0.198, rel=1e-15)
    label = judge(sold, NO_BARRIERS, minute_bars(98, 96, 95), 1.0, fee_rate=0.0005)
    assert label.net_return == pytest.approx(5.80605 / 198, rel=1e-12)


def test_its_barriers_stand_around_its_own_entry() -> None:
    """From 99 a take-profit of 2 % is at 97.02, not at 98.98 as from the buyer's 101."""
    bought = Entry(Side.BUY, MOMENT, Decimal(101), Decimal(2), fees=Decimal(0))
    limits = Barriers(take_profit_percent=2.0, stop_loss_percent=50.0, horizon=HORIZON)
    label = judge(opposite_entry(bought, 1.0), limits, minute_bars(98, 97, 100), 1.0)
    assert float(label.exit_price) == pytest.approx(97.02, rel=1e-12)
    assert label.exit_at == MOMENT + timedelta(minutes=2)


@given(entries(), HALF_SPREADS)
def test_the_other_side_of_the_other_side_is_the_entry_itself(entry: Entry, half_spread: float) -> None:
    back = opposite_entry(opposite_entry(entry, half_spread), half_spread)
    assert (back.side, back.at, back.quantity) == (entry.side, entry.at, entry.quantity)
    assert float(back.price) == pytest.approx(float(entry.price), rel=1e-15)
    assert float(back.fees) == pytest.approx(float(entry.fees), rel=1e-15, abs=1e-18)


@given(entries(), HALF_SPREADS)
def test_it_is_worse_off_by_one_whole_spread(entry: Entry, half_spread: float) -> None:
    """The buyer's ask over the seller's bid is (1 + h) / (1 - h), whichever of them was the real one."""
    other = opposite_entry(entry, half_spread)
    ask, bid = (entry.price, other.price) if entry.side is Side.BUY else (other.price, entry.price)
    assert float(ask / bid) == pytest.approx((1 + half_spread / 100) / (1 - half_spread / 100), rel=1e-14)


@given(entries(), barriers(), paths(), st.floats(0.0, 0.01))
def test_it_is_the_side_itself_in_the_mirrored_market(
    entry: Entry, limits: Barriers, path: list[Bar], fee_rate: float
) -> None:
    """Without a spread and mirrored at the entry price (x becomes 200 - x), who was against is in favour, exactly.

    Exit fees are left out of the comparison, as they follow the exit price, which the mirror moves.
    """
    mirror = [
        replace(bar, open=200 - bar.open, high=200 - bar.low, low=200 - bar.high, close=200 - bar.close) for bar in path
    ]
    other, own = judge(opposite_entry(entry, 0.0), limits, path, 0.0), judge(entry, limits, mirror, 0.0)
    assert (other.exit_at, other.exit_rule, other.net_return) == (own.exit_at, own.exit_rule, own.net_return)
    with_fee = judge(opposite_entry(entry, 0.0), limits, path, 0.0, fee_rate)
    assert with_fee.net_return == pytest.approx(other.net_return - fee_rate * float(other.exit_price) / 100, abs=1e-12)


@given(SIDES, HALF_SPREADS, st.floats(0.0, 0.001))
def test_in_a_market_that_stands_still_both_sides_lose_the_costs(
    side: Side, half_spread: float, fee_rate: float
) -> None:
    """A whole spread and two fees each; the two differ by a product of two costs only."""
    half = half_spread / 100
    price = Decimal(100) * (1 + side.sign * Decimal(str(half_spread)) / 100)
    entry = Entry(side, MOMENT, price, Decimal(2), fees=Decimal(str(fee_rate)) * price * 2)
    path = minute_bars(100, 100, 100)
    own = judge(entry, NO_BARRIERS, path, half_spread, fee_rate).net_return
    other = judge(opposite_entry(entry, half_spread), NO_BARRIERS, path, half_spread, fee_rate).net_return
    costs = 2 * half + 2 * fee_rate
    assert own == pytest.approx(-costs, abs=2 * costs**2 + 1e-15)
    assert other == pytest.approx(own, abs=2 * costs**2 + 1e-15)


@given(entries(), paths(), HALF_SPREADS)
def test_without_barriers_both_sides_together_lose_the_spread(
    entry: Entry, path: list[Bar], half_spread: float
) -> None:
    """What one side gains by the move the other loses: without fees the sum is never above 0."""
    free = replace(entry, fees=Decimal(0))
    own = judge(free, NO_BARRIERS, path, half_spread).net_return
    other = judge(opposite_entry(free, half_spread), NO_BARRIERS, path, half_spread).net_return
    assert own + other <= 1e-12


@pytest.mark.parametrize("half_spread", [-0.1, 100.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(half_spread: float) -> None:
    with pytest.raises(ValueError, match="half_spread_percent"):
        opposite_entry(Entry(Side.BUY, MOMENT, Decimal(1), Decimal(1), Decimal(0)), half_spread)
