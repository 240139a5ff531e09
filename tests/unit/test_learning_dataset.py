"""Rows to arrays: order, what is dropped, uniqueness by hand, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_service.learning.dataset import (
    Dataset,
    Outline,
    average_uniqueness,
    dataset_from_rows,
    evaluation_span_us,
    refuse_if_insufficient,
    training_weights,
)
from model_service.learning.dataset_report import dataset_report
from model_service.learning.refusal import Refused
from model_service.learning.run import prepare
from model_service.models.features import FEATURE_NAMES
from tests.support.training_rows import HORIZON_SECONDS, STEP_US, blank_rows, imbalance_rows, training_job

HORIZON_US = HORIZON_SECONDS * 1_000_000


def with_intervals(*intervals: tuple[int, int], assets: tuple[int, ...] | None = None) -> Dataset:
    rows = blank_rows(len(intervals), np.random.default_rng(0))
    rows["decided_us"], rows["exit_us"] = np.array(intervals).T
    rows["asset_code"] = assets or 1
    return dataset_from_rows(rows)[0]


def test_uniqueness_by_hand() -> None:
    # 0-10 is alone for 4 and shared by two for 6: (4 + 3) / 10; 4-10 is shared throughout; 20-30 is alone.
    assert average_uniqueness(with_intervals((0, 10), (4, 10), (20, 30))) == pytest.approx([0.7, 0.5, 1.0])


def test_assets_do_not_overlap_each_other() -> None:
    assert average_uniqueness(with_intervals((0, 10), (0, 10), assets=(1, 2))) == pytest.approx([1.0, 1.0])


def test_weights_have_a_mean_of_one() -> None:
    weights = training_weights(with_intervals((0, 10), (4, 10), (20, 30)))
    assert weights.mean() == pytest.approx(1.0)
    assert weights[2] / weights[1] == pytest.approx(2.0)


def test_rows_come_in_time_order_with_ties_by_identifier() -> None:
    rows = blank_rows(50, np.random.default_rng(1))
    rows["decided_us"][10:13] = rows["decided_us"][10]
    ordered, _ = dataset_from_rows(rows)
    shuffled, _ = dataset_from_rows(rows[np.random.default_rng(2).permutation(50)])
    assert shuffled.fingerprint() == ordered.fingerprint()
    assert np.all(np.diff(shuffled.decided_us) >= 0)
    assert [bytes(row) for row in ordered.signal_ids[10:13]] == sorted(bytes(row) for row in rows["signal_id"][10:13])


def test_unusable_rows_are_dropped_and_counted() -> None:
    rows = blank_rows(20, np.random.default_rng(1))
    rows["net_return"][3] = np.nan
    rows["exit_us"][4] = rows["decided_us"][4] - 1
    rows["features"][5, 0] = np.inf
    dataset, dropped = dataset_from_rows(rows)
    assert len(dataset) == 18
    assert dropped == {"net_return_not_finite": 1, "interval_backwards": 1}
    assert not np.isinf(dataset.features).any()


def test_the_fingerprint_sees_a_changed_label() -> None:
    rows = blank_rows(20, np.random.default_rng(1))
    before = dataset_from_rows(rows)[0].fingerprint()
    rows["label"][7] = 1 - rows["label"][7]
    assert dataset_from_rows(rows)[0].fingerprint() != before


def test_report_says_what_a_person_asks() -> None:
    rows = imbalance_rows(600, 1, assets=2)
    rows["features"][:, 2] = np.nan
    dataset, dropped = dataset_from_rows(rows)
    report = dataset_report(dataset, {**dropped, "other_feature_set": 4}, HORIZON_US)
    assert report["rows"] == 600
    assert report["span_horizons"] == pytest.approx(599 * STEP_US / HORIZON_US, abs=0.001)
    assert report["rows_by_asset_code"] == {"1": 300, "2": 300}
    assert report["share_unknown_by_feature"][FEATURE_NAMES[2]] == 1.0
    assert report["dropped"] == {"other_feature_set": 4}
    assert 0 < report["average_uniqueness"] < 0.2


def test_refusals() -> None:
    dataset, _ = dataset_from_rows(imbalance_rows(1200, 1))
    refuse_if_insufficient(dataset, 1000, HORIZON_US, {})
    wins = dataset.take(dataset.labels == 1)
    for code, rows, minimum, horizon in (
        ("too_few_rows", dataset, 1201, HORIZON_US),
        ("one_class", wins, 10, HORIZON_US),
        ("span_too_short", dataset, 1000, 2 * HORIZON_US),
    ):
        with pytest.raises(Refused) as refused:
            refuse_if_insufficient(rows, minimum, horizon, {"rows": 1})
        assert refused.value.code == code
        assert refused.value.report == {"rows": 1}


def idle_rows(*decided_us: int) -> Any:
    """Draws of `none` at these moments."""
    numbers = [("probability_buy", "f8"), ("probability_sell", "f8"), ("probability_none", "f8"), ("sample_rate", "f8")]
    kind = np.dtype([("decided_us", "i8"), ("action", "i1"), *numbers, ("features", "f4", (len(FEATURE_NAMES),))])
    rows = np.zeros(len(decided_us), dtype=kind)
    rows["decided_us"], rows["sample_rate"] = decided_us, 0.5
    return rows


def test_draws_without_a_trade_come_in_time_order_and_those_of_the_test_block_are_kept() -> None:
    rows = imbalance_rows(1500, 1)
    prepared = prepare(training_job(), rows, {})
    tested = prepared.dataset.decided_us[prepared.plan.split.test]
    first, last = int(tested[0]), int(tested[-1])
    idle = prepared.held_out(idle_rows(last + 1, last, first, first - 1)).idle
    assert idle.decided_us.tolist() == [first, last]
    assert idle.sample_rates.tolist() == [0.5, 0.5]
    assert len(prepared.held_out(None).idle) == 0


@pytest.mark.parametrize("useless", [0, 300])
def test_the_span_of_evaluation_holds_the_test_block(useless: int) -> None:
    """Also when many of the newest rows turn out to be of no use, which moves the border back."""
    rows = imbalance_rows(2000, 1)
    rows["net_return"][len(rows) - useless :] = np.nan
    prepared = prepare(training_job(), rows, {})
    tested = prepared.dataset.decided_us[prepared.plan.split.test]
    span = evaluation_span_us(rows[::-1])
    assert span is not None
    # The embargo takes one horizon of the block, and no more.
    assert span == (tested[0] - HORIZON_US, tested[-1])
    assert evaluation_span_us(rows[:0]) is None


def test_rows_that_are_in_order_are_not_copied() -> None:
    rows = imbalance_rows(100, 1)
    dataset, _ = dataset_from_rows(rows)
    assert np.shares_memory(dataset.features, rows)
    rows["features"][3, 5] = np.inf
    cleaned = dataset_from_rows(rows)[0].features
    assert np.isnan(cleaned[3, 5])
    assert np.isinf(rows["features"][3, 5]), "the rows belong to the caller"


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
