"""Some minutes of a busy market in small: what the gateway sends of several assets, in its order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
ASSETS: Mapping[str, float] = {"BTCUSDT": 50_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0, "XRPUSDT": 0.5}
STEP = timedelta(milliseconds=100)
MIXTURE = ("trade", "trade", "trade", "orderbook", "orderbook", "orderbook", "ticker", "ticker", "kline")
"""Kinds of events, as often as they come of a busy contract: candles twice a second at most, the rest faster."""

Wrapped = tuple[str, str, dict[str, Any]]


def market_events(count: int, seed: int) -> Sequence[bytes]:
    """`count` messages of all assets, with a confirmed candle at the end of each minute."""
    rng = random.Random(seed)
    source = _events(rng, dict(ASSETS))
    return [next(source) for _ in range(count)]


def _events(rng: random.Random, prices: dict[str, float]) -> Iterator[bytes]:
    at, opened = START, dict(prices)
    while True:
        at += STEP
        for asset in prices:
            prices[asset] *= 1 + rng.gauss(0, 1e-4)
            yield _body(rng, at, _RECORDS[rng.choice(MIXTURE)](rng, at, asset, prices[asset]))
            if (at - START) % timedelta(minutes=1) == timedelta(0):
                yield _body(rng, at, _candle(at, asset, opened[asset], prices[asset]))
                opened[asset] = prices[asset]


def _body(rng: random.Random, at: datetime, wrapped: Wrapped) -> bytes:
    kind, topic, record = wrapped
    identifier = str(UUID(int=rng.getrandbits(128), version=4))
    moment = at.replace(tzinfo=None).isoformat(timespec="microseconds")
    envelope = {
        "event_id": identifier, "event_type": kind, "topic": topic, "timestamp": moment, "received_at": moment,
        "payload": {**record, "topic": topic}, "trace_id": identifier,
    }  # fmt: skip
    return json.dumps(envelope).encode()


def _trade(rng: random.Random, at: datetime, asset: str, price: float) -> Wrapped:
    record = {
        "T": _ms(at), "s": asset, "S": rng.choice(["Buy", "Sell"]), "v": f"{rng.random():.3f}1", "p": f"{price:.6f}",
        "L": "PlusTick", "i": str(UUID(int=rng.getrandbits(128), version=4)), "BT": False,
    }  # fmt: skip
    return "trade", f"publicTrade.{asset}", record


def _book(rng: random.Random, at: datetime, asset: str, price: float) -> Wrapped:
    levels = {"b": [[f"{price * 0.9999:.6f}", f"{rng.random():.3f}1"]], "a": [[f"{price * 1.0001:.6f}", "0.7"]]}
    return "orderbook", f"orderbook.1.{asset}", {"s": asset, **levels, "u": _ms(at), "seq": _ms(at), "type": "snapshot"}


def _ticker(rng: random.Random, at: datetime, asset: str, price: float) -> Wrapped:
    record = {
        "symbol": asset, "tickDirection": "PlusTick", "lastPrice": f"{price:.6f}", "markPrice": f"{price:.6f}",
        "volume24h": f"{1e6 + rng.random():.3f}", "bid1Price": f"{price * 0.9999:.6f}", "bid1Size": "1.2",
        "fundingRate": "0.0001", "nextFundingTime": str(_ms(START + timedelta(hours=8))),
    }  # fmt: skip
    return "ticker", f"tickers.{asset}", record


def _forming(rng: random.Random, at: datetime, asset: str, price: float) -> Wrapped:
    minute = at.replace(second=0, microsecond=0)
    return _kline(minute, asset, price * 0.999, price, at, confirmed=False)


def _candle(at: datetime, asset: str, opened: float, price: float) -> Wrapped:
    return _kline(at - timedelta(minutes=1), asset, opened, price, at, confirmed=True)


def _kline(start: datetime, asset: str, opened: float, price: float, at: datetime, *, confirmed: bool) -> Wrapped:
    record = {
        "start": _ms(start), "end": _ms(start) + 59_999, "interval": "1", "open": f"{opened:.6f}",
        "close": f"{price:.6f}", "high": f"{max(opened, price) * 1.001:.6f}",
        "low": f"{min(opened, price) * 0.999:.6f}", "volume": "12.3",
        "turnover": "1196000", "confirm": confirmed, "timestamp": _ms(at),
    }  # fmt: skip
    return "kline", f"kline.1.{asset}", record


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


_RECORDS = {"trade": _trade, "orderbook": _book, "ticker": _ticker, "kline": _forming}
