"""One wrong print moves neither price nor bars; a crash is believed one event later."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.contracts.types import Side
from model_service.market.price_jumps import deviation_percent
from model_service.market.snapshot import Bar, PriceJump
from model_service.market.state import AssetMarket

START = datetime(2026, 1, 5, tzinfo=UTC)
ASSET = "BTCUSDT"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def trade(seconds: float, price: float, quantity: float = 1.0) -> TradeEvent:
    return TradeEvent(ASSET, at(seconds), price, quantity, Side.BUY)


def last(seconds: float, price: float) -> TickerEvent:
    return TickerEvent(ASSET, at(seconds), last_price=price)


def quote(seconds: float, mid: float) -> BookEvent:
    return BookEvent(ASSET, at(seconds), 0.999 * mid, 1.0, 1.001 * mid, 1.0, is_snapshot=True)


def ticker_quote(seconds: float, mid: float) -> TickerEvent:
    return TickerEvent(ASSET, at(seconds), bid_price=0.999 * mid, ask_price=1.001 * mid)


def kline(minute: int, close: float) -> KlineEvent:
    return KlineEvent(ASSET, at(60 * minute), at(60 * minute + 60), close, close, close, close, 5.0, confirmed=True)


def market(*events: MarketEvent) -> AssetMarket:
    state = AssetMarket(ASSET, 60, jump_limit_percent=50.0)
    for event in events:
        state.apply(event)
    return state


def seen(*events: MarketEvent) -> tuple[float, bool]:
    """The believed price, and whether another one waits."""
    snapshot = market(*events).snapshot(at(600))
    return snapshot.price, snapshot.price_jump is not None


@pytest.mark.parametrize("wrong", [100_000.0, 0.1])
@pytest.mark.parametrize("make", [trade, last])
def test_one_wrong_print_is_held_with_its_numbers(make: Callable[[float, float], MarketEvent], wrong: float) -> None:
    snapshot = market(trade(1, 100.0), make(2, wrong)).snapshot(at(3))
    assert snapshot.price == 100.0
    assert snapshot.price_jump == PriceJump(deviation_percent(wrong, 100.0), 50.0)
    assert snapshot.price_jump.percent == pytest.approx(99_900.0)
    assert snapshot.updated_at == at(2), "it is news all the same"


@pytest.mark.parametrize(
    "second",
    [trade(3, 41.0), quote(3, 41.0), ticker_quote(3, 41.0), last(3, 41.5), kline(0, 41.0)],
    ids=["trade", "book", "ticker quote", "ticker price", "candle"],
)
def test_a_second_event_that_agrees_confirms(second: MarketEvent) -> None:
    price, waits = seen(trade(1, 100.0), trade(2, 40.0), second)
    assert price != 100.0
    assert not waits


@pytest.mark.parametrize(
    "second", [trade(3, 101.0), quote(3, 101.0), last(3, 100.0), kline(0, 99.0)], ids=["trade", "book", "ticker", "bar"]
)
def test_an_event_that_still_speaks_for_the_price_before_throws_it_away(second: MarketEvent) -> None:
    price, waits = seen(trade(1, 100.0), trade(2, 40.0), second)
    assert price >= 99.0
    assert not waits


@pytest.mark.parametrize(
    "repeat",
    [
        trade(2, 40.0),  # the same again, or another level that one order took
        trade(1.5, 40.0),  # said before
        last(3, 40.0),  # the ticker repeats the last trade
        kline(0, 40.0),  # the candle that closed with it
        TickerEvent(ASSET, at(3), funding_rate=0.0001),
    ],
)
def test_what_may_only_repeat_it_confirms_nothing(repeat: MarketEvent) -> None:
    assert seen(trade(1, 100.0), trade(2, 40.0), repeat) == (100.0, True)


def test_a_last_price_that_a_ticker_still_repeats_after_ten_seconds_is_believed() -> None:
    jump = [last(1, 100.0), last(2, 60.0)]
    assert seen(*jump, *(last(2 + step, 60.0) for step in range(1, 10))) == (100.0, True)
    assert seen(*jump, *(last(2 + step, 60.0) for step in range(1, 11))) == (60.0, False)
    assert seen(*jump, TickerEvent(ASSET, at(12), volume_24h=1.0)) == (60.0, False), "a delta leaves it out"
    assert seen(*jump, last(11, 100.0), last(12, 60.0)) == (100.0, True), "it went back; this is a new one"


def test_a_ticker_without_a_price_repeats_no_trade() -> None:
    assert seen(trade(1, 100.0), trade(2, 60.0), TickerEvent(ASSET, at(30), volume_24h=1.0)) == (100.0, True)


@pytest.mark.parametrize(("mark", "price"), [(60.4, 60.0), (99.5, 100.0)], ids=["confirms", "refutes"])
def test_the_mark_price_is_a_witness(mark: float, price: float) -> None:
    later = TickerEvent(ASSET, at(3), last_price=60.0, mark_price=mark)
    assert seen(last(1, 100.0), last(2, 60.0), later) == (price, False)
    assert seen(last(1, 100.0), TickerEvent(ASSET, at(2), last_price=60.0, mark_price=60.4)) == (100.0, True)


def test_a_ticker_whose_quote_refutes_a_jump_does_not_bring_it_in_by_its_own_last_price() -> None:
    later = TickerEvent(ASSET, at(3), last_price=1e5, bid_price=99.9, ask_price=100.1)
    assert seen(trade(1, 100.0), trade(2, 1e5), later) == (100.0, False)


def test_two_wrong_prints_that_disagree_confirm_nothing() -> None:
    assert seen(trade(1, 100.0), trade(2, 100_000.0), trade(3, 10.0)) == (100.0, True)


def test_a_price_at_which_the_book_stood_already_is_believed_at_once() -> None:
    assert seen(trade(1, 100.0), quote(2, 40.0), trade(3, 40.0)) == (40.0, False)
    assert seen(trade(1, 100.0), quote(2, 40.0), trade(30, 40.0)) == (100.0, True), "that quote is too old"


def test_a_ticker_is_no_witness_of_itself() -> None:
    wrong = TickerEvent(ASSET, at(2), last_price=1e5, bid_price=0.99e5, ask_price=1.01e5)
    assert seen(trade(1, 100.0), wrong) == (100.0, True)


def test_a_wrong_print_leaves_no_trace_in_bars_and_trade_flow() -> None:
    state = AssetMarket(ASSET, 60, jump_limit_percent=50.0)
    events = [trade(0, 100.0), trade(20, 1e5, 50.0), trade(40, 101.0), trade(60, 102.0)]
    bars = [bar for event in events for bar in state.apply(event)]
    assert bars == [Bar(at(0), at(60), 100.0, 101.0, 100.0, 101.0, 2.0)]


def test_a_confirmed_jump_is_in_its_bar() -> None:
    state = AssetMarket(ASSET, 60, jump_limit_percent=50.0)
    events = [trade(0, 100.0), trade(20, 40.0, 5.0), trade(21, 41.0), trade(60, 42.0)]
    bars = [bar for event in events for bar in state.apply(event)]
    assert bars == [Bar(at(0), at(60), 100.0, 100.0, 40.0, 41.0, 7.0)]


def test_after_a_restart_the_newest_stored_bar_is_the_price_before() -> None:
    state = AssetMarket(ASSET, 60, jump_limit_percent=50.0)
    state.warm_start([Bar(at(0), at(60), 100.0, 100.0, 100.0, 100.0, 1.0)])
    state.apply(trade(61, 100_000.0))
    snapshot = state.snapshot(at(62))
    assert math.isnan(snapshot.price)
    assert snapshot.price_jump is not None


def test_what_else_a_held_ticker_says_is_taken() -> None:
    state = market(trade(1, 100.0), TickerEvent(ASSET, at(2), last_price=1e5, volume_24h=7.0))
    assert state.snapshot(at(3)).volume_24h == 7.0


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_must_be_a_number_above_0(limit: float) -> None:
    with pytest.raises(ValueError, match="limit_percent"):
        AssetMarket(ASSET, 60, jump_limit_percent=limit)


PRICES = st.floats(1e-6, 1e6)


@given(PRICES, PRICES)
def test_the_deviation_is_the_same_both_ways(one: float, other: float) -> None:
    assert deviation_percent(one, other) == deviation_percent(other, one) >= 0.0


@given(st.lists(st.tuples(st.sampled_from([trade, last, quote]), st.floats(90, 110)), max_size=30), PRICES)
def test_a_single_print_never_moves_the_price_beyond_the_limit(
    steps: list[tuple[Callable[[float, float], MarketEvent], float]], wrong: float
) -> None:
    state = market(trade(0, 100.0), *(make(index + 1, price) for index, (make, price) in enumerate(steps)))
    before = state.snapshot(at(99)).price
    state.apply(trade(len(steps) + 1, wrong))
    assert deviation_percent(state.snapshot(at(100)).price, before) <= 50.0
