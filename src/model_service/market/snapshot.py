"""What is known of one asset's market at one moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from model_service.market.funding import DEFAULT_INTERVAL_SECONDS

NAN = math.nan


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed bar. `start` inclusive, `end` exclusive, both aware UTC; volume in base units."""

    start: datetime
    end: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class PriceJump:
    """A price that nothing has confirmed yet: how far it lies from the last believed one, and how far one may.

    Both in percent, the larger price over the smaller.
    """

    percent: float
    limit_percent: float


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """The state of one asset. What is unknown is NaN, never 0.

    Attributes:
        at: when the snapshot was taken.
        updated_at: time of the newest market event in it, as that says it; None before the first.
        heard_at: the same, but never later than our clock was when it came; None: `updated_at`.
        price: last price.
        spread_percent: (ask - bid) / mid * 100.
        book_imbalance: (bid_size - ask_size) / (bid_size + ask_size), -1 to 1.
        trade_imbalance: (buy volume - sell volume) / volume of recent public trades, -1 to 1.
        indicators: values of the streaming indicators over closed bars, by name.
        bars: closed bars seen so far.
        quote_at: when the source of bid and ask last spoke; None before that.
        crossed_percent: the spread of a book with bid >= ask, 0 or less; such a bid and ask are NaN. Else NaN.
        bars_until: end of the newest closed bar, which the indicators are as of; None before the first.
        price_jump: a price that waits for a second event; `price` is the one before it. None mostly.
        funding_rate: of the next funding time, a fraction; above 0 longs pay shorts.
        seconds_to_funding: until that time; below 0 when it has passed and the next one has not been told.
        funding_interval_seconds: from one funding time to the next.
    """

    asset: str
    at: datetime
    updated_at: datetime | None
    price: float = NAN
    bid: float = NAN
    ask: float = NAN
    bid_size: float = NAN
    ask_size: float = NAN
    spread_percent: float = NAN
    book_imbalance: float = NAN
    trade_imbalance: float = NAN
    volume_24h: float = NAN
    volatility: float = NAN
    bars: int = 0
    indicators: Mapping[str, float] = field(default_factory=dict)
    quote_at: datetime | None = None
    crossed_percent: float = NAN
    bars_until: datetime | None = None
    price_jump: PriceJump | None = None
    funding_rate: float = NAN
    seconds_to_funding: float = NAN
    funding_interval_seconds: float = DEFAULT_INTERVAL_SECONDS
    heard_at: datetime | None = None
