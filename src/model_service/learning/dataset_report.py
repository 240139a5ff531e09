"""What a person should know of the rows of a run before believing a model made from them (METHOD 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset, Outline, average_uniqueness
from model_service.models.features import FEATURE_NAMES
from model_service.trades.labels import EXIT_RULE_CODES


class DatasetSummary:
    """A dataset's report and outline, added up block by block, so that no block has to stay in memory.

    The blocks come in time order; cut in any way they give the same as one block of all rows.
    """

    def __init__(self) -> None:
        self._identifiers = hashlib.sha256()
        self._outlines: list[Outline] = []
        self._warmup = self._reductions = 0
        self._by_exit_rule = dict.fromkeys(EXIT_RULE_CODES, 0)
        self._unknown = np.zeros(len(FEATURE_NAMES), dtype=np.int64)

    def add(self, block: Dataset) -> None:
        """Count the next rows in time."""
        self._identifiers.update(np.ascontiguousarray(block.signal_ids).data)
        self._outlines.append(block.outline())
        self._warmup += int(np.sum(block.is_warmup))
        self._reductions += int(np.sum(block.is_reduction))
        for rule, code in EXIT_RULE_CODES.items():
            self._by_exit_rule[rule] += int(np.sum(block.exit_rules == code))
        self._unknown += np.sum(np.isnan(block.features), axis=0)

    def outline(self) -> Outline:
        """The outline of all rows."""
        if len(self._outlines) != 1:
            self._outlines = [Outline.joined(self._outlines)]
        return self._outlines[0]

    def fingerprint(self) -> str:
        """sha256 over ordered signal ids and label bytes, in hex (METHOD 10)."""
        digest = self._identifiers.copy()
        digest.update(np.ascontiguousarray(self.outline().labels).data)
        return digest.hexdigest()

    def report(self, dropped: Mapping[str, int], horizon_us: int) -> dict[str, Any]:
        """Plain numbers for JSON; `dropped` are the rows that were left out, by reason."""
        rows = self.outline()
        count = len(rows)
        spans = [int(rows.decided_us[0]), int(rows.decided_us[-1])] if count else [0, 0]
        return {
            "rows": count,
            "first_decided_us": spans[0],
            "last_decided_us": spans[1],
            "span_horizons": round((spans[1] - spans[0]) / horizon_us, 3),
            "rows_by_asset_code": _counts(rows.asset_codes),
            "rows_by_exit_rule": {rule.value: number for rule, number in self._by_exit_rule.items()},
            "rows_warmup": self._warmup,
            "rows_reduction": self._reductions,
            "share_of_wins": _share(rows.labels),
            "share_unknown_by_feature": self._unknown_shares(count),
            "average_uniqueness": _share(average_uniqueness(rows)),
            "dropped": {name: number for name, number in dropped.items() if number},
            "fingerprint": self.fingerprint(),
        }

    def _unknown_shares(self, count: int) -> dict[str, float]:
        pairs = zip(FEATURE_NAMES, self._unknown.tolist(), strict=True)
        return {name: round(number / count, 6) for name, number in pairs if number}


def dataset_report(dataset: Dataset, dropped: Mapping[str, int], horizon_us: int) -> dict[str, Any]:
    """The report of rows that are all in memory."""
    summary = DatasetSummary()
    summary.add(dataset)
    return summary.report(dropped, horizon_us)


def _counts(codes: NDArray[Any]) -> dict[str, int]:
    values, counts = np.unique(codes, return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)}


def _share(values: NDArray[Any]) -> float:
    return round(float(np.mean(values)), 6) if values.size else 0.0
