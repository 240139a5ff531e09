"""Lower bounds of a calibration: monotone, under the probability, and under the truth as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model_service.learning.bounds import with_lower_bounds
from model_service.learning.calibrate import fit_calibration
from model_service.models.calibration import Calibration, log_odds, sigmoid

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
Floats = NDArray[np.float64]


def drawn(rows: int, rng: np.random.Generator, overlap: int) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Scores, the true share of wins at each, and labels; `overlap` rows at a time have one score and one outcome."""
    scores = np.repeat(rng.uniform(0.1, 0.9, rows // overlap), overlap)
    truth = sigmoid(1.4 * log_odds(scores) - 0.2)
    wins = np.repeat(rng.random(rows // overlap), overlap) < truth
    return scores, truth, wins.astype(np.int8)


def calibrated(rows: int, seed: int, *, horizon_us: int = MINUTE_US, overlap: int = 1) -> Calibration:
    """A calibration fitted to so many rows, a minute apart, and bounded."""
    scores, _, labels = drawn(rows, np.random.default_rng(seed), overlap)
    known = scores, labels, np.where(labels == 1, 0.01, -0.01)
    decided_us = np.arange(len(scores), dtype=np.int64) * MINUTE_US
    return with_lower_bounds(fit_calibration(*known), *known, decided_us, horizon_us)


def bounds_that_hold(bounded: Calibration, seed: int) -> tuple[int, int]:
    """Of fresh rows in ten parts by probability: in how many of the parts the share of wins is over the bound."""
    scores, truth, _ = drawn(20_000, np.random.default_rng(seed), 1)
    probability = bounded.probability(scores)
    bounds = np.array([bounded.lower_bound_of(float(one)) for one in probability])
    parts = np.array_split(np.argsort(probability), 10)
    return sum(bool(np.mean(bounds[rows]) <= np.mean(truth[rows])) for rows in parts), len(parts)


@pytest.mark.parametrize("rows", [60, 400, 3000])
def test_bounds_rise_and_stay_under_their_probability(rows: int) -> None:
    bounded = calibrated(rows, 1)
    assert len(bounded.bound_probabilities) == min(10, max(1, rows // 50))
    assert np.all(np.diff(bounded.bound_probabilities) > 0)
    assert np.all(np.diff(bounded.lower_bounds) >= 0)
    assert np.all(np.array(bounded.lower_bounds) <= np.array(bounded.bound_probabilities))
    assert Calibration.from_json(bounded.to_json()) == bounded


@pytest.mark.parametrize(("rows", "overlap"), [(300, 1), (2000, 1), (2000, 10)])
def test_bounds_hold_as_often_as_they_promise(rows: int, overlap: int) -> None:
    """One-sided 95 %, over 60 calibrations; outcomes that move together need the blocks of time."""
    held, asked = 0, 0
    for seed in range(60):
        bounded = calibrated(rows, seed, horizon_us=overlap * MINUTE_US, overlap=overlap)
        holds, parts = bounds_that_hold(bounded, 1000 + seed)
        held, asked = held + holds, asked + parts
    assert held / asked > 0.94


def test_more_rows_bring_the_bound_nearer() -> None:
    gaps = []
    for rows in (400, 4000):
        bounded = calibrated(rows, 2)
        gaps.append(np.mean(np.array(bounded.bound_probabilities) - np.array(bounded.lower_bounds)))
    assert gaps[1] < gaps[0] / 2


def test_rows_of_too_short_a_time_give_no_bound_over_nothing() -> None:
    bounded = calibrated(200, 3, horizon_us=HOUR_US)
    assert set(bounded.lower_bounds) == {0.0}


def test_a_constant_has_bounds_too() -> None:
    labels = (np.arange(300) % 3 == 0).astype(np.int8)
    scores, returns = np.full(300, 0.4), np.where(labels == 1, 0.01, -0.01)
    times = np.arange(300, dtype=np.int64) * MINUTE_US
    constant = fit_calibration(scores, labels, returns)
    bounded = with_lower_bounds(constant, scores, labels, returns, times, MINUTE_US)
    assert bounded.method == "constant"
    assert all(0.15 < bound < 1 / 3 for bound in bounded.lower_bounds)
