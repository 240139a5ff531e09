"""Market events from ws-gateway, decoded: ticker, trade, top of book, kline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from model_service.contracts.types import Side


@dataclass(frozen=True, slots=True)
class TickerEvent:
    """What a ticker message said; a delta carries only what changed, so every value may be None.

    `funding_rate` is a fraction, above 0 longs pay shorts; `next_funding_at` is when, aware UTC.
    """

    asset: str
    at: datetime
    last_price: float | None = None
    mark_price: float | None = None
    bid_price: float | None = None
    bid_size: float | None = None
    ask_price: float | None = None
    ask_size: float | None = None
    volume_24h: float | None = None
    funding_rate: float | None = None
    next_funding_at: datetime | None = None
    funding_interval_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """One public trade; `taker_side` is the aggressor's."""

    asset: str
    at: datetime
    price: float
    quantity: float
    taker_side: Side


@dataclass(frozen=True, slots=True)
class BookEvent:
    """The best level of the book; a delta may carry one side only. A size of 0 removes the level."""

    asset: str
    at: datetime
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class KlineEvent:
    """A candle; only `confirmed` ones are final. `start` is inclusive, `end` exclusive."""

    asset: str
    start: datetime
    end: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    confirmed: bool


MarketEvent = TickerEvent | TradeEvent | BookEvent | KlineEvent
