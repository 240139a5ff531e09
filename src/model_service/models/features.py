"""What a model sees: one declared list of features, in order, and the vector made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model_service.market.snapshot import NAN, MarketSnapshot
from model_service.models.inputs import ModelInputs, Vector

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SECONDS_PER_DAY = 86_400.0
_DAYS_PER_WEEK = 7.0


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What a strategy knows of itself on one asset when it decides; NaN is unknown.

    Attributes:
        position_share: own position over the position limit, signed: above 0 is long.
        position_return: unrealised return of the position, a fraction; above 0 is a profit, long or short.
        position_age_seconds: since the oldest open lot was filled.
        open_buy_orders: number of own open buy orders; `open_sell_orders` likewise.
        recent_slippage_percent: mean of recent fills, percent of the signal's price; above 0 is worse than signalled.
        recent_fee_percent: mean fee of recent fills, percent of their value.
        recent_fill_ratio: share of recent signals that filled, 0 to 1.
        recent_win_rate: share of recent outcomes with a profit, 0 to 1.
    """

    position_share: float = NAN
    position_return: float = NAN
    position_age_seconds: float = NAN
    open_buy_orders: float = NAN
    open_sell_orders: float = NAN
    recent_slippage_percent: float = NAN
    recent_fee_percent: float = NAN
    recent_fill_ratio: float = NAN
    recent_win_rate: float = NAN


Compute = Callable[[MarketSnapshot, DecisionContext], float]


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of a model.

    Attributes:
        directional: centred on 0 and changes its sign when the market is mirrored; so a sell sees it negated.
        compute: the value; NaN where it is unknown.
        own: reads what the strategy knows of itself; else of the market alone, the same for every strategy.
    """

    name: str
    directional: bool
    compute: Compute
    own: bool = False


def feature_vector(snapshot: MarketSnapshot, context: DecisionContext, market: Vector | None = None) -> Vector:
    """The features, shape (F,), unaligned, in the order of `FEATURES`; what is unknown or not finite is NaN.

    Never raises, whatever floats the arguments hold: a value that cannot be computed (a division by zero, the logarithm
    of a negative number) is unknown.

    Args:
        market: `market_features` of the same snapshot, where many strategies look at it; it is not changed.
    """
    values = market_features(snapshot) if market is None else market.copy()
    values[OWN_PLACES] = _computed(OWN_FEATURES, snapshot, context)
    return values


def market_features(snapshot: MarketSnapshot) -> Vector:
    """The features that are the same for every strategy, shape (F,); a strategy's own are NaN."""
    values = np.full(len(FEATURES), np.nan, dtype=np.float32)
    values[MARKET_PLACES] = _computed(MARKET_FEATURES, snapshot, NOTHING_KNOWN)
    return values


def _computed(features: Sequence[Feature], snapshot: MarketSnapshot, context: DecisionContext) -> Vector:
    try:
        computed = [feature.compute(snapshot, context) for feature in features]
    except (ArithmeticError, ValueError):
        computed = [_value_or_nan(feature, snapshot, context) for feature in features]
    # What float32 cannot hold is unknown. Of so few values numpy would need longer.
    known = [value if -_FLOAT32_MAX <= value <= _FLOAT32_MAX else NAN for value in computed]
    return np.array(known, dtype=np.float32)


def align_to_side(features: Vector, side_signs: NDArray[np.generic], out: Vector | None = None) -> Vector:
    """Rows as a model that is trained today takes them; see `ModelInputs.rows`.

    Args:
        features: unaligned, shape (n, F).
        side_signs: +1 for buy, -1 for sell, shape (n,).
        out: where to write them; a new array by default.

    Returns:
        float32, shape (n, F + 1), columns named by `MODEL_INPUT_NAMES`.

    Raises:
        ValueError: a shape does not fit, or a sign is neither +1 nor -1.
    """
    return TODAY.rows(features, side_signs, out)


