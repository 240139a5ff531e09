"""What a person should know of the rows of a run before believing a model made from them (METHOD 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset, Outline
from model_service.learning.weights import average_uniqueness
from model_service.models.features import FEATURE_NAMES
from model_service.models.intervals import without_pauses
from model_service.trades.labels import EXIT_RULE_CODES

_BLOCK_ROWS = 1 << 13
"""So many rows of features stay in the cache while they are looked at."""


class DatasetSummary:
    """A dataset's report and outline, added up block by block, so that no block has to stay in memory.

    The blocks come in time order; cut in any way they give the same as one block of all rows.
    """

    def __init__(self) -> None:
        self._identifiers = hashlib.sha256()
        self._outlines: list[Outline] = []
        self._warmup = self._reductions = 0
        self._by_exit_rule = dict.fromkeys(EXIT_RULE_CODES, 0)
        self._features = _FeatureSummary()
        self._uniqueness: NDArray[np.float64] | None = None

    def add(self, block: Dataset) -> None:
        """Count the next rows in time."""
        self._identifiers.update(np.ascontiguousarray(block.signal_ids).data)
        self._outlines.append(block.outline())
        self._warmup += int(np.sum(block.is_warmup))
        self._reductions += int(np.sum(block.is_reduction))
        for rule, code in EXIT_RULE_CODES.items():
            self._by_exit_rule[rule] += int(np.sum(block.exit_rules == code))
        for start in range(0, len(block), _BLOCK_ROWS):
            self._features.add(block.features[start : start + _BLOCK_ROWS])

    def outline(self) -> Outline:
        """The outline of all rows."""
        if len(self._outlines) != 1:
            self._outlines = [Outline.joined(self._outlines)]
        return self._outlines[0]

    def uniqueness(self) -> NDArray[np.float64]:
        """The average uniqueness of all rows, once they have been added, (n,)."""
        if self._uniqueness is None:
            self._uniqueness = average_uniqueness(self.outline())
        return self._uniqueness

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
            "span_horizons_without_pauses": round(_time_with_rows(rows, horizon_us), 3),
            **_gaps(rows, horizon_us),
            "rows_duplicate": _duplicates(rows),
            "rows_by_asset_code": _counts(rows.asset_codes),
            "rows_by_exit_rule": {rule.value: number for rule, number in self._by_exit_rule.items()},
            "share_by_exit_rule": {
                rule.value: round(number / max(count, 1), 6) for rule, number in self._by_exit_rule.items()
            },
            "rows_warmup": self._warmup,
            "rows_reduction": self._reductions,
            "share_of_wins": _share(rows.labels),
            **self._features.report(count),
            "average_uniqueness": _share(self.uniqueness()),
            "dropped": {name: number for name, number in dropped.items() if number},
            "fingerprint": self.fingerprint(),
        }


class _FeatureSummary:
    """Which features are unknown how often, and which never change."""

    def __init__(self) -> None:
        self._unknown = np.zeros(len(FEATURE_NAMES), dtype=np.int64)
        self._first = np.full(len(FEATURE_NAMES), np.nan, dtype=np.float32)
        self._constant = np.arange(len(FEATURE_NAMES))

    def add(self, block: NDArray[np.float32]) -> None:
        """Some more rows, (n, F)."""
        self._unknown += np.sum(np.isnan(block), axis=0)
        # Hardly any column is left after the first block.
        columns, first = block[:, self._constant], self._first[self._constant]
        first = np.where(np.isnan(first), _first_known(columns), first)
        self._first[self._constant] = first
        self._constant = self._constant[np.all((columns == first) | np.isnan(columns), axis=0)]

    def report(self, count: int) -> dict[str, Any]:
        """Of `count` rows."""
        shares = zip(FEATURE_NAMES, self._unknown.tolist(), strict=True)
        constant = [FEATURE_NAMES[place] for place in self._constant if self._unknown[place] < count]
        return {
            "share_unknown_by_feature": {name: round(number / count, 6) for name, number in shares if number},
            "features_unknown_everywhere": [
                name for name, number in zip(FEATURE_NAMES, self._unknown, strict=True) if count and number == count
            ],
            "features_constant": constant,
        }


def summary_of(dataset: Dataset) -> DatasetSummary:
    """The summary of rows that are all in memory."""
    summary = DatasetSummary()
    summary.add(dataset)
    return summary


def _first_known(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first value of each column that is known, (k,); NaN where none is."""
    if not columns.size:
        return np.full(columns.shape[1], np.nan, dtype=np.float32)
    known = np.argmax(~np.isnan(columns), axis=0)
    first: NDArray[np.float32] = columns[known, np.arange(columns.shape[1])]
    return first


def _gaps(rows: Outline, horizon_us: int) -> dict[str, Any]:
    """How often nothing was decided for longer than a horizon, and the longest time without a decision."""
    pauses = np.diff(rows.decided_us)
    longest = float(np.max(pauses, initial=0)) / horizon_us
    return {"gaps": int(np.sum(pauses > horizon_us)), "longest_gap_horizons": round(longest, 3)}


def _time_with_rows(rows: Outline, horizon_us: int) -> float:
    """The span in horizons, each pause over two of them counted as two."""
    return float(without_pauses(rows.decided_us, horizon_us)[-1]) / horizon_us if len(rows) else 0.0


def _duplicates(rows: Outline) -> int:
    """Rows that have asset, moment of decision, end and label of another one before them.

    They are kept: overlapping for all of their length, they share one row's weight.
    """
    keys = (rows.labels, rows.exit_us, rows.asset_codes, rows.decided_us)
    tied = np.flatnonzero(np.diff(rows.decided_us) == 0)
    if not len(tied):
        return 0
    concerned = np.unique(np.concatenate((tied, tied + 1)))
    order = concerned[np.lexsort([key[concerned] for key in keys])]
    return int(np.sum(np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)))


def _counts(codes: NDArray[Any]) -> dict[str, int]:
    values, counts = np.unique(codes, return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)}


def _share(values: NDArray[Any]) -> float:
    return round(float(np.mean(values)), 6) if values.size else 0.0
