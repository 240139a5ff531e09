"""Bins that are those of the ece, with intervals that hold also when outcomes overlap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from model_service.learning.calibrate import fit_calibration
from model_service.learning.reliability import bins, reliability, wilson
from model_service.models import metrics

HORIZON_US = 600_000_000
MINUTE_US = 60_000_000


def minutes(rows: int) -> np.ndarray:
    return MINUTE_US * np.arange(rows)


def calibrated(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.2, 0.8, rows)
    return (rng.random(rows) < probability).astype(np.int8), probability


def test_the_bins_are_those_of_the_ece() -> None:
    labels, probability = calibrated(1003, 1)
    found = bins(labels, probability, minutes(1003), HORIZON_US)
    assert sum(part["rows"] for part in found) == 1003
    assert {part["rows"] for part in found} == {66, 67}
    gaps = sum(part["rows"] * abs(part["mean_probability"] - part["share_of_wins"]) for part in found) / 1003
    assert gaps == pytest.approx(metrics.ece(labels, probability), abs=1e-5)
    edges = [(part["lowest_probability"], part["highest_probability"]) for part in found]
    assert edges == sorted(edges)


@pytest.mark.parametrize(("wins", "rows"), [(0, 10), (3, 10), (10, 10), (81, 263)])
def test_the_score_interval_is_scipys(wins: int, rows: int) -> None:
    expected = binomtest(wins, rows).proportion_ci(0.95, method="wilson")
    assert wilson(wins / rows, rows, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_few_rows_and_one_class_have_bins_too() -> None:
    found = bins(np.ones(4, dtype=np.int8), np.full(4, 0.7), minutes(4), HORIZON_US)
    assert len(found) == 4
    assert all(part["lower"] < 0.7 and part["upper"] == 1.0 for part in found)
    assert bins(np.array([], dtype=np.int8), np.array([]), minutes(0), HORIZON_US) == []


def overlapping(seed: int, together: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated rows in which the neighbours of one horizon share a fate, as labels over one stretch of a path do."""
    rng = np.random.default_rng(seed)
    probability = np.repeat(rng.uniform(0.2, 0.8, 300), together)
    return np.repeat(rng.random(300), together) < probability, probability


def test_intervals_hold_where_outcomes_overlap() -> None:
    """Rows that share a fate make a share of wins far less certain than as many independent ones."""
    inside = alone = total = 0
    for seed in range(150):
        labels, probability = overlapping(seed)
        for part in bins(labels, probability, minutes(3000), HORIZON_US, 5):
            mean, share = part["mean_probability"], part["share_of_wins"]
            low, high = wilson(share, int(part["rows"]), 0.90)
            inside += part["lower"] <= mean <= part["upper"]
            alone += low <= mean <= high
            total += 1
    assert inside / total > 0.84
    assert alone / total < 0.50


def test_the_report_is_plain_and_says_how_the_map_was_made() -> None:
    labels, scores = calibrated(600, 2)
    returns = np.where(labels == 1, 0.002, -0.001)
    calibration = fit_calibration(scores, labels, returns)
    report = reliability(calibration, labels, calibration.probability(scores), minutes(600), HORIZON_US)
    assert (report["method"], report["rows"], report["rows_test"]) == ("sigmoid", 600, 600)
    assert report["break_even"] == pytest.approx(1 / 3, abs=1e-6)
    assert len(report["bins"]) == 15
    json.dumps(report, allow_nan=False)
