"""A report made block by block says what a report of all rows says."""

from __future__ import annotations

import numpy as np
import pytest

from model_service.learning.dataset import Outline, dataset_from_rows
from model_service.learning.dataset_report import DatasetSummary, dataset_report
from tests.support.training_rows import HORIZON_SECONDS, imbalance_rows

HORIZON_US = HORIZON_SECONDS * 1_000_000


@pytest.mark.parametrize("rows_per_block", [1, 7, 100, 301])
def test_blocks_of_any_size_give_the_same_report(rows_per_block: int) -> None:
    dataset, _ = dataset_from_rows(imbalance_rows(301, 4, assets=3))
    summary = DatasetSummary()
    for first in range(0, len(dataset), rows_per_block):
        summary.add(dataset.take(np.arange(first, min(first + rows_per_block, len(dataset)))))
    assert summary.report({"no_exit": 2}, HORIZON_US) == dataset_report(dataset, {"no_exit": 2}, HORIZON_US)
    assert summary.fingerprint() == dataset.fingerprint()
    outline = summary.outline()
    for name in ("decided_us", "exit_us", "labels", "asset_codes"):
        assert np.array_equal(getattr(outline, name), getattr(dataset, name)), name
        assert getattr(outline, name).dtype == getattr(dataset, name).dtype, name


def test_no_rows_have_a_report() -> None:
    report = DatasetSummary().report({}, HORIZON_US)
    assert (report["rows"], report["share_unknown_by_feature"], report["average_uniqueness"]) == (0, {}, 0.0)
    assert len(Outline.joined([])) == 0
