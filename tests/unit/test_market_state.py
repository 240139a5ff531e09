"""The live market: quotes, trade flow, bars and snapshots from events in any order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.contracts.types import Side
from model_service.market.snapshot import Bar, MarketSnapshot
from model_service.market.state import AssetMarket

START = datetime(2026, 1, 5, tzinfo=UTC)
ASSET = "BTCUSDT"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def market(events: Iterable[MarketEvent] = (), bar_seconds: int = 60) -> AssetMarket:
    state = AssetMarket(ASSET, bar_seconds)
    for event in events:
        state.apply(event)
    return state


def trade(seconds: float, price: float = 100.0, quantity: float = 1.0, side: Side = Side.BUY) -> TradeEvent:
    return TradeEvent(ASSET, at(seconds), price, quantity, side)


def ticker(seconds: float, **values: Any) -> TickerEvent:
    return replace(TickerEvent(ASSET, at(seconds)), **values)


def book(
    seconds: float, bid: float | None, ask: float | None, *, snapshot: bool = True, size: float = 1.0
) -> BookEvent:
    bid_size, ask_size = None if bid is None else size, None if ask is None else size
    return BookEvent(ASSET, at(seconds), bid, bid_size, ask, ask_size, snapshot)


def kline(minute: float, close: float, *, minutes: float = 1, confirmed: bool = True) -> KlineEvent:
    start, end = at(60 * minute), at(60 * (minute + minutes))
    return KlineEvent(ASSET, start, end, close - 1, close + 2, close - 2, close, 5.0, confirmed)


def closed(events: Iterable[MarketEvent], bar_seconds: int = 60) -> list[tuple[float, float]]:
    """Start in minutes and close of every bar that the events closed."""
    state = AssetMarket(ASSET, bar_seconds)
    bars = [bar for event in events for bar in state.apply(event)]
    return [((bar.start - START) / timedelta(minutes=1), bar.close) for bar in bars]


def quoted(state: AssetMarket) -> tuple[float, float]:
    snapshot = state.snapshot(at(100))
    return snapshot.bid, snapshot.ask


UNKNOWN = pytest.approx((math.nan, math.nan), nan_ok=True)


def test_nothing_is_known_before_the_first_event() -> None:
    snapshot = market().snapshot(at(0))
    assert snapshot.updated_at is None
    assert snapshot.bars == 0
    numbers = (snapshot.price, snapshot.bid, snapshot.spread_percent, snapshot.book_imbalance, snapshot.volume_24h)
    assert all(math.isnan(number) for number in (*numbers, *snapshot.indicators.values()))


def test_ticker_deltas_merge() -> None:
    state = market(
        [
            ticker(1, bid_price=99.0, bid_size=3.0, ask_price=101.0, ask_size=1.0, volume_24h=7.0, last_price=100.0),
            ticker(2, bid_price=100.0),
        ]
    )
    snapshot = state.snapshot(at(3))
    assert (snapshot.bid, snapshot.ask, snapshot.bid_size, snapshot.ask_size) == (100.0, 101.0, 3.0, 1.0)
    assert snapshot.spread_percent == pytest.approx(100.0 * 1.0 / 100.5)
    assert snapshot.book_imbalance == 0.5
    assert (snapshot.price, snapshot.volume_24h, snapshot.updated_at) == (100.0, 7.0, at(2))


def test_the_newer_of_ticker_and_book_is_quoted() -> None:
    state = market([book(2, 99.0, 101.0), ticker(1, bid_price=90.0, ask_price=91.0)])
    assert quoted(state) == (99.0, 101.0)
    state.apply(ticker(3, bid_price=95.0, ask_price=96.0))
    assert quoted(state) == (95.0, 96.0)
    state.apply(ticker(4, funding_rate=0.1))
    state.apply(book(3.5, 97.0, 98.0))
    assert quoted(state) == (97.0, 98.0)


def test_a_ticker_that_knows_one_side_does_not_hide_the_book() -> None:
    assert quoted(market([book(1, 99.0, 101.0), ticker(2, bid_price=98.0)])) == (99.0, 101.0)


def test_late_quotes_are_ignored() -> None:
    state = market([book(5, 99.0, 101.0), book(4, 1.0, 2.0)])
    assert quoted(state) == (99.0, 101.0)
    assert state.snapshot(at(6)).updated_at == at(5)


@pytest.mark.parametrize(
    "bad", [book(2, 101.0, 100.0), book(2, 100.0, 100.0), book(2, None, 101.0), book(2, 99.0, None)]
)
def test_crossed_or_empty_book_is_unknown_until_it_is_good_again(bad: BookEvent) -> None:
    state = market([book(1, 99.0, 101.0), bad])
    assert quoted(state) == UNKNOWN
    snapshot = state.snapshot(at(3))
    assert math.isnan(snapshot.spread_percent)
    assert math.isnan(snapshot.book_imbalance)
    state.apply(book(3, 98.0, 102.0))
    assert quoted(state) == (98.0, 102.0)


def test_book_delta_keeps_the_other_side_and_removes_only_the_best_level() -> None:
    state = market([book(1, 99.0, 101.0), book(2, 99.5, None, snapshot=False)])
    assert quoted(state) == (99.5, 101.0)
    state.apply(book(3, 99.0, None, snapshot=False, size=0.0))
    assert quoted(state) == (99.5, 101.0)
    state.apply(book(4, 99.5, None, snapshot=False, size=0.0))
    assert quoted(state) == UNKNOWN


def test_the_last_price_never_goes_back_in_time() -> None:
    state = market([trade(5, 100.0), trade(4, 90.0), ticker(3, last_price=80.0), kline(-1, 70.0)])
    assert state.snapshot(at(6)).price == 100.0
    state.apply(kline(0, 110.0))
    assert state.snapshot(at(61)).price == 110.0


def test_trade_imbalance_by_hand_and_its_window() -> None:
    state = market([trade(0, quantity=3.0), trade(30, quantity=1.0, side=Side.SELL)])
    assert state.snapshot(at(40)).trade_imbalance == 0.5
    assert state.snapshot(at(60)).trade_imbalance == -1.0
    assert math.isnan(state.snapshot(at(90)).trade_imbalance)


def test_trade_flow_takes_late_trades_within_its_window_only() -> None:
    state = market([trade(100), trade(41, side=Side.SELL), trade(40, quantity=50.0, side=Side.SELL)])
    assert state.snapshot(at(100)).trade_imbalance == 0.0


def test_trade_flow_memory_is_bounded() -> None:
    state = market(trade(seconds / 10) for seconds in range(20_000))
    assert len(state._flow._seconds) <= 60


def test_bars_from_trades_lie_on_borders() -> None:
    events = [trade(0, 100, 1), trade(20, 105, 2), trade(59.999, 99, 3), trade(60, 101, 4), trade(121, 102, 5)]
    state = AssetMarket(ASSET, 60)
    bars = [bar for event in events for bar in state.apply(event)]
    assert bars == [Bar(at(0), at(60), 100, 105, 99, 99, 6.0), Bar(at(60), at(120), 101, 101, 101, 101, 4.0)]
    assert state.snapshot(at(122)).bars == 2


def test_the_interval_in_which_we_began_gives_no_bar() -> None:
    assert closed([trade(1), trade(61), trade(121)]) == [(1.0, 100.0)]


def test_the_interval_after_a_warm_start_gives_no_bar_either() -> None:
    state = AssetMarket(ASSET, 60)
    state.warm_start([Bar(at(0), at(60), 1, 1, 1, 1, 1)])
    assert [bar.start for event in (trade(90), trade(121), trade(181)) for bar in state.apply(event)] == [at(120)]


def test_a_gap_stays_a_gap() -> None:
    assert closed([trade(0), trade(60, 101), trade(300, 102), trade(360, 103)]) == [(0, 100), (1, 101), (5, 102)]


def test_last_prices_build_bars_without_volume() -> None:
    state = AssetMarket(ASSET, 60)
    bars = [bar for event in (ticker(0, last_price=5.0), ticker(60, last_price=6.0)) for bar in state.apply(event)]
    assert bars == [Bar(at(0), at(60), 5, 5, 5, 5, 0.0)]


def test_late_trades_of_a_closed_bar_change_nothing() -> None:
    assert closed([trade(0), trade(60, 101), trade(59, 1), trade(120, 102)]) == [(0, 100), (1, 101)]


def test_a_late_trade_within_the_bar_moves_its_range_and_not_its_close() -> None:
    state = AssetMarket(ASSET, 60)
    bars = [bar for event in (trade(0), trade(30, 101), trade(20, 90), trade(60)) for bar in state.apply(event)]
    assert bars == [Bar(at(0), at(60), 100, 101, 90, 101, 3.0)]


def test_confirmed_klines_are_authoritative() -> None:
    events: list[MarketEvent] = [
        kline(0, 10),
        trade(65, 99),
        kline(1, 11, confirmed=False),
        trade(120, 98),
        kline(1, 11),
    ]
    assert closed([*events, trade(180, 97), kline(2, 12)]) == [(0, 10), (1, 11), (2, 12)]


def test_a_missed_kline_is_made_up_from_prices_when_the_next_one_comes() -> None:
    events: list[MarketEvent] = [
        kline(0, 10),
        trade(60, 90),
        trade(125, 91),
        kline(2, 12),
        trade(181, 92),
        kline(3, 13),
    ]
    assert closed(events) == [(0, 10), (1, 90), (2, 12), (3, 13)]


def test_prices_take_over_three_bars_after_the_last_kline() -> None:
    trades = [trade(60 * minute, 90 + minute) for minute in range(1, 7)]
    assert closed([kline(0, 10), *trades[:3]]) == [(0, 10)]
    assert closed([kline(0, 10), *trades]) == [(0, 10), (1, 91), (2, 92), (3, 93), (4, 94), (5, 95)]


def test_duplicate_late_and_overlapping_klines_are_ignored() -> None:
    events = [kline(0, 10), kline(2, 12), kline(1, 11), kline(2, 99), kline(1.5, 98), kline(3, 13)]
    assert closed(events) == [(0, 10), (2, 12), (3, 13)]


def test_klines_of_another_length_make_no_bars() -> None:
    assert closed([kline(0, 10), kline(1, 11)], bar_seconds=300) == []
    assert closed([kline(0, 10, minutes=5)], bar_seconds=300) == [(0, 10)]


def test_warm_start_feeds_the_indicators_and_is_no_news() -> None:
    state = AssetMarket(ASSET, 60)
    bars = [Bar(at(60 * minute), at(60 * minute + 60), 1, 1, 1, 1.0 + minute, 1) for minute in range(6)]
    odd = Bar(at(360), at(390), 1, 1, 1, 1, 1)
    assert state.warm_start([*bars, bars[2], odd]) == 6
    snapshot = state.snapshot(at(400))
    assert snapshot.indicators["return_5m"] == 5.0
    assert (snapshot.bars, snapshot.updated_at) == (6, None)
    assert state.apply(kline(5, 99)) == []
    assert len(state.apply(kline(6, 8))) == 1


def test_events_of_another_asset_are_an_error() -> None:
    with pytest.raises(ValueError, match="ETHUSDT"):
        market().apply(replace(trade(0), asset="ETHUSDT"))


def test_bar_length_must_be_positive() -> None:
    with pytest.raises(ValueError, match="bar_seconds is 0"):
        AssetMarket(ASSET, 0)


def day(seed: int, minutes: int) -> list[MarketEvent]:
    """A walk with trades, tickers, books and some klines."""
    rng = random.Random(seed)
    price, events = 100.0, list[MarketEvent]()
    for second in range(0, 60 * minutes, 5):
        price *= math.exp(rng.gauss(0, 0.001))
        events.append(trade(second, price, rng.random() + 0.1, rng.choice(list(Side))))
        events.append(book(second + 1, price - 0.1, price + 0.1, size=rng.random() + 0.1))
        if second % 60 == 0 and second and rng.random() < 0.5:
            events.append(kline(second // 60 - 1, price))
        events.append(ticker(second + 2, volume_24h=1000 * rng.random(), last_price=price))
    return events


def numbers(snapshot: MarketSnapshot) -> str:
    return repr(snapshot)  # NaN is not equal to itself, its text is


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_what_comes_later_changes_nothing_before(seed: int, share: float) -> None:
    events = day(seed, 40)
    cut = int(share * len(events))
    whole, short = AssetMarket(ASSET, 60), market(events[:cut])
    seen = ""
    for index, event in enumerate(events):
        if index == cut:
            seen = numbers(whole.snapshot(at(10_000)))
        whole.apply(event)
    assert seen == numbers(short.snapshot(at(10_000)))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(80)), st.integers(0, 10**6))
def test_bars_are_ordered_and_without_overlap_however_events_arrive(order: list[int], seed: int) -> None:
    events, state = day(seed, 20)[::8][:80], AssetMarket(ASSET, 60)
    bars = [bar for index in order if index < len(events) for bar in state.apply(events[index])]
    assert all(before.end <= after.start for before, after in pairwise(bars))
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
