"""Bad market data through the real generator: each kind ends as a reason with its numbers and no signal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import InvalidMessage, Side
from model_service.market.snapshot import Bar
from model_service.market.state import AssetMarket
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore, held

ASSET = "BTCUSDT"
LIMITS = GenerationLimits(
    guards=GuardLimits(60.0, True, False, indicators_max_age_seconds=300.0),
    tick_seconds=5.0,
    expiry_seconds=30.0,
    rate_per_minute=6000.0,
    burst=100,
    none_sample_rate=0.5,
    seed="7",
    statistics_refresh_seconds=60.0,
)


class Eager:
    """Always buys, whatever it sees: only the guards are left to say no."""

    def propose(self, *_: Any) -> Proposal:
        both = dict.fromkeys(Side, 0.5)
        return Proposal("warmup", ActionProbabilities(1.0, 0.0), both, Reason(ReasonCode.NOT_DRAWN, 1.0, 1.0))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def trade(seconds: float, price: float = 50_000.0) -> TradeEvent:
    return TradeEvent(ASSET, at(seconds), price, 0.1, Side.BUY)


def book(seconds: float, bid: float | None = 49_999.0, ask: float | None = 50_001.0) -> BookEvent:
    return BookEvent(ASSET, at(seconds), bid, bid and 1.0, ask, ask and 1.0, is_snapshot=True)


def kline(minute: int, close: float = 50_000.0) -> KlineEvent:
    return KlineEvent(ASSET, at(60 * minute), at(60 * minute + 60), close, close, close, close, 1.0, confirmed=True)


def bar(minute: int) -> Bar:
    return Bar(at(60 * minute), at(60 * minute + 60), 50_000.0, 50_000.0, 50_000.0, 50_000.0, 1.0)


def fresh(*events: MarketEvent) -> AssetMarket:
    market = AssetMarket(ASSET, 60, jump_limit_percent=50.0, longest_gap_bars=5)
    for event in (trade(-2), book(-1), *events):
        market.apply(event)
    return market


async def decided(market: AssetMarket, now: datetime = NOON, store: FakeStore | None = None) -> FakeStore:
    kept = store or FakeStore()
    modes: Any = FakeModes({"momentum_v1": Eager()})
    roster = StrategyRoster.of([strategy()])
    source = SignalGenerator(roster, {ASSET: market}, modes, kept, SeededIdentifiers(1), LIMITS)
    await source.step(now)
    return kept


async def reason(market: AssetMarket, now: datetime = NOON) -> Reason | None:
    """The reason of one tick, None when it became an opening."""
    store = await decided(market, now)
    assert len(store.signals) + len(store.silent) == 1
    return store.silent[0].reason if store.silent else None


async def test_good_data_open_a_position() -> None:
    assert await reason(fresh()) is None


@pytest.mark.parametrize("asks", [(50_001.0, 50_000.0), (50_000.0, 50_000.0)])
async def test_a_crossed_or_locked_book_is_invalid_with_its_spread(asks: tuple[float, float]) -> None:
    bid, ask = asks
    spread = 200.0 * (ask - bid) / (ask + bid)
    assert spread <= 0.0
    assert await reason(fresh(book(0, bid, ask))) == Reason(ReasonCode.BOOK_INVALID, spread, 0.0)


@pytest.mark.parametrize(("bid", "ask"), [(None, 50_001.0), (49_999.0, None)])
async def test_a_book_without_a_side_is_invalid(bid: float | None, ask: float | None) -> None:
    assert await reason(fresh(book(0, bid, ask))) == Reason(ReasonCode.BOOK_INVALID, None, 0.0)


async def test_a_book_that_stands_still_while_trades_flow_is_stale() -> None:
    assert await reason(fresh(trade(70)), at(70)) == Reason(ReasonCode.BOOK_STALE, 71.0, 60.0)


async def test_a_ticker_that_leaves_the_quote_out_says_that_it_holds() -> None:
    quoted = TickerEvent(ASSET, at(0), bid_price=49_999.0, bid_size=1.0, ask_price=50_001.0, ask_size=1.0)
    assert await reason(fresh(quoted, TickerEvent(ASSET, at(70), last_price=50_000.5)), at(70)) is None


async def test_indicators_of_bars_long_past_are_stale() -> None:
    market = fresh()
    market.warm_start([bar(minute) for minute in range(-80, -9)])
    assert await reason(market) == Reason(ReasonCode.INDICATORS_STALE, 540.0, 300.0)


async def test_after_a_gap_indicators_are_unknown_and_not_old() -> None:
    market = fresh()
    market.warm_start([bar(minute) for minute in range(-80, -9)])
    assert market.snapshot(NOON).indicators["rsi_14"] == 0.0
    market.apply(kline(-1))
    snapshot = market.snapshot(NOON)
    known = {name for name, value in snapshot.indicators.items() if value == value}
    assert known == {"last_close"}
    assert await reason(market) is None


async def test_a_short_gap_is_bridged() -> None:
    market = fresh()
    market.warm_start([bar(minute) for minute in range(-80, -6)])
    market.apply(kline(-1))
    assert market.snapshot(NOON).indicators["rsi_14"] == 0.0


async def test_a_wrong_print_opens_nothing_until_it_is_confirmed() -> None:
    market = fresh(trade(-0.5, 50_000_000.0))
    assert await reason(market) == Reason(ReasonCode.PRICE_JUMP, 99_900.0, 50.0)
    market.apply(trade(0, 50_001.0))
    assert await reason(market) is None


async def test_a_wrong_print_closes_nothing_and_a_crash_closes_one_event_later() -> None:
    due = FakeStore(lots={("momentum_v1", ASSET): [held(Side.BUY)]})
    assert (await decided(fresh(trade(-0.5, 20_000.0)), store=due)).signals == []
    lots = {("momentum_v1", ASSET): [replace(held(Side.BUY), opened_at=NOON)]}
    market = fresh(trade(-0.5, 20_000.0))
    store = await decided(market, store=FakeStore(lots=lots))
    assert store.signals == []
    assert [tick.reason.code for tick in store.silent] == [ReasonCode.PRICE_JUMP]
    market.apply(trade(0, 20_010.0))
    store = await decided(market, store=FakeStore(lots=lots))
    assert [one.signal.metadata["exit"]["cause"] for one in store.signals] == ["stop_loss"]


async def test_a_clock_of_ours_that_stepped_back_opens_nothing_and_holds_no_exit_back() -> None:
    market = fresh(trade(3600), book(3600))
    assert await reason(market) == Reason(ReasonCode.MARKET_DATA_AHEAD, 3600.0, 60.0)
    lots = {("momentum_v1", ASSET): [held(Side.BUY)]}
    store = await decided(market, store=FakeStore(lots=lots))
    assert [one.intent for one in store.signals] == ["exit"]


async def test_ticks_go_on_with_their_reason_when_our_clock_steps_back() -> None:
    modes: Any = FakeModes({"momentum_v1": Eager()})
    market, store = fresh(), FakeStore()
    source = SignalGenerator(
        StrategyRoster.of([strategy()]), {ASSET: market}, modes, store, SeededIdentifiers(1), LIMITS
    )
    await source.step(NOON)
    for second in (0, 1, 5):
        await source.step(at(second - 3600))
    assert len(store.signals) == 1
    assert [(tick.at, tick.reason) for tick in store.silent] == [
        (at(second - 3600), Reason(ReasonCode.MARKET_DATA_AHEAD, 3599.0 - second, 60.0)) for second in (0, 5)
    ]


async def test_a_clock_of_the_gateway_that_stepped_back_makes_its_data_stale() -> None:
    market = fresh()
    for second in range(0, 90, 5):
        market.apply(trade(second - 3600, 1.0))
        market.apply(book(second - 3600, 1.0, 2.0))
    assert market.snapshot(NOON).price == 50_000.0
    assert await reason(market, at(90)) == Reason(ReasonCode.MARKET_DATA_STALE, 91.0, 60.0)


async def test_repeated_and_late_bars_decide_as_if_they_had_come_once() -> None:
    once, twice = fresh(), fresh()
    for minute in range(-30, 0):
        once.apply(kline(minute, 50_000.0 + minute))
    for minute in [*range(-30, 0), -1, -5, -20, -1]:
        twice.apply(kline(minute, 50_000.0 + minute))
    twice.apply(kline(-3, 99_999.0))
    signals = [(await decided(market)).signals for market in (once, twice)]
    assert signals[0] == signals[1]
    assert signals[0]


async def test_a_snapshot_without_a_price_is_missing() -> None:
    market = AssetMarket(ASSET, 60)
    market.apply(book(-1))
    assert await reason(market) == Reason(ReasonCode.MARKET_DATA_MISSING)


async def test_a_position_in_the_platforms_table_that_our_book_does_not_know_counts_against_the_limit() -> None:
    class Contradicted(FakeStore):
        async def shared_positions(self) -> Mapping[str, float]:
            return {ASSET: 3.0}

    store = await decided(fresh(), store=Contradicted())
    (tick,) = store.silent
    assert tick.reason.code is ReasonCode.PLATFORM_POSITION_LIMIT
    assert tick.reason.threshold == 10_000.0
    assert tick.reason.value is not None
    assert tick.reason.value > 150_000.0
    assert Decimal(repr(tick.reason.value)) < 151_000


PAYLOADS: dict[str, dict[str, Any]] = {
    "ticker": {"symbol": ASSET, "lastPrice": "50000", "bid1Price": "49999", "ask1Price": "50001"},
    "trade": {"T": 1_772_452_800_000, "s": ASSET, "S": "Buy", "v": "0.1", "p": "50000"},
    "orderbook": {"s": ASSET, "b": [["49999", "1"]], "a": [["50001", "1"]], "type": "snapshot"},
}


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "1e400"])
@pytest.mark.parametrize(
    ("kind", "member"),
    [("ticker", "lastPrice"), ("ticker", "ask1Price"), ("trade", "p"), ("orderbook", "b"), ("orderbook", "a")],
)
def test_prices_that_are_none_are_dead_letters(kind: str, member: str, price: str) -> None:
    value: Any = [[price, "1"]] if kind == "orderbook" else price
    body = {
        "event_type": kind, "topic": f"{kind}.{ASSET}", "timestamp": NOON.isoformat(), "received_at": NOON.isoformat(),
        "payload": {**PAYLOADS[kind], member: value},
    }  # fmt: skip
    with pytest.raises(InvalidMessage, match="invalid_value"):
        decode_market(json.dumps(body).encode(), NOON)
