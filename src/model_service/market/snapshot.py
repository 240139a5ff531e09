"""What is known of one asset's market at one moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

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
class MarketSnapshot:
    """The state of one asset. What is unknown is NaN, never 0.

    Attributes:
        at: when the snapshot was taken.
        updated_at: time of the newest market event in it; None before the first.
        price: last price.
        spread_percent: (ask - bid) / mid * 100.
        book_imbalance: (bid_size - ask_size) / (bid_size + ask_size), -1 to 1.
        trade_imbalance: (buy volume - sell volume) / volume of recent public trades, -1 to 1.
        indicators: values of the streaming indicators over closed bars, by name.
        bars: closed bars seen so far.
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
