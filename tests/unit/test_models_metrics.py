"""Metrics against scikit-learn and hand-computed values, and the coverage of the block interval."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st

from model_service.models import metrics
from model_service.models.intervals import block_ratio


@given(seed=st.integers(0, 10_000), rows=st.integers(2, 300), decimals=st.integers(1, 6))
def test_classification_agrees_with_scikit_learn(seed: int, rows: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    probability = np.clip(np.round(rng.random(rows), decimals), 0.001, 0.999)
    labels = (rng.random(rows) < probability).astype(np.int8)
    labels[:2] = 0, 1
    predicted = (probability >= 0.5).astype(np.int8)
    assert metrics.accuracy(labels, predicted) == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert metrics.recall(labels, predicted) == pytest.approx(oracle.recall_score(labels, predicted))
    assert metrics.f1_score(labels, predicted) == pytest.approx(oracle.f1_score(labels, predicted))
    assert metrics.roc_auc(labels, probability) == pytest.approx(oracle.roc_auc_score(labels, probability))
    assert metrics.brier(labels, probability) == pytest.approx(oracle.brier_score_loss(labels, probability))
    assert metrics.log_loss(labels, probability) == pytest.approx(oracle.log_loss(labels, probability))
    if predicted.any():
        assert metrics.precision(labels, predicted) == pytest.approx(oracle.precision_score(labels, predicted))


def test_ece_is_the_weighted_gap_of_equal_bins() -> None:
    probability = np.array([0.1, 0.1, 0.6, 0.6])
    assert metrics.ece(np.array([0, 1, 1, 1]), probability, bins=2) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_a_calibrated_model_shows_about_the_floor() -> None:
    rng = np.random.default_rng(5)
    seen = []
    for _ in range(300):
        probability = rng.uniform(0.2, 0.9, 400)
        seen.append(metrics.ece((rng.random(400) < probability).astype(int), probability))
    assert np.mean(seen) == pytest.approx(metrics.ece_floor(probability), rel=0.1)
    assert np.quantile(seen, 0.95) == pytest.approx(1.32 * metrics.ece_floor(probability), rel=0.1)


def test_trading_metrics_by_hand() -> None:
    returns = np.array([0.02, -0.01, -0.02, 0.03])
    assert metrics.average_return(returns) == pytest.approx(0.005)
    assert metrics.win_rate(returns) == 0.5
    assert metrics.profit_factor(returns) == pytest.approx(0.05 / 0.03)
    assert metrics.max_drawdown(returns) == pytest.approx(0.03)
    assert metrics.sharpe_ratio(returns) == pytest.approx(0.005 / np.std(returns, ddof=1))


def test_what_is_not_defined_is_not_a_number() -> None:
    nothing = np.array([])
    assert math.isnan(metrics.average_return(nothing))
    assert math.isnan(metrics.max_drawdown(nothing))
    assert math.isnan(metrics.roc_auc(np.ones(3), np.ones(3)))
    assert math.isnan(metrics.sharpe_ratio(np.ones(3)))
    assert metrics.profit_factor(np.ones(3)) == math.inf


def test_deflation_lowers_the_sharpe_ratio_with_the_trials() -> None:
    returns = np.random.default_rng(1).normal(0.1, 1.0, 500)
    one, ten, hundred = (metrics.deflated_sharpe_ratio(returns, trials) for trials in (1, 10, 100))
    assert one > ten > hundred
    assert metrics.expected_maximum_of_normals(100) == pytest.approx(2.53, abs=0.01)


def test_trades_that_overlap_count_as_fewer() -> None:
    returns = np.random.default_rng(2).normal(0.1, 1.0, 400)
    alone = float(np.std(returns, ddof=1)) / 20
    assert metrics.independent_trades(returns, alone) == pytest.approx(400)
    assert metrics.independent_trades(returns, 0.5 * alone) == 400, "never more than there are"
    assert metrics.independent_trades(returns, 4 * alone) == pytest.approx(25)
    assert math.isnan(metrics.independent_trades(returns, math.nan))
    assert math.isnan(metrics.independent_trades(returns[:1], 0.1))
    few, all_of_them = (metrics.deflated_sharpe_ratio(returns, 1, count) for count in (25.0, 400.0))
    assert all_of_them == metrics.deflated_sharpe_ratio(returns, 1)
    # By the formula only the root of the number of trades less one tells them apart.
    quantile = NormalDist().inv_cdf
    assert quantile(few) / quantile(all_of_them) == pytest.approx(math.sqrt(24 / 399))
    assert math.isnan(metrics.deflated_sharpe_ratio(returns, 1, 1.0))


def test_the_published_example_of_a_deflated_sharpe_ratio() -> None:
    """Bailey & Lopez de Prado 2014: 100 trials whose annual ratios vary by 1/2, the best 2.5 over 1,250 days; 0.90."""
    highest = math.sqrt(0.5 / 250) * metrics.expected_maximum_of_normals(100)
    assert highest == pytest.approx(0.1132, abs=5e-4)
    deflated = metrics.probabilistic_sharpe_ratio(2.5 / math.sqrt(250), highest, 1250, -3.0, 10.0)
    assert deflated == pytest.approx(0.9004, abs=5e-4)


def test_block_ratio_by_hand() -> None:
    estimate = block_ratio(np.arange(10.0))
    assert estimate.value == 4.5
    assert estimate.standard_error == pytest.approx(float(np.std(np.arange(10.0), ddof=1)) / math.sqrt(10))
    assert estimate.lower(0.95) == pytest.approx(4.5 - 1.8331129 * estimate.standard_error)


def test_block_ratio_without_a_trade_is_not_a_number() -> None:
    estimate = block_ratio(np.zeros(20), np.zeros(20))
    assert math.isnan(estimate.value)
    assert not estimate.lower(0.99) > 0


def test_lower_bound_covers_overlapping_returns() -> None:
    rng = np.random.default_rng(11)
    kernel = np.ones(10) / 10
    covered = [block_ratio(np.convolve(rng.standard_normal(409), kernel, "valid")).lower(0.95) < 0 for _ in range(600)]
    assert 0.90 <= np.mean(covered) <= 0.98
