"""Decode ws-gateway's envelope: the raw exchange record in `payload` becomes one MarketEvent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from model_service.contracts.decoding import (
    float_value,
    load_object,
    non_negative_float,
    object_value,
    positive_float,
    refuse,
    refuse_future,
    required,
    side_value,
    text_value,
    utc_time,
)
from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent

_LONGEST_ASSET = 50
_LONGEST_TOPIC = 200
_ALLOWED_CLOCK_DIFFERENCE = timedelta(days=1)

Object = Mapping[str, Any]
Level = tuple[float | None, float | None]
Value = TypeVar("Value")


def decode_market(body: bytes, now: datetime) -> MarketEvent | None:
    """The event in one message of the gateway; None for a kind that the service does not use.

    Raises:
        InvalidMessage: the body is no JSON object, a member is missing, or a value is not finite, not positive
            where it is a price, or later by more than five minutes than the gateway's own clock (`received_at`), or
            than `now` where the message has none; or `received_at` is later than `now` by more than a day.

    >>> from datetime import UTC
    >>> decode_market(b'{"event_type": "funding"}', datetime(2026, 3, 2, tzinfo=UTC)) is None
    True
    """
    envelope = load_object(body)
    decode = _DECODERS.get(text_value(required(envelope, "event_type", "event_type"), "event_type", _LONGEST_TOPIC))
    if decode is None:
        return None
    payload = object_value(required(envelope, "payload", "payload"), "payload")
    return decode(_Envelope(envelope, now), payload)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The message around the exchange's record, and the service's own time."""

    members: Object
    now: datetime


def _ticker(envelope: _Envelope, payload: Object) -> TickerEvent:
    return TickerEvent(
        asset=_asset(payload, "symbol"),
        at=_envelope_time(envelope),
        last_price=_optional(payload, "lastPrice", positive_float),
        mark_price=_optional(payload, "markPrice", positive_float),
        bid_price=_optional(payload, "bid1Price", positive_float),
        bid_size=_optional(payload, "bid1Size", non_negative_float),
        ask_price=_optional(payload, "ask1Price", positive_float),
        ask_size=_optional(payload, "ask1Size", non_negative_float),
        volume_24h=_optional(payload, "volume24h", non_negative_float),
        funding_rate=_optional(payload, "fundingRate", float_value),
        next_funding_at=_optional(payload, "nextFundingTime", _funding_time),
        funding_interval_seconds=_optional(payload, "fundingIntervalHour", _hours),
    )


def _trade(envelope: _Envelope, payload: Object) -> TradeEvent:
    at = utc_time(required(payload, "T", "payload.T"), "payload.T")
    _refuse_future(at, envelope, "payload.T")
    return TradeEvent(
        asset=_asset(payload, "s"),
        at=at,
        price=positive_float(required(payload, "p", "payload.p"), "payload.p"),
        quantity=positive_float(required(payload, "v", "payload.v"), "payload.v"),
        taker_side=side_value(required(payload, "S", "payload.S"), "payload.S"),
    )


def _orderbook(envelope: _Envelope, payload: Object) -> BookEvent:
    kind = required(payload, "type", "payload.type")
    if kind not in ("snapshot", "delta"):
        refuse("payload.type", kind, "snapshot or delta")
    bid_price, bid_size = _best_level(payload, "b", best=max)
    ask_price, ask_size = _best_level(payload, "a", best=min)
    return BookEvent(
        asset=_asset(payload, "s"),
        at=_envelope_time(envelope),
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
        is_snapshot=kind == "snapshot",
    )


def _kline(envelope: _Envelope, payload: Object) -> KlineEvent:
    confirmed = required(payload, "confirm", "payload.confirm")
    if not isinstance(confirmed, bool):
        refuse("payload.confirm", confirmed, "true or false")
    start, end = _kline_interval(payload)
    if confirmed:
        _refuse_future(end, envelope, "payload.end")
    open_, high, low, close = (_price(payload, key) for key in ("open", "high", "low", "close"))
    if not low <= min(open_, close) <= max(open_, close) <= high:
        refuse("payload.high", f"open {open_}, high {high}, low {low}, close {close}", "low <= open, close <= high")
    return KlineEvent(
        asset=_kline_asset(envelope, payload),
        start=start,
        end=end,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=non_negative_float(required(payload, "volume", "payload.volume"), "payload.volume"),
        confirmed=confirmed,
    )


