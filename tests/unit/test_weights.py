"""How much a row counts: uniqueness by hand and by counting moments, age by half-lives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model_service.learning.dataset import Outline
from model_service.learning.run import prepare
from model_service.learning.weights import average_uniqueness, training_weights
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

HOUR_US = 3_600_000_000


def outline(*intervals: tuple[int, int], assets: tuple[int, ...] | None = None) -> Outline:
    starts, ends = np.array(intervals, dtype=np.int64).T
    codes = np.array(assets or [1] * len(starts), dtype=np.int32)
    return Outline(starts, ends, np.zeros(len(starts), np.int8), codes)


def first(count: int) -> NDArray[np.intp]:
    return np.arange(count)


def test_uniqueness_by_hand() -> None:
    # 0-10 is alone for 4 and shared by two for 6: (4 + 3) / 10; 4-10 is shared throughout; 20-30 is alone.
    assert average_uniqueness(outline((0, 10), (4, 10), (20, 30))) == pytest.approx([0.7, 0.5, 1.0])


def test_assets_do_not_overlap_each_other() -> None:
    assert average_uniqueness(outline((0, 10), (0, 10), assets=(1, 2))) == pytest.approx([1.0, 1.0])


def test_uniqueness_as_it_is_counted_moment_by_moment() -> None:
    """Random intervals of three assets against a count of who covers each unit of time; gaps and ties among them."""
    rng = np.random.default_rng(5)
    starts = np.sort(rng.integers(0, 120, 80))
    rows = Outline(starts, starts + rng.integers(1, 9, 80), np.zeros(80, np.int8), rng.choice([2, 7, 9], 80))
    intervals = list(zip(rows.decided_us.tolist(), rows.exit_us.tolist(), rows.asset_codes.tolist(), strict=True))
    expected = []
    for start, end, asset in intervals:
        rivals = [(first, last) for first, last, other in intervals if other == asset]
        shares = [1 / sum(first <= moment < last for first, last in rivals) for moment in range(start, end)]
        expected.append(sum(shares) / (end - start))
    assert average_uniqueness(rows) == pytest.approx(expected, rel=1e-12)


def test_the_training_block_weighs_one_a_row() -> None:
    rows = outline((0, 10), (4, 10), (20, 30), (40, 50))
    weights = training_weights(rows, average_uniqueness(rows), first(3))
    assert weights[:3].mean() == pytest.approx(1.0)
    assert weights[2] / weights[1] == pytest.approx(2.0)
    assert weights[3] == pytest.approx(weights[2]), "the same uniqueness weighs the same in every block"


def test_a_row_counts_half_with_each_half_life() -> None:
    starts = [hour * HOUR_US for hour in (0, 2, 4, 6, 8)]
    rows = outline(*((start, start + 1) for start in starts))
    weights = training_weights(rows, average_uniqueness(rows), first(4), recency_half_life_hours=2.0)
    assert weights / weights[3] == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1, 1]), "after the training block none has age"
    assert weights[:4].mean() == pytest.approx(1.0)


def test_a_half_life_that_is_far_too_short_leaves_a_weight() -> None:
    starts = [hour * HOUR_US for hour in range(0, 10_000, 1000)]
    rows = outline(*((start, start + 1) for start in starts))
    weights = training_weights(rows, average_uniqueness(rows), first(8), 1e-6)
    assert np.all(weights > 0)
    assert np.isfinite(weights).all()
    assert weights[:8].mean() == pytest.approx(1.0)


def test_the_half_life_is_a_setting_of_the_strategy() -> None:
    rows = imbalance_rows(1500, 1)
    plain, aged = (
        prepare(training_job(strategy=training_strategy(training={"recency_half_life_hours": hours})), rows, {}).plan
        for hours in (None, 0.5)
    )
    train = plain.split.train
    age_hours = (rows["decided_us"][train[-1]] - rows["decided_us"][train]) / HOUR_US
    ratio = (aged.weights / plain.weights)[train]
    assert ratio / ratio[-1] == pytest.approx(0.5 ** (age_hours / 0.5), rel=1e-5)
