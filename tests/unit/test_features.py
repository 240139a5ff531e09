"""The feature list: order, direction, unknown values, bytes."""

from __future__ import annotations

import dataclasses
import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_service.market.indicators import INDICATORS
from model_service.market.snapshot import MarketSnapshot
from model_service.models.features import (
    DIRECTIONAL_NAMES,
    FEATURE_NAMES,
    FEATURE_SET,
    FEATURES,
    MODEL_INPUT_NAMES,
    DecisionContext,
    align_to_side,
    decode_features,
    encode_features,
    feature_vector,
    market_features,
)
from model_service.models.inputs import Vector, feature_set_name

MONDAY_SIX = datetime(2026, 1, 5, 6, tzinfo=UTC)
WIDTH = len(FEATURES)
DIRECTIONAL = np.array([feature.directional for feature in FEATURES])

SNAPSHOT = MarketSnapshot(
    asset="BTCUSDT",
    at=MONDAY_SIX,
    updated_at=MONDAY_SIX,
    price=101.0,
    bid=99.0,
    ask=101.0,
    bid_size=3.0,
    ask_size=1.0,
    spread_percent=2.0,
    book_imbalance=0.5,
    trade_imbalance=-0.25,
    volume_24h=math.e,
    volatility=0.01,
    bars=100,
    indicators={**dict.fromkeys(INDICATORS, 0.02), "last_close": 100.0},
)
CONTEXT = DecisionContext(-0.5, 0.1, math.e - 1, 3.0, 1.0, 0.01, 0.055, 0.9, 0.6)
OTHER_CONTEXT = DecisionContext(0.25, -0.2, 9.0, 4.0, 5.0, 0.02, 0.066, 0.8, 0.5)

FIRST_SET = (
    "return_1m", "return_5m", "return_15m", "return_60m", "return_1m_in_volatility", "return_5m_in_volatility",
    "return_15m_in_volatility", "return_60m_in_volatility", "price_move", "price_to_mid", "realised_volatility",
    "atr_14", "range_over_volatility", "rsi_14", "macd_histogram", "bollinger_b", "ema_9_ratio", "ema_21_ratio",
    "vwap_distance", "volume_ratio", "log_volume_24h", "trade_imbalance", "book_imbalance", "microprice_offset",
    "spread_percent", "time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos", "position_share",
    "position_size", "position_return", "price_since_entry", "log_position_age", "open_order_balance", "open_orders",
    "recent_slippage_percent", "recent_fee_percent", "recent_fill_ratio", "recent_win_rate",
)  # fmt: skip
"""The features of the first release."""

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
SPECIAL = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324])


def by_name(vector: Vector) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))


def rows(count: int) -> st.SearchStrategy[Vector]:
    return arrays.arrays(np.float32, (count, WIDTH), elements=st.floats(width=32))


def signs(count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from([1, -1]), min_size=count, max_size=count)


def test_names_are_unique_and_the_model_sees_the_side_last() -> None:
    assert len(set(FEATURE_NAMES)) == WIDTH
    assert (*FEATURE_NAMES, "side") == MODEL_INPUT_NAMES


def test_what_was_declared_once_stays_declared() -> None:
    """Add what you like. Without one of these, models that read it are refused; with another meaning, they go wrong."""
    assert len(set(FIRST_SET)) == 40
    assert set(FIRST_SET) <= set(FEATURE_NAMES)
    assert feature_set_name(FIRST_SET, DIRECTIONAL_NAMES) == "f1-55f14eda"