def encode_features(vector: Vector) -> bytes:
    """The bytes that are stored with a signal: float32, little-endian, in order.

    Raises:
        ValueError: the vector does not have one value per feature.
    """
    if vector.shape != (len(FEATURES),):
        raise ValueError(f"a vector of shape {vector.shape} given; {FEATURE_SET} has shape ({len(FEATURES)},)")
    return vector.astype("<f4").tobytes()


def decode_features(data: bytes) -> Vector:
    """The vector in stored bytes, shape (F,), a copy.

    Raises:
        ValueError: the length is not that of this feature set.
    """
    expected = 4 * len(FEATURES)
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes of features given; {FEATURE_SET} has {expected}: read them by their set")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _value_or_nan(feature: Feature, snapshot: MarketSnapshot, context: DecisionContext) -> float:
    try:
        return feature.compute(snapshot, context)
    except (ArithmeticError, ValueError):
        return NAN


def _indicator(name: str) -> Compute:
    return lambda snapshot, _: snapshot.indicators.get(name, NAN)


def _in_volatility(name: str, minutes: int) -> Compute:
    # A return in units of what a random walk does in that time; the volatility is per bar, which is a constant factor.
    root = math.sqrt(minutes)
    return lambda snapshot, _: _ratio(snapshot.indicators.get(name, NAN), snapshot.volatility * root)


def _price_move(snapshot: MarketSnapshot, _: DecisionContext) -> float:
    return _ratio(snapshot.price, snapshot.indicators.get("last_close", NAN)) - 1.0


def _price_to_mid(snapshot: MarketSnapshot, _: DecisionContext) -> float:
    return _ratio(snapshot.price, (snapshot.bid + snapshot.ask) / 2.0) - 1.0


def _microprice_offset(snapshot: MarketSnapshot, _: DecisionContext) -> float:
    # The size-weighted price lies half a spread times the imbalance from the middle. Gatheral & Oomen 2010.
    return snapshot.book_imbalance * snapshot.spread_percent / 2.0


def _log_volume_24h(snapshot: MarketSnapshot, _: DecisionContext) -> float:
    return math.log(snapshot.volume_24h) if snapshot.volume_24h > 0.0 else NAN


