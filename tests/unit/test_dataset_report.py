"""A report made block by block says what a report of all rows says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_service.learning.dataset import Outline, dataset_from_rows
from model_service.learning.dataset_report import DatasetSummary, summary_of
from model_service.models.features import FEATURE_NAMES
from model_service.trades.labels import EXIT_RULE_CODES, ExitRule
from tests.support.training_rows import HORIZON_SECONDS, STEP_US, imbalance_rows

HORIZON_US = HORIZON_SECONDS * 1_000_000


@pytest.mark.parametrize("rows_per_block", [1, 7, 100, 301])
def test_blocks_of_any_size_give_the_same_report(rows_per_block: int) -> None:
    rows = imbalance_rows(301, 4, assets=3)
    rows["features"][:, 0] = np.nan
    rows["features"][:, 1] = 2.5
    rows["features"][:200, 2], rows["features"][200:, 2] = np.nan, -1.0
    rows["features"][:, 3] = 0.0
    rows["features"][300, 3] = 1.0
    dataset, _ = dataset_from_rows(rows)
    summary = DatasetSummary()
    for first in range(0, len(dataset), rows_per_block):
        summary.add(dataset.take(np.arange(first, min(first + rows_per_block, len(dataset)))))
    assert summary.report({"no_exit": 2}, HORIZON_US) == summary_of(dataset).report({"no_exit": 2}, HORIZON_US)
    assert summary.fingerprint() == dataset.fingerprint()
    outline = summary.outline()
    for name in ("decided_us", "exit_us", "labels", "asset_codes"):
        assert np.array_equal(getattr(outline, name), getattr(dataset, name)), name
        assert getattr(outline, name).dtype == getattr(dataset, name).dtype, name


def test_no_rows_have_a_report() -> None:
    report = DatasetSummary().report({}, HORIZON_US)
    assert (report["rows"], report["share_unknown_by_feature"], report["average_uniqueness"]) == (0, {}, 0.0)
    assert len(Outline.joined([])) == 0
    assert (report["gaps"], report["rows_duplicate"], report["features_constant"]) == (0, 0, [])


def report_of(rows: Any) -> dict[str, Any]:
    return summary_of(dataset_from_rows(rows)[0]).report({}, HORIZON_US)


def test_features_that_say_nothing_are_named() -> None:
    rows = imbalance_rows(20_000, 4)
    assert report_of(rows)["features_constant"] == []
    rows["features"][:, 0] = np.nan
    rows["features"][:, 1] = 2.5
    rows["features"][:15_000, 2], rows["features"][15_000:, 2] = np.nan, -1.0
    rows["features"][:, 3] = 0.0
    rows["features"][19_999, 3] = 1.0
    report = report_of(rows)
    assert report["features_unknown_everywhere"] == [FEATURE_NAMES[0]]
    assert report["features_constant"] == [FEATURE_NAMES[1], FEATURE_NAMES[2]]
    assert report["share_unknown_by_feature"][FEATURE_NAMES[2]] == 0.75


def test_gaps_are_counted_and_the_longest_is_told() -> None:
    rows = imbalance_rows(100, 1)
    for first, horizons in ((40, 10), (70, 3), (90, 1)):
        for name in ("decided_us", "exit_us"):
            rows[name][first:] += horizons * HORIZON_US - STEP_US
    report = report_of(rows)
    assert (report["gaps"], report["longest_gap_horizons"]) == (2, 10.0), "one horizon is no gap yet"


def test_duplicates_are_counted_once_each() -> None:
    rows = imbalance_rows(60, 1)
    rows["label"][10:14] = 1
    for name in ("decided_us", "exit_us"):
        rows[name][11:14] = rows[name][10]
    assert report_of(rows)["rows_duplicate"] == 3
    rows["asset_code"][12] = 2
    assert report_of(rows)["rows_duplicate"] == 2
    rows["label"][13] = 0
    assert report_of(rows)["rows_duplicate"] == 1
    rows["exit_us"][11] += 1
    assert report_of(rows)["rows_duplicate"] == 0


def test_every_exit_rule_has_its_share() -> None:
    rows = imbalance_rows(100, 1)
    rows["exit_rule"][:25] = EXIT_RULE_CODES[ExitRule.HORIZON]
    rows["exit_rule"][25:] = EXIT_RULE_CODES[ExitRule.STOP_LOSS]
    shares = report_of(rows)["share_by_exit_rule"]
    assert shares == {"take_profit": 0.0, "stop_loss": 0.75, "horizon": 0.25, "reported": 0.0}
