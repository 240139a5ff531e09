"""Rows to arrays: order, what is dropped, uniqueness by hand, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_service.learning.dataset import (
    dataset_from_rows,
    evaluation_span_us,
    refuse_if_insufficient,
)
from model_service.learning.dataset_report import summary_of
from model_service.learning.refusal import Refused
from model_service.learning.run import prepare
from model_service.models.features import FEATURE_NAMES
from tests.support.training_rows import HORIZON_SECONDS, STEP_US, blank_rows, imbalance_rows, training_job

HORIZON_US = HORIZON_SECONDS * 1_000_000


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
    as_of_us = int(rows["exit_us"][16])
    rows["net_return"][2:4] = np.nan, -np.inf
    rows["net_return"][4:7] = 1e30, -11.0, 9.9
    rows["exit_us"][8:11] = rows["decided_us"][8:11] - (1, 0, -1)
    rows["net_return"][18] = np.nan
    rows["features"][7, 0] = np.inf
    dataset, dropped = dataset_from_rows(rows, as_of_us)
    assert len(dataset) == 11
    assert dropped == {
        "net_return_not_finite": 3, "net_return_implausible": 2, "interval_backwards": 2, "label_in_the_future": 2,
    }  # fmt: skip
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
    report = summary_of(dataset).report({**dropped, "other_feature_set": 4}, HORIZON_US)
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