_DECODERS: dict[str, Callable[[_Envelope, Object], MarketEvent]] = {
    "ticker": _ticker,
    "trade": _trade,
    "orderbook": _orderbook,
    "kline": _kline,
}


def _asset(payload: Object, key: str) -> str:
    path = f"payload.{key}"
    return text_value(required(payload, key, path), path, _LONGEST_ASSET)


def _price(payload: Object, key: str) -> float:
    path = f"payload.{key}"
    return positive_float(required(payload, key, path), path)


def _optional(payload: Object, key: str, read: Callable[[Any, str], Value]) -> Value | None:
    # A delta leaves unchanged members out; the exchange writes "" for a value that the instrument does not have.
    value = payload.get(key)
    return None if value is None or value == "" else read(value, f"payload.{key}")


def _funding_time(value: Any, path: str) -> datetime | None:
    # The exchange writes "0" for an instrument without funding.
    return None if value in ("0", 0) else utc_time(value, path)


def _hours(value: Any, path: str) -> float:
    return 3600.0 * positive_float(value, path)


def _envelope_time(envelope: _Envelope) -> datetime:
    at = utc_time(required(envelope.members, "timestamp", "timestamp"), "timestamp")
    _refuse_future(at, envelope, "timestamp")
    return at


def _refuse_future(at: datetime, envelope: _Envelope, path: str) -> None:
    # The state keeps what is newest: one event from the year 2100 would make it ignore all later good ones.
    received = envelope.members.get("received_at")
    if received is None:
        return refuse_future(at, path, envelope.now, "the service's clock")
    received_at = utc_time(received, "received_at")
    # A gateway whose clock is wrong by minutes, or by its time zone, must not make the service deaf.
    if received_at > envelope.now + _ALLOWED_CLOCK_DIFFERENCE:
        latest = f"at most {_ALLOWED_CLOCK_DIFFERENCE} after the service's clock {envelope.now.isoformat()}"
        refuse("received_at", received_at.isoformat(), latest)
    return refuse_future(at, path, received_at, "received_at")


def _kline_interval(payload: Object) -> tuple[datetime, datetime]:
    start = utc_time(required(payload, "start", "payload.start"), "payload.start")
    last = utc_time(required(payload, "end", "payload.end"), "payload.end")
    if last <= start:
        refuse("payload.end", last.isoformat(), f"after the start {start.isoformat()}")
    return start, last + timedelta(milliseconds=1)


def _kline_asset(envelope: _Envelope, payload: Object) -> str:
    topic = text_value(required({**payload, **envelope.members}, "topic", "topic"), "topic", _LONGEST_TOPIC)
    parts = topic.split(".", 2)
    if len(parts) != 3 or parts[0] != "kline":
        refuse("topic", topic, "kline.INTERVAL.SYMBOL, such as kline.1.BTCUSDT")
    return text_value(parts[2], "topic", _LONGEST_ASSET)


def _best_level(payload: Object, key: str, best: Callable[..., tuple[float, float]]) -> Level:
    path = f"payload.{key}"
    rows = payload.get(key)
    if rows is None or rows == []:
        return None, None
    if not isinstance(rows, list):
        refuse(path, rows, "a list of [price, size]")
    levels = [_level(row, f"{path}[{index}]") for index, row in enumerate(rows)]
    resting = [level for level in levels if level[1] > 0.0]
    return best(resting) if resting else levels[0]


def _level(row: Any, path: str) -> tuple[float, float]:
    if not isinstance(row, list) or len(row) != 2:
        refuse(path, row, "[price, size]")
    return positive_float(row[0], path), non_negative_float(row[1], path)
