"""Errors of numbers over overlapping outcomes: against scipy, by hand, and by all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from model_service.models import metrics
from model_service.models.intervals import moving_influence, moving_ratio, student_t_quantile


@pytest.mark.parametrize("degrees", [3.0, 3.7, 5.5, 9.0, 20.0, 150.0, 4000.0])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.995])
def test_quantiles_of_student_agree_with_scipy(confidence: float, degrees: float) -> None:
    assert student_t_quantile(confidence, degrees) == pytest.approx(float(stats.t.ppf(confidence, degrees)), rel=1e-5)


def test_a_quantile_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="confidence 0"):
        student_t_quantile(0.4, 9)


def test_moving_blocks_are_bartlett_weights_on_all_pairs() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 1_000_000, 300))
    values, window = rng.standard_normal(300), 20_000
    values -= np.mean(values)
    weights = np.maximum(0.0, 1.0 - np.abs(times[:, None] - times[None]) / window)
    share = window / (times[-1] - times[0])
    expected = float(values @ weights @ values) / (1 - share + share**2 / 3)
    found = moving_influence(0.0, values, times, window, "")
    assert found.standard_error**2 == pytest.approx(expected)
    assert found.degrees == pytest.approx(1.5 / share)


def test_rows_far_apart_are_independent() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0] * 50)
    found = moving_ratio(values, 1_000_000 * np.arange(200), 1000)
    assert found.value == 0.5
    assert found.standard_error == pytest.approx(float(np.std(values)) / np.sqrt(200), rel=1e-3)


def test_copies_of_a_row_at_one_moment_say_nothing_more() -> None:
    values = np.random.default_rng(1).standard_normal(100)
    once = moving_ratio(values, 1_000_000 * np.arange(100), 1000)
    thrice = moving_ratio(np.repeat(values, 3), 1_000_000 * np.repeat(np.arange(100), 3), 1000)
    assert thrice.standard_error == pytest.approx(once.standard_error)


def test_too_short_a_span_has_no_error() -> None:
    found = moving_ratio(np.ones(10), np.arange(10), 6)
    assert found.value == 1.0
    assert np.isnan(found.standard_error)


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
