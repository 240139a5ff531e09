"""Errors of numbers over overlapping outcomes: against scipy, by hand, and by all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from model_service.models import metrics
from model_service.models.intervals import Floats, TimeBlocks, student_t_quantile, without_pauses


@pytest.mark.parametrize("degrees", [3.0, 3.7, 5.5, 9.0, 20.0, 150.0, 4000.0])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.995])
def test_quantiles_of_student_agree_with_scipy(confidence: float, degrees: float) -> None:
    assert student_t_quantile(confidence, degrees) == pytest.approx(float(stats.t.ppf(confidence, degrees)), rel=1e-5)


def test_a_quantile_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="confidence 0"):
        student_t_quantile(0.4, 9)


def by_all_pairs(influences: Floats, times: Floats, window: float) -> tuple[float, float]:
    """The variances by Bartlett's and by flat weights."""
    span = times[-1] - times[0]
    share = window / span
    apart = np.abs(times[:, None] - times[None]) / window
    narrow, wide = np.maximum(0.0, 1.0 - apart), np.maximum(0.0, 1.0 - 2.0 * apart)
    bartlett = float(influences @ narrow @ influences) / (1 - share + share**2 / 3)
    flat = float(influences @ (2 * narrow - wide) @ influences) / (1 - 1.5 * share + 7 / 12 * share**2)
    return bartlett, flat


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("horizon", [4_000, 60_000, 120_000])
def test_the_wider_of_two_weights_on_all_pairs_counts(seed: int, horizon: int) -> None:
    rng = np.random.default_rng(seed)
    times = 3_333 * np.arange(300) + rng.integers(0, 3_000, 300)
    values = np.convolve(rng.standard_normal(300), np.ones(5), "same")
    influences = (values - np.mean(values)) / 300
    window = max(2 * horizon, (times[-1] - times[0]) / 12)
    found = TimeBlocks(times, horizon).ratio(values)
    assert found.value == pytest.approx(float(np.mean(values)))
    expected = max(by_all_pairs(influences, times.astype(np.float64), window))
    assert found.standard_error**2 == pytest.approx(expected, rel=1e-3)
    assert found.degrees == pytest.approx(0.75 * (times[-1] - times[0]) / window, rel=1e-3)


def test_a_ratio_is_judged_by_what_its_rows_leave_of_it() -> None:
    rng = np.random.default_rng(3)
    times, taken = np.arange(500) * 1_000, rng.random(500) < 0.4
    returns = rng.standard_normal(500)
    blocks = TimeBlocks(times, 2_000)
    mean = float(np.mean(returns[taken]))
    of_rows = blocks.estimate(mean, taken * (returns - mean) / np.sum(taken))
    found = blocks.ratio(returns * taken, taken)
    assert (found.value, found.standard_error) == pytest.approx((mean, of_rows.standard_error))


def test_rows_far_apart_are_independent() -> None:
    rng = np.random.default_rng(4)
    found = [TimeBlocks(1_000_000 * np.arange(2_000), 100).ratio(rng.standard_normal(2_000)) for _ in range(200)]
    assert np.mean([one.standard_error for one in found]) == pytest.approx(1 / np.sqrt(2_000), rel=0.2)
    assert np.mean([one.standard_error for one in found]) > 1 / np.sqrt(2_000)


def test_copies_of_a_row_at_one_moment_say_nothing_more() -> None:
    values = np.random.default_rng(1).standard_normal(100)
    once = TimeBlocks(1_000_000 * np.arange(100), 1_000).ratio(values)
    thrice = TimeBlocks(1_000_000 * np.repeat(np.arange(100), 3), 1_000).ratio(np.repeat(values, 3))
    assert thrice.standard_error == pytest.approx(once.standard_error)


@pytest.mark.parametrize(("rows", "horizon"), [(100, 20), (9, 1), (1, 1), (0, 1)])
def test_too_short_a_time_or_too_few_rows_have_no_error(rows: int, horizon: int) -> None:
    found = TimeBlocks(np.arange(rows), horizon).estimate(1.0, np.zeros(rows))
    assert found.value == 1.0
    assert np.isnan(found.standard_error)


MINUTE = 60_000_000
LAYOUTS = {
    "two stretches": [(0, 200), (21 * 1440, 200)],
    "a weekend": [(0, 300), (4000, 180)],
    "one row after three weeks": [(0, 399), (21 * 1440, 1)],
    "three rows, far apart, at the end": [(0, 397), (1440, 1), (2880, 1), (21 * 1440, 1)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pause_makes_nothing_surer(layout: str) -> None:
    """Independent rows with a pause of days between them: a third of the two-sided intervals covered, once."""
    minutes = np.concatenate([first + np.arange(count) for first, count in LAYOUTS[layout]])
    rng = np.random.default_rng(5)
    blocks = TimeBlocks(minutes * MINUTE, 15 * MINUTE)
    found = [blocks.ratio(rng.standard_normal(len(minutes))) for _ in range(1_000)]
    assert 0.86 <= np.mean([one.lower(0.95) <= 0 <= one.upper(0.95) for one in found]) <= 0.95
    assert np.mean([one.lower(0.99) <= 0 for one in found]) >= 0.98


def test_without_a_pause_times_are_what_they_are() -> None:
    times = 7 + 13 * np.arange(50)
    assert without_pauses(times, 7).tolist() == (times - 7).tolist()
    assert without_pauses(np.array([], dtype=np.int64), 7).tolist() == []


def test_nothing_taken_is_no_number() -> None:
    found = TimeBlocks(np.arange(100), 2).ratio(np.zeros(100), np.zeros(100))
    assert np.isnan(found.value)
    assert not found.lower(0.99) > 0


def test_influences_on_the_area_give_delongs_variance() -> None:
    """Sums by definition over all pairs, and what leaving a row out does to the area."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(labels * 0.7, 1.0), 1)  # with ties
    wins, losses = scores[labels == 1], scores[labels == 0]
    area = metrics.roc_auc(labels, scores)
    assert area == pytest.approx(roc_auc_score(labels, scores))
    better = (wins[:, None] > losses) + 0.5 * (wins[:, None] == losses)
    delong = float(np.var(np.mean(better, axis=1))) / len(wins) + float(np.var(np.mean(better, axis=0))) / len(losses)
    influences = metrics.roc_auc_influences(labels, scores)
    assert float(np.sum(influences)) == pytest.approx(0.0, abs=1e-12)
    assert float(np.sum(influences**2)) == pytest.approx(delong)
    without = np.array([metrics.roc_auc(np.delete(labels, row), np.delete(scores, row)) for row in range(200)])
    assert np.corrcoef(influences, area - without)[0, 1] > 0.999