def test_values_by_hand() -> None:
    values = by_name(feature_vector(SNAPSHOT, CONTEXT))
    expected = {
        "return_5m": 0.02,
        "return_5m_in_volatility": 0.02 / (0.01 * math.sqrt(5)),
        "price_move": 0.01,
        "price_to_mid": 0.01,
        "range_over_volatility": 2.0,
        "spread_percent": 2.0,
        "book_imbalance": 0.5,
        "microprice_offset": 0.5,
        "trade_imbalance": -0.25,
        "log_volume_24h": 1.0,
        "time_of_day_sin": 1.0,
        "time_of_day_cos": 0.0,
        "day_of_week_sin": math.sin(2 * math.pi * 0.25 / 7),
        "position_share": -0.5,
        "position_size": 0.5,
        "position_return": 0.1,
        "price_since_entry": -0.1,
        "log_position_age": 1.0,
        "open_order_balance": 2.0,
        "open_orders": 4.0,
        "recent_fee_percent": 0.055,
        "recent_win_rate": 0.6,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_every_indicator_but_the_close_is_a_feature() -> None:
    values = by_name(feature_vector(SNAPSHOT, CONTEXT))
    assert {name for name in INDICATORS if name not in values} == {"last_close"}


def test_the_same_hour_a_week_later_is_the_same() -> None:
    later = dataclasses.replace(SNAPSHOT, at=MONDAY_SIX + timedelta(weeks=1))
    np.testing.assert_array_equal(feature_vector(SNAPSHOT, CONTEXT), feature_vector(later, CONTEXT))


def test_unknown_is_nan_and_never_zero() -> None:
    values = by_name(feature_vector(MarketSnapshot("X", MONDAY_SIX, None), DecisionContext()))
    known = {name for name, value in values.items() if not math.isnan(value)}
    assert known == {"time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos"}


@given(st.data())
def test_any_floats_give_finite_numbers_or_nan(data: st.DataObject) -> None:
    numbers = {field.name: data.draw(ANY_FLOAT | SPECIAL) for field in dataclasses.fields(DecisionContext)}
    names = [field.name for field in dataclasses.fields(MarketSnapshot) if field.type == "float"]
    indicators = {name: data.draw(ANY_FLOAT | SPECIAL) for name in INDICATORS}
    market: dict[str, Any] = {name: data.draw(ANY_FLOAT | SPECIAL) for name in names}
    snapshot = dataclasses.replace(SNAPSHOT, indicators=indicators, **market)
    vector = feature_vector(snapshot, DecisionContext(**numbers))
    assert vector.dtype == np.float32
    assert vector.shape == (WIDTH,)
    assert not np.isinf(vector).any()


def test_what_all_strategies_share_reads_the_market_alone() -> None:
    shared, alone = market_features(SNAPSHOT), feature_vector(SNAPSHOT, CONTEXT)
    before = shared.copy()
    np.testing.assert_array_equal(feature_vector(SNAPSHOT, CONTEXT, shared), alone)
    np.testing.assert_array_equal(shared, before)
    for feature in FEATURES:
        values = {feature.compute(SNAPSHOT, one) for one in (CONTEXT, OTHER_CONTEXT)}
        assert (len(values) > 1) == feature.own, f"{feature.name}: own={feature.own}"


def test_directional_features_change_sign_in_the_mirrored_market() -> None:
    signed = {"rsi_14", "macd_histogram", "bollinger_b", "ema_9_ratio", "ema_21_ratio", "vwap_distance"}
    signed |= {name for name in INDICATORS if name.startswith("return_")}
    mirrored = dataclasses.replace(
        SNAPSHOT,
        price=99.0,
        bid_size=1.0,
        ask_size=3.0,
        book_imbalance=-0.5,
        trade_imbalance=0.25,
        indicators={name: -value if name in signed else value for name, value in SNAPSHOT.indicators.items()},
    )
    context = dataclasses.replace(CONTEXT, position_share=0.5, open_buy_orders=1.0, open_sell_orders=3.0)
    here, there = feature_vector(SNAPSHOT, CONTEXT), feature_vector(mirrored, context)
    np.testing.assert_allclose(there, np.where(DIRECTIONAL, -here, here), rtol=1e-5)
    assert np.all(here[DIRECTIONAL] != 0.0)


@given(rows(3))
def test_the_two_sides_differ_in_the_directional_columns_only(features: Vector) -> None:
    bought, sold = align_to_side(features, np.ones(3)), align_to_side(features, -np.ones(3))
    np.testing.assert_array_equal(bought[:, :-1], features)
    np.testing.assert_array_equal(sold[:, :-1][:, DIRECTIONAL], -features[:, DIRECTIONAL])
    np.testing.assert_array_equal(sold[:, :-1][:, ~DIRECTIONAL], features[:, ~DIRECTIONAL])
    np.testing.assert_array_equal(bought[:, -1], 1.0)
    np.testing.assert_array_equal(sold[:, -1], -1.0)
    assert bought.dtype == sold.dtype == np.float32


@given(rows(4), signs(4))
def test_aligning_twice_is_the_identity(features: Vector, side_signs: list[int]) -> None:
    before = features.copy()
    once = align_to_side(features, np.array(side_signs))
    twice = align_to_side(once[:, :-1], np.array(side_signs))
    np.testing.assert_array_equal(twice[:, :-1], features)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize(
    ("shape", "side_signs"),
    [((2, WIDTH + 1), [1, 1]), ((2, WIDTH), [1]), ((WIDTH,), [1]), ((2, WIDTH), [1, 0]), ((1, WIDTH), [math.nan])],
)
def test_shapes_and_signs_that_do_not_fit_are_refused(shape: tuple[int, ...], side_signs: list[float]) -> None:
    with pytest.raises(ValueError, match=r"shape|sign"):
        align_to_side(np.zeros(shape, np.float32), np.array(side_signs))


@given(rows(1))
def test_bytes_come_back_as_they_were(features: Vector) -> None:
    data = encode_features(features[0])
    np.testing.assert_array_equal(struct.unpack(f"<{WIDTH}f", data), features[0])
    np.testing.assert_array_equal(decode_features(data), features[0])


@pytest.mark.parametrize("length", [0, 4 * WIDTH - 1, 4 * WIDTH + 4])
def test_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=FEATURE_SET):
        decode_features(bytes(length))


def test_a_vector_of_another_length_is_not_written() -> None:
    with pytest.raises(ValueError, match=FEATURE_SET):
        encode_features(np.zeros(WIDTH + 1, np.float32))
