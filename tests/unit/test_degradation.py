"""The detectors of a model that is no longer what its test said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_service.models.degradation import (
    CUSUM_THRESHOLD,
    Reference,
    WinRateCusum,
    cusum_of,
    readings,
    reference_of,
)
from model_service.models.intervals import Estimate
from model_service.models.live_window import LiveWindow
from model_service.models.metrics import ece

HOUR = 3_600_000_000
PROMISED = Reference(win_rate=0.85, no_edge=0.45, log_loss=0.42, log_loss_upper=0.50)


def test_the_cumulative_sum_by_hand() -> None:
    cusum = WinRateCusum(0.85, 0.65, HOUR)
    loss, win = math.log(0.35 / 0.15), math.log(0.65 / 0.85)
    assert cusum.add("A", 0, won=True) == 0.0, "it does not fall below 0"
    assert cusum.add("A", 10 * HOUR, won=False) == pytest.approx(loss)
    assert cusum.add("A", 20 * HOUR, won=True) == pytest.approx(loss + win)


def test_outcomes_that_overlap_on_an_asset_count_less() -> None:
    apart, together, other = (WinRateCusum(0.85, 0.65, HOUR) for _ in range(3))
    for index in range(4):
        apart.add("A", index * HOUR, won=False)
        together.add("A", index * HOUR // 10, won=False)
        other.add(f"asset {index}", index * HOUR // 10, won=False)
    loss = math.log(0.35 / 0.15)
    assert apart.value == pytest.approx(4 * loss)
    assert together.value == pytest.approx(loss * sum(1 / math.sqrt(count) for count in (1, 2, 3, 4)))
    assert other.value == pytest.approx(4 * loss), "another asset is another witness"


def test_the_same_outcomes_give_the_same_sum_after_a_restart() -> None:
    rng = np.random.default_rng(3)
    rows = [("AB"[int(rng.integers(2))], int(index * HOUR // 20), bool(rng.random() < 0.6)) for index in range(300)]
    whole, first = cusum_of(PROMISED, HOUR), cusum_of(PROMISED, HOUR)
    assert whole is not None
    assert first is not None
    values = [whole.add(asset, at, won=won) for asset, at, won in rows]
    assert [first.add(asset, at, won=won) for asset, at, won in rows] == values


@pytest.mark.parametrize(("expected", "fallen"), [(0.6, 0.6), (0.5, 0.7), (0.5, 0.0)])
def test_a_fall_that_is_none_is_refused(expected: float, fallen: float) -> None:
    with pytest.raises(ValueError, match="fallen"):
        WinRateCusum(expected, fallen, HOUR)


def test_a_test_without_an_edge_leaves_nothing_to_lose() -> None:
    assert cusum_of(Reference(win_rate=0.45, no_edge=0.44), HOUR) is None
    assert cusum_of(Reference(win_rate=0.9), HOUR) is None
    assert cusum_of(Reference(win_rate=1.0, no_edge=0.5), HOUR) is not None, "a perfect test is no division by zero"


def test_the_reference_prefers_trades_that_the_model_would_take() -> None:
    test = {
        "accuracy_at_threshold": (0.8, 0.9), "log_loss": (0.6, 0.7), "log_loss_at_threshold": (0.5, 0.55),
        "base_rate": (0.6, None), "logged_win_rate": (0.43, 0.5),
    }  # fmt: skip
    assert reference_of(test) == Reference(0.8, 0.43, 0.5, 0.55)
    old = {name: test[name] for name in ("accuracy_at_threshold", "log_loss", "base_rate")}
    assert reference_of(old) == Reference(0.8, 1.0 - 0.6, 0.6, 0.7)
    assert reference_of({}) == Reference()


def test_each_detector_fires_on_its_own_number_alone() -> None:
    cusum = cusum_of(PROMISED, HOUR)
    good, bad = Estimate(0.84, 0.02, 20.0), Estimate(0.6, 0.03, 20.0)
    calm, loud = Estimate(0.43, 0.02, 20.0), Estimate(0.7, 0.03, 20.0)

    def fired(accuracy: Estimate, loss: Estimate, *, full: bool = True) -> list[str]:
        return [one.detector for one in readings(PROMISED, cusum, accuracy, loss, full=full) if one.fired]

    assert fired(good, calm) == []
    assert fired(bad, calm) == ["live_accuracy"]
    assert fired(good, loud) == ["log_loss"]
    assert fired(bad, loud, full=False) == [], "a window that is not full says nothing"
    assert fired(Estimate(0.6, math.nan), Estimate(0.7, math.nan)) == [], "nor one without an interval"
    assert cusum is not None
    index = 0
    while cusum.value < CUSUM_THRESHOLD:
        cusum.add("A", index * HOUR, won=False)
        index += 1
    assert fired(good, calm, full=False) == ["win_rate_cusum"]


def test_a_detector_that_says_nothing_says_why() -> None:
    unknown = Estimate(math.nan, math.nan)
    for one in readings(Reference(), None, unknown, unknown, full=True):
        assert one.value is None
        assert not one.fired
        assert one.why


def window(count: int, minutes: float, seed: int = 1) -> LiveWindow:
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.5, 0.9, count)
    labels = (rng.random(count) < probability).astype(np.int8)
    entered = (np.arange(count) * minutes * 60_000_000).astype(np.int64)
    return LiveWindow(entered, labels, probability, np.where(labels == 1, 0.002, -0.002), 15 * 60_000_000)


def test_every_number_of_the_window_has_its_interval() -> None:
    found = {metric.name: metric for metric in window(300, 1.0).metrics()}
    assert set(found) == {
        "accuracy", "brier", "ece", "ece_floor", "log_loss", "average_return", "win_rate",
    }  # fmt: skip
    for name, metric in found.items():
        if name != "ece_floor":
            assert metric.lower is not None
            assert metric.upper is not None
            assert metric.lower < metric.value < metric.upper
            assert metric.level == 0.90
    one = window(300, 1.0)
    assert found["ece"].value == pytest.approx(ece(one.labels, one.probability))


def test_overlapping_outcomes_that_agree_are_not_taken_as_independent() -> None:
    """Twenty outcomes of each quarter of an hour are all alike: 300 rows are worth 15."""
    labels = np.repeat(np.random.default_rng(5).integers(0, 2, 15), 20).astype(np.int8)
    entered = (np.arange(300) * 45_000_000).astype(np.int64)
    alike = LiveWindow(entered, labels, np.full(300, 0.6), np.zeros(300), 15 * 60_000_000)
    independent = math.sqrt(0.25 / 300)
    assert alike.accuracy.standard_error > 3 * independent


def test_a_window_that_spans_too_little_time_has_values_and_no_intervals() -> None:
    found = window(60, 0.5).metrics()
    assert all(metric.lower is None for metric in found)
    assert {"accuracy", "brier"} <= {metric.name for metric in found}


def test_a_certain_probability_is_no_infinite_loss() -> None:
    sure = LiveWindow(
        np.arange(2, dtype=np.int64), np.array([0, 1], np.int8), np.array([1.0, 1.0]), np.zeros(2), 60_000_000
    )
    assert math.isfinite(sure.log_loss.value)
