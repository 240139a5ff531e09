"""Policy-free labels: worked examples for each exit rule, and what must hold for every path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.market.snapshot import Bar
from model_service.trades.labels import (
    Barriers,
    Entry,
    ExitRule,
    ImpossibleReturn,
    Label,
    PathBroken,
    label_opening,
    label_reported,
    mark_deadline,
)
from tests.support.strategies import MOMENT, barriers, entries, paths

HORIZON = timedelta(minutes=5)
WIDE = Barriers(take_profit_percent=1.0, stop_loss_percent=2.0, horizon=HORIZON)


def at(minutes: float) -> datetime:
    return MOMENT + timedelta(minutes=minutes)


def entry(side: Side = Side.BUY, minutes: float = 0.0, price: str = "100", fees: str = "0") -> Entry:
    return Entry(side, at(minutes), Decimal(price), Decimal(2), Decimal(fees))


def bar(minutes: float, low: float, high: float, close: float, length: float = 1.0) -> Bar:
    return Bar(at(minutes), at(minutes + length), close, high, low, close, 1.0)


def flat(count: int, *, first: int = 0, price: float = 100.0) -> list[Bar]:
    """Bars that do not move."""
    return [bar(first + index, price, price, price) for index in range(count)]


def judge(
    opening: Entry,
    limits: Barriers,
    path: Sequence[Bar],
    *,
    half_spread_percent: float = 0.0,
    exit_fee_rate: float = 0.0,
    minimum_net_return: float = 0.0,
) -> Label | None:
    return label_opening(
        opening,
        limits,
        path,
        half_spread_percent=half_spread_percent,
        exit_fee_rate=exit_fee_rate,
        minimum_net_return=minimum_net_return,
    )


def outcome(opening: Entry, limits: Barriers, path: Sequence[Bar]) -> tuple[ExitRule, datetime, Decimal] | None:
    label = judge(opening, limits, path)
    return None if label is None else (label.exit_rule, label.exit_at, label.exit_price)


def test_take_profit_worked_by_hand() -> None:
    """Bought 2 at 100, fees 0.11; out at 101, fee 0.00055 * 202 = 0.1111; 2 - 0.2211 of 200."""
    path = [*flat(2), bar(2, 99.5, 101.25, 101.1), *flat(2, first=3)]
    label = judge(entry(fees="0.11"), WIDE, path, exit_fee_rate=0.00055, half_spread_percent=0.5)
    assert label == Label(at(3), Decimal(101), ExitRule.TAKE_PROFIT, Decimal("0.2211"), 0.0088945, 1)


def test_stop_loss_worked_by_hand() -> None:
    """Sold 2 at 100, fees 0.11; out at 102, fee 0.00055 * 204 = 0.1122; -4 - 0.2222 of 200."""
    path = [*flat(1), bar(1, 99.5, 102.0, 101.0), *flat(3, first=2)]
    label = judge(entry(Side.SELL, fees="0.11"), WIDE, path, exit_fee_rate=0.00055)
    assert label == Label(at(2), Decimal(102), ExitRule.STOP_LOSS, Decimal("0.2222"), -0.021111, 0)


@pytest.mark.parametrize(
    ("side", "exit_price", "net_return"), [(Side.BUY, "100.45", 0.0045), (Side.SELL, "100.55", -0.0055)]
)
def test_horizon_worked_by_hand(side: Side, exit_price: str, net_return: float) -> None:
    """The mark at 100.5 less, for a short plus, half a spread of 0.05 (0.049751... percent of 100.5)."""
    half_spread_percent = 0.05 / 100.5 * 100
    label = judge(entry(side), WIDE, [*flat(4), bar(4, 100, 100.5, 100.5)], half_spread_percent=half_spread_percent)
    assert label is not None
    assert (label.exit_rule, label.exit_at) == (ExitRule.HORIZON, at(5))
    assert float(label.exit_price) == pytest.approx(float(exit_price), rel=1e-14)
    assert label.net_return == pytest.approx(net_return, rel=1e-12)
    assert label.label == int(net_return > 0)


def test_the_label_is_one_only_above_the_minimum() -> None:
    path = [*flat(4), bar(4, 100, 100.5, 100.5)]
    below, equal = (judge(entry(), WIDE, path, minimum_net_return=minimum) for minimum in (0.0049, 0.005))
    assert below is not None
    assert equal is not None
    assert (below.net_return, below.label, equal.label) == (0.005, 1, 0)


def test_a_rebate_adds_to_the_return() -> None:
    label = judge(entry(fees="-0.2"), WIDE, flat(5))
    assert label is not None
    assert (label.fees, label.net_return, label.label) == (Decimal("-0.2"), 0.001, 1)


def test_a_bar_that_touches_both_barriers_is_a_stop() -> None:
    path = [bar(0, 97, 103, 100), *flat(4, first=1)]
    assert outcome(entry(), WIDE, path) == (ExitRule.STOP_LOSS, at(1), Decimal(98))
    assert outcome(entry(Side.SELL), WIDE, path) == (ExitRule.STOP_LOSS, at(1), Decimal(102))


def test_barriers_are_reached_at_their_very_price() -> None:
    path = [bar(0, 100, 101, 100), *flat(4, first=1)]
    assert outcome(entry(), WIDE, path) == (ExitRule.TAKE_PROFIT, at(1), Decimal(101))
    path[0] = bar(0, 100, 100.99, 100)
    assert outcome(entry(), WIDE, path) == (ExitRule.HORIZON, at(5), Decimal(100))


def test_the_bar_around_the_entry_counts_by_its_close_alone() -> None:
    path = [bar(0, 97, 103, 100.2), *flat(6, first=1)]
    assert outcome(entry(minutes=0.5), WIDE, path) == (ExitRule.HORIZON, at(6), Decimal(100))
    path[0] = bar(0, 97, 103, 101.2)
    assert outcome(entry(minutes=0.5), WIDE, path) == (ExitRule.TAKE_PROFIT, at(1), Decimal(101))


def test_the_bar_around_the_horizon_is_its_mark_and_touches_nothing() -> None:
    path = [*flat(5), bar(5, 97, 103, 102)]
    assert outcome(entry(minutes=0.5), WIDE, path) == (ExitRule.HORIZON, at(6), Decimal(102))


def test_the_bar_that_ends_at_the_horizon_may_still_touch() -> None:
    path = [*flat(4), bar(4, 100, 103, 100.5)]
    assert outcome(entry(), WIDE, path) == (ExitRule.TAKE_PROFIT, at(5), Decimal(101))


def test_bars_before_the_entry_do_not_count() -> None:
    path = [bar(-2, 90, 110, 100), bar(-1, 90, 110, 90), *flat(5)]
    assert outcome(entry(), WIDE, path) == (ExitRule.HORIZON, at(5), Decimal(100))


@pytest.mark.parametrize("touched", [False, True])
def test_there_is_no_label_before_the_horizon(touched: bool) -> None:
    path = [bar(0, 90, 110, 100) if touched else bar(0, 100, 100, 100), *flat(4, first=1)]
    assert judge(entry(), WIDE, []) is None
    assert judge(entry(), WIDE, path[:4]) is None
    assert judge(entry(), WIDE, path) is not None


def test_a_gap_on_the_way_is_passed_over() -> None:
    path = [bar(0, 100, 100, 100), bar(3, 100, 101, 100), bar(4, 100, 100, 100)]
    assert outcome(entry(), WIDE, path) == (ExitRule.TAKE_PROFIT, at(4), Decimal(101))


def test_a_mark_may_be_late_by_three_bars_and_no_more() -> None:
    assert outcome(entry(), WIDE, [*flat(4), bar(7, 100, 100, 100)]) == (ExitRule.HORIZON, at(8), Decimal(100))
    with pytest.raises(PathBroken, match="must end by"):
        judge(entry(), WIDE, [*flat(4), bar(7.1, 100, 100, 100)])


def test_a_broken_path_is_broken_whether_or_not_a_barrier_was_touched() -> None:
    with pytest.raises(PathBroken):
        judge(entry(), WIDE, [bar(0, 90, 110, 100), bar(20, 100, 100, 100)])


def test_a_mark_that_is_no_price_breaks_the_path() -> None:
    for close in (math.nan, 0.0, math.inf):
        with pytest.raises(PathBroken, match="no price"):
            judge(entry(), WIDE, [*flat(4), bar(4, 100, 100, close)])


@pytest.mark.parametrize(("horizon_minutes", "slack_minutes"), [(5, 3), (30, 3), (100, 10)])
def test_the_marks_deadline(horizon_minutes: int, slack_minutes: int) -> None:
    deadline = mark_deadline(MOMENT, timedelta(minutes=horizon_minutes), timedelta(minutes=1))
    assert deadline == at(horizon_minutes + slack_minutes)


@given(entries(), barriers(), paths(), paths())
def test_what_comes_after_the_mark_changes_nothing(
    opening: Entry, limits: Barriers, path: list[Bar], other: list[Bar]
) -> None:
    full = outcome(opening, limits, path)
    kept = next(index for index, each in enumerate(path) if each.end >= opening.at + limits.horizon) + 1
    assert full is not None
    assert outcome(opening, limits, path[:kept]) == full
    assert outcome(opening, limits, path[:kept] + other[kept:]) == full
    assert outcome(opening, limits, path[: kept - 1]) is None


@given(entries(), barriers(), paths())
def test_a_barrier_that_does_not_exist_is_never_touched(opening: Entry, limits: Barriers, path: list[Bar]) -> None:
    no_profit = outcome(opening, replace(limits, take_profit_percent=None), path)
    no_stop = outcome(opening, replace(limits, stop_loss_percent=None), path)
    neither = outcome(opening, Barriers(None, None, limits.horizon), path)
    assert no_profit is not None
    assert no_stop is not None
    assert neither is not None
    assert no_profit[0] is not ExitRule.TAKE_PROFIT
    assert no_stop[0] is not ExitRule.STOP_LOSS
    assert neither[0] is ExitRule.HORIZON


@given(entries(st.just(Side.BUY)), barriers(), paths())
def test_shorts_mirror_longs(opening: Entry, limits: Barriers, path: list[Bar]) -> None:
    """Mirrored at the entry price (x becomes 200 - x) and without spread and exit fee, a short is a long, exactly."""
    mirror = [
        replace(each, open=200 - each.open, high=200 - each.low, low=200 - each.high, close=200 - each.close)
        for each in path
    ]
    long, short = judge(opening, limits, path), judge(replace(opening, side=Side.SELL), limits, mirror)
    assert long is not None
    assert short is not None
    assert short == replace(long, exit_price=200 - long.exit_price)


@given(entries(), barriers(both=True), paths())
def test_the_stop_is_assumed_where_one_bar_touches_both(opening: Entry, limits: Barriers, path: list[Bar]) -> None:
    label = judge(opening, limits, path)
    assert label is not None
    if label.exit_rule is ExitRule.TAKE_PROFIT:
        (touching,) = (each for each in path if each.end == label.exit_at)
        stop = Decimal(100) * (1 - opening.side.sign * Decimal(str(limits.stop_loss_percent)) / 100)
        worst = touching.low if opening.side is Side.BUY else touching.high
        if touching.start >= opening.at:
            assert opening.side.sign * (Decimal(worst) - stop) > 0


@given(entries(), barriers(), paths(), st.floats(0, 1), st.floats(-0.001, 0.01), st.floats(-0.05, 0.05))
def test_the_net_return_is_that_of_its_definition(
    opening: Entry, limits: Barriers, path: list[Bar], half_spread: float, fee_rate: float, minimum: float
) -> None:
    label = judge(
        opening,
        limits,
        path,
        half_spread_percent=half_spread,
        exit_fee_rate=fee_rate,
        minimum_net_return=minimum,
    )
    assert label is not None
    price, quantity = float(label.exit_price), float(opening.quantity)
    fees = float(opening.fees) + fee_rate * price * quantity
    assert float(label.fees) == pytest.approx(fees, rel=1e-12, abs=1e-12)
    gross = opening.side.sign * (price / 100.0 - 1.0)
    assert label.net_return == pytest.approx(gross - fees / (100.0 * quantity), rel=1e-9, abs=1e-12)
    assert label.label == (1 if label.net_return > minimum else 0)


@pytest.mark.parametrize(("side", "exit_price"), [(Side.BUY, "101.1"), (Side.SELL, "98.9")])
def test_a_reported_return_is_a_fraction_and_net(side: Side, exit_price: str) -> None:
    label = label_reported(entry(side, fees="0.2"), Decimal("0.01"), at(3), 0.0)
    assert label == Label(at(3), Decimal(exit_price), ExitRule.REPORTED, Decimal("0.2"), 0.01, 1)


def test_a_reported_loss_and_a_clock_that_is_behind() -> None:
    label = label_reported(entry(), Decimal("-0.01"), at(-1), 0.0)
    assert (label.exit_at, label.label) == (at(0), 0)


@pytest.mark.parametrize(("side", "reported"), [(Side.BUY, "-1.5"), (Side.SELL, "1.5")])
def test_a_return_that_needs_a_negative_price_is_refused(side: Side, reported: str) -> None:
    with pytest.raises(ImpossibleReturn, match=rf"{reported} of a {side}"):
        label_reported(entry(side), Decimal(reported), at(3), 0.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_distances_of_barriers_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match="take_profit_percent"):
        Barriers(value, None, HORIZON)
    with pytest.raises(ValueError, match="stop_loss_percent"):
        Barriers(None, value, HORIZON)


def test_costs_and_entries_are_checked() -> None:
    with pytest.raises(ValueError, match="horizon"):
        Barriers(None, None, timedelta(0))
    with pytest.raises(ValueError, match="half_spread_percent is nan"):
        judge(entry(), WIDE, flat(5), half_spread_percent=math.nan)
    with pytest.raises(ValueError, match="exit_fee_rate is inf"):
        judge(entry(), WIDE, flat(5), exit_fee_rate=math.inf)
    with pytest.raises(ValueError, match="above 0"):
        entry(price="0")
