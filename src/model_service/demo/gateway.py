"""Messages as ws-gateway sends them: the envelope around a raw exchange record, prices and sizes as strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from model_service.config.clock import Identifiers
from model_service.messaging.transport import OutgoingMessage

TICKER_QUEUE = "ws-gateway.ticker"
TRADE_QUEUE = "ws-gateway.trade"
BOOK_QUEUE = "ws-gateway.orderbook"
KLINE_QUEUE = "ws-gateway.kline"
GATEWAY_QUEUES = (TICKER_QUEUE, TRADE_QUEUE, BOOK_QUEUE, KLINE_QUEUE)

ONE_MILLISECOND = timedelta(milliseconds=1)


class Gateway:
    """Wraps exchange records into the gateway's envelope.

    Args:
        identifiers: where event identifiers come from; a seeded source makes the messages reproducible.
    """

    def __init__(self, identifiers: Identifiers) -> None:
        self._identifiers = identifiers

    def ticker(self, asset: str, at: datetime, values: Mapping[str, str]) -> OutgoingMessage:
        """A ticker with the members in `values`, such as `lastPrice` and `bid1Price`."""
        return self._wrap("ticker", f"tickers.{asset}", at, {"symbol": asset, **values})

    def trade(self, asset: str, at: datetime, *, price: str, quantity: str, taker: str) -> OutgoingMessage:
        """One public trade; `taker` is Buy or Sell."""
        identifier = str(self._identifiers.new())
        record = {"T": epoch_ms(at), "s": asset, "S": taker, "v": quantity, "p": price, "i": identifier, "BT": False}
        return self._wrap("trade", f"publicTrade.{asset}", at, record)

    def book(
        self, asset: str, at: datetime, *, bid: tuple[str, str], ask: tuple[str, str], seq: int
    ) -> OutgoingMessage:
        """A snapshot of the best level; `bid` and `ask` are price and size."""
        record = {"s": asset, "b": [list(bid)], "a": [list(ask)], "u": seq, "seq": seq, "type": "snapshot"}
        return self._wrap("orderbook", f"orderbook.1.{asset}", at, record)

    def kline(self, asset: str, start: datetime, end: datetime, values: Mapping[str, str]) -> OutgoingMessage:
        """A confirmed candle over [start, end); `values` are open, high, low, close, volume as strings."""
        interval = str(int((end - start).total_seconds() // 60))
        record = {
            "start": epoch_ms(start),
            "end": epoch_ms(end - ONE_MILLISECOND),
            "interval": interval,
            **values,
            "confirm": True,
            "timestamp": epoch_ms(end),
        }
        return self._wrap("kline", f"kline.{interval}.{asset}", end, record)

    def _wrap(self, event_type: str, topic: str, at: datetime, record: Mapping[str, Any]) -> OutgoingMessage:
        event_id = str(self._identifiers.new())
        moment = naive_iso(at)
        body = {
            "event_id": event_id,
            "event_type": event_type,
            "topic": topic,
            "timestamp": moment,
            "received_at": moment,
            "payload": {**record, "topic": topic},
            "trace_id": event_id,
        }
        return OutgoingMessage(
            exchange="",
            routing_key=f"ws-gateway.{event_type}",
            body=json.dumps(body, separators=(",", ":")).encode(),
            message_id=event_id,
            headers={"event_type": event_type, "topic": topic, "trace_id": event_id},
        )


def naive_iso(moment: datetime) -> str:
    """UTC without a zone and with microseconds, as the siblings write times."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def decimals_of(price: float) -> int:
    """Decimals that keep about seven significant digits of a price.

    Example:
        >>> decimals_of(60_000.0), decimals_of(0.05)
        (2, 8)
    """
    digits_before = len(str(int(price))) if price >= 1 else _leading_zeros(price)
    return max(0, 7 - digits_before)


def _leading_zeros(price: float) -> int:
    zeros = 0
    while price < 0.1 and zeros < 12:
        price *= 10
        zeros += 1
    return -zeros
