"""Funding: from the ticker into the state and the record of a decision, and what it is expected to cost."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.market import TickerEvent
from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import InvalidMessage, Side
from model_service.market.funding import funding_cost_percent
from model_service.market.state import AssetMarket
from model_service.services.decision import funding_costs, snapshot_message
from model_service.services.decision_evidence import decision_evidence
from tests.support.builders import NOON, snapshot, strategy
from tests.unit.test_signal_generation import FakeStore, generator, market, run

HOUR = 3600.0


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def decoded(**members: Any) -> TickerEvent:
    body = {
        "event_type": "ticker", "topic": "tickers.BTCUSDT", "timestamp": NOON.isoformat(),
        "received_at": NOON.isoformat(), "payload": {"symbol": "BTCUSDT", **members},
    }  # fmt: skip
    event = decode_market(json.dumps(body).encode(), NOON)
    assert isinstance(event, TickerEvent)
    return event


@pytest.mark.parametrize(
    ("seconds", "horizon", "times"),
    [(600, 300, 0), (300, 300, 1), (0, 300, 1), (600, 8 * HOUR, 1), (600, 8 * HOUR + 600, 2), (600, 24 * HOUR, 3)],
)
def test_each_funding_time_within_the_horizon_costs_the_rate_once(seconds: float, horizon: float, times: int) -> None:
    assert funding_cost_percent(0.0001, seconds, horizon) == pytest.approx(0.01 * times)
    assert funding_cost_percent(-0.0001, seconds, horizon) == pytest.approx(-0.01 * times)


def test_shorter_intervals_cost_more_often() -> None:
    assert funding_cost_percent(0.0001, 600.0, 4 * HOUR, HOUR) == pytest.approx(0.04)


@pytest.mark.parametrize(
    "numbers",
    [(math.nan, 1.0, 1.0), (math.inf, 1.0, 1.0), (0.1, math.nan, 1.0), (0.1, -1.0, 1.0), (0.1, 1.0, math.nan)],
)
def test_what_is_unknown_is_nan(numbers: tuple[float, float, float]) -> None:
    assert math.isnan(funding_cost_percent(*numbers))


@given(st.floats(-0.05, 0.05), st.floats(0, 1e5), st.floats(0, 1e6), st.floats(1, 1e5))
def test_the_two_sides_pay_each_other(rate: float, seconds: float, horizon: float, interval: float) -> None:
    one = funding_cost_percent(rate, seconds, horizon, interval)
    assert one == -funding_cost_percent(-rate, seconds, horizon, interval)


def test_the_ticker_tells_rate_time_and_interval() -> None:
    event = decoded(fundingRate="-0.00025", nextFundingTime="1772467200000", fundingIntervalHour="4")
    assert (event.funding_rate, event.funding_interval_seconds) == (-0.00025, 4 * HOUR)
    assert event.next_funding_at == at(4 * HOUR)


@pytest.mark.parametrize("time", ["", "0", 0])
def test_an_instrument_without_funding_has_no_time_of_it(time: Any) -> None:
    assert decoded(fundingRate="", nextFundingTime=time).next_funding_at is None


@pytest.mark.parametrize(("member", "value"), [("nextFundingTime", "soon"), ("fundingIntervalHour", "0")])
def test_what_cannot_be_is_refused(member: str, value: str) -> None:
    with pytest.raises(InvalidMessage, match=member):
        decoded(**{member: value})


def test_deltas_keep_what_they_leave_out_and_late_ones_change_nothing() -> None:
    state = AssetMarket("BTCUSDT", 60)
    state.apply(TickerEvent("BTCUSDT", at(1), funding_rate=0.0001, next_funding_at=at(600)))
    state.apply(TickerEvent("BTCUSDT", at(2), last_price=1.0))
    state.apply(TickerEvent("BTCUSDT", at(0), funding_rate=0.5, next_funding_at=at(9)))
    seen = state.snapshot(at(10))
    assert (seen.funding_rate, seen.seconds_to_funding) == (0.0001, 590.0)


def test_each_side_knows_its_own_cost() -> None:
    known = snapshot(funding_rate=0.0001, seconds_to_funding=60.0)
    assert funding_costs(known, 300) == {Side.BUY: pytest.approx(0.01), Side.SELL: pytest.approx(-0.01)}
    assert funding_costs(snapshot(), 300) == {}


def test_the_message_and_the_evidence_show_funding_where_it_is_known() -> None:
    known = snapshot(funding_rate=0.0001, seconds_to_funding=60.0)
    assert snapshot_message(known)["funding_rate"] == 0.0001
    assert snapshot_message(known)["seconds_to_funding"] == 60.0
    assert "funding_rate" not in snapshot_message(snapshot())
    evidence = decision_evidence(strategy(), known, 5.0, [], position_amount=0.0)
    assert evidence["market"]["funding_rate"] == 0.0001
    assert evidence["funding_cost_percent"] == {"buy": pytest.approx(0.01), "sell": pytest.approx(-0.01)}


async def test_a_signal_says_what_funding_will_cost_its_side() -> None:
    state = market()
    state.apply(TickerEvent("BTCUSDT", NOON, funding_rate=0.0001, next_funding_at=at(100)))
    store = FakeStore()
    await run(generator(store, strategy(signals_per_minute=60.0), markets={"BTCUSDT": state}), 6)
    for one in store.signals:
        assert one.signal.metadata["funding_cost_percent"] == pytest.approx(0.01 * one.signal.side.sign)
    assert store.signals