def _range_over_volatility(snapshot: MarketSnapshot, _: DecisionContext) -> float:
    return _ratio(snapshot.indicators.get("atr_14", NAN), snapshot.volatility)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Time of day and of week as points on a circle."""

    day_sin: float
    day_cos: float
    week_sin: float
    week_cos: float


@lru_cache(maxsize=8)
def _clock(at: datetime) -> _Clock:
    # Every strategy and asset of a tick asks for the same moment.
    day = 2.0 * math.pi * (at.hour * 3600 + at.minute * 60 + at.second + at.microsecond * 1e-6) / _SECONDS_PER_DAY
    week = (2.0 * math.pi * at.weekday() + day) / _DAYS_PER_WEEK
    return _Clock(math.sin(day), math.cos(day), math.sin(week), math.cos(week))


def _price_since_entry(_: MarketSnapshot, context: DecisionContext) -> float:
    # The position's profit as a move of the price: a short in profit has seen the price fall.
    share = context.position_share
    return NAN if math.isnan(share) else context.position_return * math.copysign(1.0, share)


def _log_position_age(_: MarketSnapshot, context: DecisionContext) -> float:
    age = context.position_age_seconds
    return math.log1p(age) if age >= 0.0 else NAN


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0.0 else NAN


def _directional(name: str, compute: Compute, *, own: bool = False) -> Feature:
    return Feature(name, True, compute, own)


def _symmetric(name: str, compute: Compute, *, own: bool = False) -> Feature:
    return Feature(name, False, compute, own)


FEATURES: tuple[Feature, ...] = (
    _directional("return_1m", _indicator("return_1m")),
    _directional("return_5m", _indicator("return_5m")),
    _directional("return_15m", _indicator("return_15m")),
    _directional("return_60m", _indicator("return_60m")),
    _directional("return_1m_in_volatility", _in_volatility("return_1m", 1)),
    _directional("return_5m_in_volatility", _in_volatility("return_5m", 5)),
    _directional("return_15m_in_volatility", _in_volatility("return_15m", 15)),
    _directional("return_60m_in_volatility", _in_volatility("return_60m", 60)),
    _directional("price_move", _price_move),
    _directional("price_to_mid", _price_to_mid),
    _symmetric("realised_volatility", _indicator("realised_volatility")),
    _symmetric("atr_14", _indicator("atr_14")),
    _symmetric("range_over_volatility", _range_over_volatility),
    _directional("rsi_14", _indicator("rsi_14")),
    _directional("macd_histogram", _indicator("macd_histogram")),
    _directional("bollinger_b", _indicator("bollinger_b")),
    _directional("ema_9_ratio", _indicator("ema_9_ratio")),
    _directional("ema_21_ratio", _indicator("ema_21_ratio")),
    _directional("vwap_distance", _indicator("vwap_distance")),
    _symmetric("volume_ratio", _indicator("volume_ratio")),
    _symmetric("log_volume_24h", _log_volume_24h),
    _directional("trade_imbalance", lambda snapshot, _: snapshot.trade_imbalance),
    _directional("book_imbalance", lambda snapshot, _: snapshot.book_imbalance),
    _directional("microprice_offset", _microprice_offset),
    _symmetric("spread_percent", lambda snapshot, _: snapshot.spread_percent),
    _symmetric("time_of_day_sin", lambda snapshot, _: _clock(snapshot.at).day_sin),
    _symmetric("time_of_day_cos", lambda snapshot, _: _clock(snapshot.at).day_cos),
    _symmetric("day_of_week_sin", lambda snapshot, _: _clock(snapshot.at).week_sin),
    _symmetric("day_of_week_cos", lambda snapshot, _: _clock(snapshot.at).week_cos),
    _directional("position_share", lambda _, context: context.position_share, own=True),
    _symmetric("position_size", lambda _, context: abs(context.position_share), own=True),
    _symmetric("position_return", lambda _, context: context.position_return, own=True),
    _directional("price_since_entry", _price_since_entry, own=True),
    _symmetric("log_position_age", _log_position_age, own=True),
    _directional("open_order_balance", lambda _, context: context.open_buy_orders - context.open_sell_orders, own=True),
    _symmetric("open_orders", lambda _, context: context.open_buy_orders + context.open_sell_orders, own=True),
    _symmetric("recent_slippage_percent", lambda _, context: context.recent_slippage_percent, own=True),
    _symmetric("recent_fee_percent", lambda _, context: context.recent_fee_percent, own=True),
    _symmetric("recent_fill_ratio", lambda _, context: context.recent_fill_ratio, own=True),
    _symmetric("recent_win_rate", lambda _, context: context.recent_win_rate, own=True),
)
"""The declared list: adding a feature is one entry here, and makes a new feature set (docs/adding-a-feature.md)."""

MARKET_FEATURES = tuple(feature for feature in FEATURES if not feature.own)
OWN_FEATURES = tuple(feature for feature in FEATURES if feature.own)
MARKET_PLACES = np.array([place for place, feature in enumerate(FEATURES) if not feature.own], dtype=np.intp)
OWN_PLACES = np.array([place for place, feature in enumerate(FEATURES) if feature.own], dtype=np.intp)
NOTHING_KNOWN = DecisionContext()

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
DIRECTIONAL_NAMES: frozenset[str] = frozenset(feature.name for feature in FEATURES if feature.directional)
TODAY = ModelInputs(FEATURE_NAMES, DIRECTIONAL_NAMES, FEATURE_NAMES)
"""What a model that is trained now reads."""

MODEL_INPUT_NAMES: tuple[str, ...] = TODAY.names
FEATURE_SET: str = TODAY.feature_set
"""The name of the list, stored with every vector; what other lists held is in the table `feature_sets`."""
