"""The gateway's envelope: the examples that were seen, deltas, and what is refused with which reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.decoding import (
    decimal_value,
    float_value,
    load_object,
    required,
    side_value,
    text_value,
    utc_time,
)
from model_service.contracts.market import BookEvent, KlineEvent, TickerEvent, TradeEvent
from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import InvalidMessage, Side

AT = datetime(2025, 12, 11, 10, 15, 30, 123000, tzinfo=UTC)
FAR_FUTURE_MS = 7258032000000


def envelope(kind: str, topic: str, payload: dict[str, Any], **changes: Any) -> bytes:
    body = {
        "event_id": "9c1f0d2e-0000-4000-8000-000000000001",
        "event_type": kind,
        "topic": topic,
        "timestamp": "2025-12-11T10:15:30.123000",
        "received_at": "2025-12-11T10:15:30.171204",
        "payload": {**payload, "topic": topic},
        "trace_id": "t-1",
    }
    return json.dumps({**body, **changes}).encode()


def ticker(**payload: Any) -> bytes:
    return envelope("ticker", "tickers.BTCUSDT", {"symbol": "BTCUSDT", **payload})


def trade(**payload: Any) -> bytes:
    seen = {"T": 1765448130120, "s": "BTCUSDT", "S": "Sell", "v": "0.2", "p": "97250.00", "i": "x", "BT": False}
    return envelope("trade", "publicTrade.BTCUSDT", {**seen, **payload})


def book(**payload: Any) -> bytes:
    seen = {"s": "BTCUSDT", "b": [["97250", "1.5"]], "a": [["97250.1", "0.7"]], "u": 1, "seq": 2, "type": "snapshot"}
    return envelope("orderbook", "orderbook.1.BTCUSDT", {**seen, **payload})


def kline(topic: str = "kline.1.BTCUSDT", **payload: Any) -> bytes:
    seen = {
        "start": 1765448100000,
        "end": 1765448159999,
        "interval": "1",
        "open": "97200",
        "close": "97250",
        "high": "97260",
        "low": "97190",
        "volume": "12.3",
        "turnover": "1196000",
        "confirm": True,
        "timestamp": 1765448160010,
    }
    return envelope("kline", topic, {**seen, **payload}, received_at="2025-12-11T10:16:00.050000")


def received(at: str | None, message: bytes) -> bytes:
    """The message with another `received_at`, or none."""
    body = json.loads(message)
    del body["received_at"]
    return json.dumps(body if at is None else {**body, "received_at": at}).encode()


def test_ticker_delta_carries_only_what_changed() -> None:
    event = decode_market(ticker(markPrice="97250.10", bid1Price="97250.00", bid1Size="1.2"), AT)
    assert event == TickerEvent("BTCUSDT", AT, mark_price=97250.10, bid_price=97250.0, bid_size=1.2)


def test_ticker_values_that_the_instrument_lacks_are_empty_texts() -> None:
    event = decode_market(ticker(lastPrice="3.5", fundingRate="", bid1Price="", volume24h="0"), AT)
    assert event == TickerEvent("BTCUSDT", AT, last_price=3.5, volume_24h=0.0)


def test_negative_funding_is_a_value() -> None:
    event = decode_market(ticker(fundingRate="-0.0001"), AT)
    assert isinstance(event, TickerEvent)
    assert event.funding_rate == -0.0001


def test_trade_takes_its_own_time_and_the_taker_side() -> None:
    at = datetime(2025, 12, 11, 10, 15, 30, 120000, tzinfo=UTC)
    assert decode_market(trade(), AT) == TradeEvent("BTCUSDT", at, 97250.0, 0.2, Side.SELL)


def test_book_snapshot() -> None:
    assert decode_market(book(), AT) == BookEvent("BTCUSDT", AT, 97250.0, 1.5, 97250.1, 0.7, True)


def test_book_delta_with_one_side_leaves_the_other_out() -> None:
    event = decode_market(book(type="delta", b=[], a=[["97251", "2"]]), AT)
    assert event == BookEvent("BTCUSDT", AT, None, None, 97251.0, 2.0, False)


def test_book_delta_that_moves_the_level_names_the_new_one() -> None:
    event = decode_market(
        book(type="delta", b=[["97250", "0"], ["97249", "3"]], a=[["97250.1", "0"], ["97252", "1"]]), AT
    )
    assert event == BookEvent("BTCUSDT", AT, 97249.0, 3.0, 97252.0, 1.0, False)


def test_book_delta_that_only_removes_keeps_the_size_of_zero() -> None:
    event = decode_market(book(type="delta", b=[["97250", "0"]], a=None), AT)
    assert event == BookEvent("BTCUSDT", AT, 97250.0, 0.0, None, None, False)


def test_kline_takes_its_symbol_from_the_topic_and_ends_exclusively() -> None:
    start = datetime(2025, 12, 11, 10, 15, tzinfo=UTC)
    end = datetime(2025, 12, 11, 10, 16, tzinfo=UTC)
    assert decode_market(kline(), AT) == KlineEvent("BTCUSDT", start, end, 97200, 97260, 97190, 97250, 12.3, True)


def test_unconfirmed_kline_may_end_in_the_future() -> None:
    event = decode_market(kline(confirm=False, end=1765449899999), AT)
    assert isinstance(event, KlineEvent)
    assert not event.confirmed


@pytest.mark.parametrize("kind", ["funding", "liquidation", "order", "balance", "position", "something_new"])
def test_kinds_that_we_do_not_use_are_none(kind: str) -> None:
    assert decode_market(envelope(kind, "wallet", {"data": []}), AT) is None


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "invalid_json", ""),
        (b"\xff\xfe", "invalid_json", ""),
        (b'{"event_type": NaN}', "invalid_json", ""),
        (b'{"a":' * 100_000, "invalid_json", ""),
        (b"[]", "invalid_value", ""),
        (b"{}", "missing_field", "event_type"),
        (b'{"event_type": 7}', "invalid_value", "event_type"),
        (b'{"event_type": "trade"}', "missing_field", "payload"),
        (b'{"event_type": "trade", "payload": "x"}', "invalid_value", "payload"),
        (ticker(symbol=None), "missing_field", "payload.symbol"),
        (ticker(symbol="A" * 51), "invalid_value", "payload.symbol"),
        (ticker(lastPrice="0"), "invalid_value", "payload.lastPrice"),
        (ticker(bid1Price="-1"), "invalid_value", "payload.bid1Price"),
        (ticker(ask1Price="NaN"), "invalid_value", "payload.ask1Price"),
        (ticker(lastPrice="Infinity"), "invalid_value", "payload.lastPrice"),
        (ticker(volume24h="-1"), "invalid_value", "payload.volume24h"),
        (trade(p=None), "missing_field", "payload.p"),
        (trade(p=True), "invalid_value", "payload.p"),
        (trade(p="1e999999"), "invalid_value", "payload.p"),
        (trade(v="0"), "invalid_value", "payload.v"),
        (trade(S="Hold"), "invalid_value", "payload.S"),
        (trade(S=1), "invalid_value", "payload.S"),
        (trade(T=1765448130), "invalid_value", "payload.T"),
        (trade(T=10**30), "invalid_value", "payload.T"),
        (trade(T=4070908800000), "invalid_value", "payload.T"),
        (book(type="partial"), "invalid_value", "payload.type"),
        (book(b="97250"), "invalid_value", "payload.b"),
        (book(b=[["97250"]]), "invalid_value", "payload.b[0]"),
        (book(a=[["97250.1", "-1"]]), "invalid_value", "payload.a[0]"),
        (book(a=[["0", "1"]]), "invalid_value", "payload.a[0]"),
        (kline(topic="kline.BTCUSDT"), "invalid_value", "topic"),
        (kline(confirm="true"), "invalid_value", "payload.confirm"),
        (kline(end=1765448099999), "invalid_value", "payload.end"),
        (kline(high="97240"), "invalid_value", "payload.high"),
        (kline(low="97240"), "invalid_value", "payload.high"),
        (kline(volume="-1"), "invalid_value", "payload.volume"),
        (received("2199-12-31T00:00:00", trade(T=FAR_FUTURE_MS)), "invalid_value", "received_at"),
        (envelope("ticker", "t", {"symbol": "X"}, timestamp="yesterday"), "invalid_value", "timestamp"),
        (envelope("ticker", "t", {"symbol": "X"}, timestamp="2025-12-11T10:21:30"), "invalid_value", "timestamp"),
    ],
)
def test_bad_input_is_refused_with_its_reason(body: bytes, code: str, field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_market(body, AT)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.detail


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (trade(T=FAR_FUTURE_MS), "payload.T"),
        (kline(start=FAR_FUTURE_MS, end=FAR_FUTURE_MS + 59_999), "payload.end"),
        (envelope("ticker", "t", {"symbol": "X"}, timestamp="2199-12-31T00:00:00"), "timestamp"),
    ],
)
@pytest.mark.parametrize("absent", [True, False])
def test_an_event_from_the_far_future_is_refused_with_and_without_received_at(
    message: bytes, field: str, absent: bool
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_market(received(None, message) if absent else message, AT)
    assert (caught.value.code, caught.value.field) == ("invalid_value", field)
    assert ("the service's clock" in caught.value.detail) is absent


def test_without_received_at_five_minutes_after_the_services_clock_are_allowed() -> None:
    body, at = received(None, trade()), datetime(2025, 12, 11, 10, 15, 30, 120000, tzinfo=UTC)
    assert decode_market(body, at - timedelta(minutes=5)) is not None
    with pytest.raises(InvalidMessage):
        decode_market(body, at - timedelta(minutes=5, milliseconds=1))


def test_a_gateway_whose_clock_is_hours_ahead_is_still_heard() -> None:
    assert decode_market(trade(), AT - timedelta(hours=23)) is not None


@given(st.binary(max_size=200) | st.text().map(lambda text: json.dumps({"event_type": text}).encode()))
def test_any_bytes_give_an_event_nothing_or_a_refusal(body: bytes) -> None:
    try:
        decode_market(body, AT)
    except InvalidMessage as refusal:
        str(refusal).encode()


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=3)


@given(st.sampled_from([ticker, trade, book, kline]), st.data())
def test_any_value_in_any_member_gives_an_event_or_a_refusal(make: Any, data: st.DataObject) -> None:
    body = json.loads(make(lastPrice="1", bid1Price="1"))
    target = body["payload"] if data.draw(st.booleans()) else body
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON_VALUES)
    try:
        decode_market(json.dumps(body).encode(), AT)
    except InvalidMessage as refusal:
        str(refusal).encode()


@pytest.mark.parametrize("body", [b"\xff\x00\x1b", b"\x00\xd8\x00", b"\x80abc", b'{"a": "\xe9"}'])
def test_bytes_that_are_no_text_are_said_to_be_none(body: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not UTF-8 JSON; it begins with ") as refusal:
        load_object(body)
    assert refusal.value.code == "invalid_json"
    assert "codec" not in str(refusal.value)


def test_decimals_keep_their_digits_from_texts_and_numbers() -> None:
    read = load_object(b'{"text": "0.1000", "number": 0.1000, "zero": "0E-8", "whole": 3}')
    assert [str(decimal_value(read[key], key)) for key in read] == ["0.1000", "0.1000", "0E-8", "3"]
    assert decimal_value(0.1, "float") == Decimal("0.1")


@pytest.mark.parametrize("value", ["1_000", "", "x", "sNaN", None, True, [], "1" * 65, "1e19", 10**19, "1e-31"])
def test_decimals_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidMessage):
        decimal_value(value, "price")


@pytest.mark.parametrize(
    "value",
    [
        "2025-12-11T10:15:30.123",
        "2025-12-11T10:15:30.123Z",
        "2025-12-11T10:15:30.123000+00:00",
        "2025-12-11 13:15:30.123+03:00",
        1765448130123,
        "1765448130123",
    ],
)
def test_times_in_every_form_that_occurs(value: object) -> None:
    moment = utc_time(value, "timestamp")
    assert moment == AT
    assert moment.utcoffset() == AT.utcoffset()


@pytest.mark.parametrize("value", [None, True, 1.5, "", "now", "0001-01-01T00:00:00+14:00", 0, "9" * 30])
def test_times_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidMessage):
        utc_time(value, "timestamp")


@pytest.mark.parametrize(("value", "side"), [("Buy", Side.BUY), ("SELL", Side.SELL), ("sell", Side.SELL)])
def test_sides_in_any_case(value: str, side: Side) -> None:
    assert side_value(value, "side") is side


@pytest.mark.parametrize("value", ["", "a" * 11, "nul\x00", "half \ud800", 5, None])
def test_texts_that_the_database_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(InvalidMessage) as caught:
        text_value(value, "order_id", 10)
    caught.value.detail.encode()


def test_required_names_the_whole_path() -> None:
    with pytest.raises(InvalidMessage, match=r"missing_field at order\.price"):
        required({"price": None}, "price", "order.price")


@given(
    st.text("0123456789.eE+-_ naif\u0661", max_size=22)
    | st.floats().map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
)
def test_a_float_is_read_as_the_decimal_is_and_refused_where_it_is(text: str) -> None:
    assert read(float_value, text) == read(lambda value, path: float(decimal_value(value, path)), text)


def read(reader: Callable[[Any, str], float], text: str) -> float | str:
    try:
        return reader(text, "payload.p")
    except InvalidMessage as refused:
        return str(refused)
