"""A wrong clock, the gateway's or ours: no event's time may freeze the price, or hide a stop-loss."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import Side
from model_service.market.state import AssetMarket
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, strategy
from tests.unit.test_bad_market_data import ASSET, LIMITS, at, book, decided, reason, trade
from tests.unit.test_signal_generation import FakeModes, FakeStore, held

ENTRY = 50_000.0
FALLEN = 0.8 * ENTRY


def market(*events: MarketEvent, now: datetime = NOON) -> AssetMarket:
    state = AssetMarket(ASSET, 60, jump_limit_percent=50.0)
    for event in events:
        state.apply(event, now)
    return state


def quoted(seconds: float, price: float) -> BookEvent:
    return BookEvent(ASSET, at(seconds), price - 1.0, 1.0, price + 1.0, 1.0, is_snapshot=True)


def kline(end: float, close: float) -> KlineEvent:
    return KlineEvent(ASSET, at(end - 60), at(end), close, close, close, close, 1.0, confirmed=True)


def ticker(seconds: float, price: float) -> TickerEvent:
    return TickerEvent(ASSET, at(seconds), last_price=price)


@pytest.mark.parametrize("wrong", [trade, ticker, kline], ids=["trade", "ticker", "candle"])
@pytest.mark.parametrize("lead", [20.0, 299.0, 86_399.0])
def test_an_event_far_ahead_freezes_no_price(wrong: Any, lead: float) -> None:
    state = market(trade(0, 100.0), wrong(60.0 * (lead // 60.0 + 1.0), 100.0))
    state.apply(trade(1, 80.0), at(1.1))
    assert state.snapshot(at(2)).price == 80.0


def test_a_book_far_ahead_freezes_no_quote() -> None:
    state = market(quoted(7200, 100.0))
    state.apply(quoted(1, 80.0), at(1.1))
    assert state.snapshot(at(2)).bid == 79.0
    assert state.snapshot(at(2)).quote_at == at(1)


def test_an_event_ahead_keeps_no_bars_out() -> None:
    state = market(trade(0, 100.0), kline(7200, 100.0), trade(7200, 100.0))
    bars = [bar for second in (20, 60, 130) for bar in state.apply(trade(second, 80.0), at(second))]
    assert [one.start for one in bars] == [at(0), at(60)]


def test_a_gateway_a_day_ahead_through_the_decoder() -> None:
    def message(moment: datetime, price: float, received: datetime) -> bytes:
        payload = {"T": int(moment.timestamp() * 1000), "s": ASSET, "S": "Buy", "v": "1", "p": str(price)}
        envelope = {"event_type": "trade", "timestamp": received.isoformat(), "received_at": received.isoformat()}
        return json.dumps({**envelope, "payload": payload}).encode()

    far = NOON + timedelta(hours=23, minutes=59)
    first, wrong = message(NOON, 100.0, NOON), message(far + timedelta(minutes=4), 100.0, far)
    events = [event for body in (first, wrong) if (event := decode_market(body, NOON)) is not None]
    state = market(*events)
    assert len(events) == 2
    state.apply(trade(60, 80.0), at(60))
    assert state.snapshot(at(61)).price == 80.0
    assert state.snapshot(at(61)).updated_at == at(60)


def generator(state: AssetMarket, store: FakeStore) -> SignalGenerator:
    modes: Any = FakeModes()
    roster = StrategyRoster.of([strategy(horizon_seconds=100_000)])
    return SignalGenerator(roster, {ASSET: state}, modes, store, SeededIdentifiers(1), LIMITS)


@pytest.mark.parametrize("wrong", [ENTRY, 10 * ENTRY], ids=["the same price", "a jump"])
async def test_a_stop_loss_is_seen_though_an_event_was_minutes_ahead(wrong: float) -> None:
    state = market(trade(-1, ENTRY), trade(299, wrong))
    store = FakeStore(lots={("momentum_v1", ASSET): [held(Side.BUY)]})
    source = generator(state, store)
    for second in (5, 10):
        for event in (trade(second, FALLEN), quoted(second, FALLEN)):
            state.apply(event, at(second))
        await source.step(at(second))
    assert [one.signal.timestamp for one in store.signals if one.intent == "exit"][:1] == [at(5)]


async def test_a_clock_of_ours_behind_opens_nothing_and_closes_at_the_price_of_now() -> None:
    state = market(trade(0, ENTRY), book(0))
    for second in (3601, 3602):
        for event in (trade(second, FALLEN), quoted(second, FALLEN)):
            state.apply(event, at(second - 3600))
    assert await reason(state, at(2)) == Reason(ReasonCode.MARKET_DATA_AHEAD, 3600.0, 60.0)
    store = await decided(state, at(2), FakeStore(lots={("momentum_v1", ASSET): [held(Side.BUY)]}))
    assert [(one.intent, one.signal.metadata["exit"]["cause"]) for one in store.signals] == [("exit", "stop_loss")]


def test_a_clock_of_ours_that_steps_back_goes_on_with_what_comes() -> None:
    state = market(trade(0, 100.0), quoted(0, 100.0), ticker(0, 100.0))
    state.apply(TradeEvent(ASSET, at(1), 80.0, 1.0, Side.SELL), at(1 - 3600))
    state.apply(quoted(1, 80.0), at(1 - 3600))
    seen = state.snapshot(at(2 - 3600))
    assert (seen.price, seen.bid, seen.trade_imbalance) == (80.0, 79.0, -1.0)


def test_a_jump_that_was_held_before_our_clock_stepped_back_can_be_confirmed_after_it() -> None:
    state = market(trade(0, 100.0), trade(1, 40.0), now=at(1))
    state.apply(trade(2, 40.0), at(2 - 3600))
    assert state.snapshot(at(2 - 3600)).price_jump is not None, "the same moment on our clock proves nothing"
    state.apply(trade(3, 40.0), at(3 - 3600))
    assert state.snapshot(at(3 - 3600)).price == 40.0


async def test_after_one_event_ahead_all_is_as_before() -> None:
    state = market(trade(0), book(0), trade(86_000))
    assert await reason(state, at(1)) == Reason(ReasonCode.MARKET_DATA_AHEAD, 85_999.0, 60.0)
    state.apply(trade(2), at(2))
    assert await reason(state, at(3)) is None


async def test_silence_after_an_event_ahead_is_stale_from_when_that_came() -> None:
    assert await reason(market(trade(0), trade(86_000)), at(61)) == Reason(ReasonCode.MARKET_DATA_STALE, 61.0, 60.0)


@given(st.lists(st.floats(-400.0, 90_000.0), max_size=8), st.sampled_from([trade, ticker, kline]))
def test_whatever_times_events_had_a_later_one_is_believed(leads: list[float], wrong: Any) -> None:
    state = market(trade(0, 100.0))
    for index, lead in enumerate(leads):
        state.apply(wrong(60.0 * (lead // 60.0), 100.0), at(index))
    now = len(leads) + 10
    state.apply(TradeEvent(ASSET, at(now), 80.0, 1.0, Side.SELL), at(now))
    seen = state.snapshot(at(now))
    assert (seen.price, seen.updated_at, seen.heard_at) == (80.0, at(now), at(now))
