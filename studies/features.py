"""The feature vectors of chosen moments of a market, by the same definitions as `models.features`, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.models.features import FEATURE_NAMES
from studies.bars import Bars, autoregression, indicators

Floats = NDArray[np.float64]
SPANS = (1, 5, 15, 60)
_DAY, _WEEK = 86_400, 7 * 86_400
_FIRST_MONDAY = 4 * _DAY
"""1970-01-01 was a Thursday."""


@dataclass(frozen=True)
class Moments:
    """What is known of one asset at n moments, beside its closed bars; arrays (n,), NaN for unknown.

    Attributes:
        at: int64, seconds since 1970.
        price: the mid.
        spreads: (ask - bid) / mid, fractions.
        book_imbalance, trade_imbalance: -1 to 1.
    """

    at: NDArray[np.int64]
    price: Floats
    spreads: Floats
    book_imbalance: Floats
    trade_imbalance: Floats

    def take(self, rows: NDArray[np.intp]) -> Moments:
        """The moments at these positions."""
        return Moments(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class KnownBars:
    """Indicators as of the last bar that had ended by each of n moments.

    Attributes:
        values: by name, at the end of every bar, (m,).
        last: index of that bar, (n,); -1 before the first.
    """

    values: Mapping[str, Floats]
    last: NDArray[np.intp]

    @classmethod
    def of(cls, bars: Bars, at: NDArray[np.int64]) -> KnownBars:
        """What `bars` say at these seconds."""
        return cls(indicators(bars), np.searchsorted(bars.ends, at, side="right") - 1)

    def __getitem__(self, name: str) -> Floats:
        """One indicator, (n,), NaN before the first bar."""
        return np.where(self.last >= 0, self.values[name][np.maximum(self.last, 0)], np.nan)

    def take(self, rows: NDArray[np.intp]) -> KnownBars:
        """The moments at these positions."""
        return KnownBars(self.values, self.last[rows])


def feature_rows(moments: Moments, known: KnownBars, context: Mapping[str, Floats]) -> NDArray[np.float32]:
    """Feature vectors, float32 (n, F), not aligned; what neither `moments` nor `context` knows is NaN."""
    values = {**_from_bars(moments, known), **_from_book(moments), **_from_clock(moments.at), **context}
    rows = np.full((len(moments.at), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    for column, name in enumerate(FEATURE_NAMES):
        if name in values:
            rows[:, column] = values[name]
    return rows


def strategy_context(at: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Floats]:
    """What a strategy knows of itself: slow waves that mean nothing, of the kind that overlapping labels are fitted to.

    `at` rises; the waves are drawn by the minute, with memories from half an hour to six.
    """
    minutes = (at - at[0]) // 60 if len(at) else at

    def wave(memory_minutes: float) -> Floats:
        shocks = rng.standard_normal(int(minutes[-1]) + 1 if len(minutes) else 1)
        return autoregression(shocks, math.exp(-1.0 / memory_minutes))[minutes]

    share, profit, balance = 0.4 * wave(60.0), 0.004 * wave(30.0), np.round(wave(30.0))
    return {
        "log_volume_24h": 16.0 + 0.3 * wave(360.0),
        "position_share": share,
        "position_size": np.abs(share),
        "position_return": profit,
        "price_since_entry": profit * np.sign(share),
        "log_position_age": 6.0 + wave(60.0),
        "open_order_balance": balance,
        "open_orders": np.abs(balance) + np.round(np.abs(wave(30.0))),
        "recent_slippage_percent": 0.01 * wave(120.0),
        "recent_fee_percent": 0.055 + 0.001 * wave(120.0),
        "recent_fill_ratio": 1.0 - 0.02 * np.abs(wave(120.0)),
        "recent_win_rate": 0.5 + 0.1 * wave(120.0),
    }


def _from_bars(moments: Moments, known: KnownBars) -> dict[str, Floats]:
    volatility = known["realised_volatility"]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = {
            f"return_{span}m_in_volatility": known[f"return_{span}m"] / (volatility * math.sqrt(span)) for span in SPANS
        }
        own = {
            "price_move": moments.price / known["last_close"] - 1.0,
            "range_over_volatility": known["atr_14"] / volatility,
        }
    return {**{name: known[name] for name in known.values}, **scaled, **own}


def _from_book(moments: Moments) -> dict[str, Floats]:
    percent = 100.0 * moments.spreads
    return {
        "price_to_mid": np.zeros_like(percent),
        "trade_imbalance": moments.trade_imbalance,
        "book_imbalance": moments.book_imbalance,
        "microprice_offset": moments.book_imbalance * percent / 2.0,
        "spread_percent": percent,
    }


def _from_clock(at: NDArray[np.int64]) -> dict[str, Floats]:
    day = 2.0 * np.pi * (at % _DAY) / _DAY
    week = 2.0 * np.pi * ((at - _FIRST_MONDAY) % _WEEK) / _WEEK
    return {
        "time_of_day_sin": np.sin(day),
        "time_of_day_cos": np.cos(day),
        "day_of_week_sin": np.sin(week),
        "day_of_week_cos": np.cos(week),
    }
