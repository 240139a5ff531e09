"""Indicators: published and hand-computed numbers, streaming against batch, warm-up and gaps."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.market.batch_indicators import batch_indicators
from model_service.market.indicators import INDICATORS, IndicatorSet
from model_service.market.snapshot import Bar

START = datetime(2026, 1, 5, tzinfo=UTC)

WILDER_CLOSES = [44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08, 45.89, 46.03, 45.61, 46.28]
WILDER_CLOSES += [46.28, 46.00, 46.03, 46.41, 46.22, 45.64]
"""Closes of a widely published worked example of RSI-14; its values are rounded to two digits."""


def bar(minute: int, close: float, high: float | None = None, low: float | None = None, volume: float = 1.0) -> Bar:
    start = START + timedelta(minutes=minute)
    high, low = close if high is None else high, close if low is None else low
    return Bar(start, start + timedelta(minutes=1), close, high, low, close, volume)


def stream(bars: list[Bar], name: str) -> list[float]:
    indicators = IndicatorSet()
    return [indicators.update(bar)[name] for bar in bars]


def of_closes(closes: list[float], name: str) -> list[float]:
    return stream([bar(minute, close) for minute, close in enumerate(closes)], name)


@st.composite
def bar_series(draw: st.DrawFn) -> list[Bar]:
    """Up to 120 one-minute bars with gaps, flat stretches, ranges and empty volumes."""
    step = st.tuples(st.sampled_from([1, 1, 1, 1, 2, 7]), st.integers(-300, 300), st.integers(0, 50), st.integers(0, 9))
    minute, cents, bars = 0, draw(st.sampled_from([500, 10_000, 9_700_000])), []
    for skip, move, reach, volume in draw(st.lists(step, max_size=120)):
        minute, cents = minute + skip, max(cents + move * draw(st.sampled_from([0, 1, 1])), 100)
        bars.append(bar(minute, cents / 100, (cents + reach) / 100, (cents - reach) / 100, float(volume)))
    return bars


@settings(max_examples=60, deadline=None)
@given(bar_series())
def test_streaming_equals_batch(bars: list[Bar]) -> None:
    batch = batch_indicators(bars)
    assert list(batch) == list(INDICATORS)
    for name, expected in batch.items():
        np.testing.assert_allclose(stream(bars, name), expected, rtol=1e-9, atol=1e-9, err_msg=name)


def test_streaming_equals_batch_on_a_long_flat_then_moving_market() -> None:
    closes = [100.0 + 0.1 * (minute % 3) * (minute > 300) for minute in range(600)]
    bars = [bar(minute, close) for minute, close in enumerate(closes)]
    for name, expected in batch_indicators(bars).items():
        np.testing.assert_allclose(stream(bars, name), expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("name", "bars_needed"),
    [
        ("last_close", 1),
        ("return_1m", 2),
        ("return_5m", 6),
        ("return_15m", 16),
        ("return_60m", 61),
        ("realised_volatility", 21),
        ("rsi_14", 15),
        ("macd_histogram", 34),
        ("atr_14", 15),
        ("bollinger_b", 20),
        ("ema_9_ratio", 9),
        ("ema_21_ratio", 21),
        ("vwap_distance", 60),
        ("volume_ratio", 60),
    ],
)
def test_unknown_until_warmed_up_and_known_ever_after(name: str, bars_needed: int) -> None:
    values = of_closes([100.0 + minute % 7 for minute in range(100)], name)
    assert [math.isfinite(value) for value in values] == [count >= bars_needed for count in range(1, 101)]


def test_rsi_as_published() -> None:
    values = of_closes(WILDER_CLOSES, "rsi_14")
    assert [round(value + 50.0, 2) for value in values[14:]] == [70.46, 66.25, 66.48, 69.35, 66.29, 57.92]


def test_rsi_is_at_its_ends_and_in_its_middle() -> None:
    assert of_closes([100.0 + minute for minute in range(20)], "rsi_14")[-1] == 50.0
    assert of_closes([100.0 - minute for minute in range(20)], "rsi_14")[-1] == -50.0
    assert of_closes([100.0] * 20, "rsi_14")[-1] == 0.0


def test_return_by_hand() -> None:
    values = of_closes([100.0, 101.0, 102.0, 103.0, 104.0, 110.0], "return_5m")
    assert values[-1] == pytest.approx(0.10)


def test_return_looks_at_the_clock_and_not_at_the_number_of_bars() -> None:
    bars = [bar(0, 100.0), bar(1, 101.0), bar(2, 102.0), bar(6, 106.0), bar(7, 107.0), bar(8, 108.0)]
    assert stream(bars, "return_5m")[3:] == pytest.approx([106 / 101 - 1, 107 / 102 - 1, math.nan], nan_ok=True)
    assert stream(bars, "return_1m")[3:] == pytest.approx([math.nan, 107 / 106 - 1, 108 / 107 - 1], nan_ok=True)


def test_return_shorter_than_the_bar_is_unknown() -> None:
    ends = [START + timedelta(minutes=5 * index) for index in range(1, 9)]
    bars = [Bar(end - timedelta(minutes=5), end, 1.0, 1.0, 1.0, float(index), 1.0) for index, end in enumerate(ends, 1)]
    assert all(math.isnan(value) for value in stream(bars, "return_1m"))
    assert stream(bars, "return_15m")[-1] == 8.0 / 5.0 - 1.0


def test_volatility_of_a_constant_move_is_that_move() -> None:
    values = of_closes([100.0 * 1.01**minute for minute in range(40)], "realised_volatility")
    assert values[-1] == pytest.approx(math.log(1.01))


def test_volatility_forgets_with_lambda() -> None:
    closes = [100.0] * 30 + [101.0] + [101.0] * 10
    values = of_closes(closes, "realised_volatility")
    weights = sum(0.94**age for age in range(40))
    assert values[-1] == pytest.approx(math.sqrt(0.94**10 * math.log(1.01) ** 2 / weights))


def test_macd_of_a_straight_line_is_its_own_signal() -> None:
    # On a line of slope 1 an EMA lags by (n - 1) / 2 from its first value on: MACD is 12.5 - 5.5 = 7 at once.
    assert of_closes([100.0 + minute for minute in range(60)], "macd_histogram")[-1] == pytest.approx(0.0, abs=1e-12)


def test_macd_histogram_after_a_step_by_hand() -> None:
    values = of_closes([100.0] * 40 + [110.0], "macd_histogram")
    macd = 10.0 * (2 / 13 - 2 / 27)
    assert values[-1] == pytest.approx(macd * (1 - 2 / 10) / 110.0)


def test_atr_takes_the_gap_from_the_close_before() -> None:
    bars = [bar(minute, 100.0, 101.0, 99.0) for minute in range(15)]
    bars.append(bar(15, 110.0, 111.0, 109.0))
    values = stream(bars, "atr_14")
    assert values[14] == pytest.approx(2.0 / 100.0)
    assert values[15] == pytest.approx((2.0 * 13 + 11.0) / 14 / 110.0)


def test_bollinger_by_hand() -> None:
    # Ten closes at 99, nine at 101 and the last at 101: mean 100, deviation 1, so the bands are 98 and 102.
    values = of_closes([99.0] * 10 + [101.0] * 10, "bollinger_b")
    assert values[-1] == pytest.approx((101.0 - 98.0) / 4.0 - 0.5)


def test_bollinger_keeps_its_digits_and_has_a_middle_when_nothing_moves() -> None:
    assert of_closes([0.1] * 25, "bollinger_b")[-1] == 0.0
    tick = of_closes([97_000.0] * 19 + [97_000.01], "bollinger_b")[-1]
    assert tick == pytest.approx((1 - 1 / 20) / (4 * math.sqrt(0.05 * 0.95)), rel=1e-6)


def test_ema_ratio_by_hand() -> None:
    values = of_closes([float(close) for close in range(1, 11)], "ema_9_ratio")
    assert values[8] == pytest.approx(9.0 / 5.0 - 1.0)
    assert values[9] == pytest.approx(10.0 / (5.0 + 0.2 * 5.0) - 1.0)


def test_vwap_and_volume_by_hand() -> None:
    bars = [bar(minute, 100.0, 103.0, 97.0, 1.0) for minute in range(59)] + [bar(59, 110.0, 120.0, 100.0, 61.0)]
    vwap = (59 * 100.0 + 61 * 110.0) / 120.0
    assert stream(bars, "vwap_distance")[-1] == pytest.approx(110.0 / vwap - 1.0)
    assert stream(bars, "volume_ratio")[-1] == pytest.approx(61.0 / 2.0)


def test_no_volume_is_unknown_and_not_zero() -> None:
    bars = [bar(minute, 100.0, volume=0.0) for minute in range(70)]
    assert math.isnan(stream(bars, "vwap_distance")[-1])
    assert math.isnan(stream(bars, "volume_ratio")[-1])


def test_values_given_out_do_not_change_afterwards() -> None:
    indicators = IndicatorSet()
    first = indicators.update(bar(0, 100.0))
    indicators.update(bar(1, 101.0))
    assert first["last_close"] == 100.0
