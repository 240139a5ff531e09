"""Rows with feature vectors, in today's order of features whichever known feature set they were written with.

A vector is stored as bytes under the name of its set, and the table `feature_sets` says what stands where in it. Rows
of today's set need nothing; those of another known one get their columns moved into today's order, NaN where the other
set lacks a feature; those of a set that nobody knows are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import numpy as np
from numpy.typing import NDArray

from model_service.database.binary_copy import Column, GrowingRows, copy_rows
from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.models.samples import Rows

OTHER_SET = "other_feature_set"
DAMAGED = "damaged_features"
_USABLE = 0

REGISTER = """
    INSERT INTO model_service.feature_sets (feature_set, names, first_used_at) VALUES ($1, $2, $3)
    ON CONFLICT (feature_set) DO NOTHING
"""
_KNOWN_SETS = "SELECT feature_set, names FROM model_service.feature_sets WHERE feature_set <> $1 ORDER BY feature_set"


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The name of a set, and its features in the order of their bytes."""

    name: str
    features: tuple[str, ...]

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return 4 * len(self.features)


CURRENT = FeatureSet(FEATURE_SET, FEATURE_NAMES)
"""What this program computes."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from.

    Attributes:
        rows: `FROM ... WHERE ...` of rows `s` that have `feature_set` and `features`.
        arguments: of `rows`, from $1 on.
        columns: all but the features, each with its native type.
        refusals: reason and SQL condition of what is left out; the first that holds counts.
    """

    rows: str
    arguments: tuple[object, ...]
    columns: tuple[tuple[Column, str], ...]
    refusals: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """What was read.

    Attributes:
        rows: structured array (n,), in no particular order: the columns of the source, and `features` float32 (F,).
        dropped: rows that were left out, by reason.
        of_other_sets: rows among `rows` that were written with another feature set, by its name.
    """

    rows: Rows
    dropped: dict[str, int]
    of_other_sets: dict[str, int]


async def register_feature_set(database: Database, current: FeatureSet, now: datetime) -> None:
    """Write down what the bytes of a set mean; nothing when that was done before. Raises DatabaseUnavailable."""
    await database.execute(REGISTER, current.name, list(current.features), now)


async def read_feature_rows(
    connection: asyncpg.Connection, database: Database, source: Source, current: FeatureSet
) -> FeatureRows:
    """All rows of `source` whose features can be read.

    One pass over the rows reads those of the current set and counts what is left out; others follow only if there are
    any, with a pass for each set.

    Raises:
        ValueError: a column holds NULL.
        asyncpg.PostgresError, OSError, TimeoutError: as the driver.
    """
    kept = _Kept(source, current)
    left_out = await _read_current(connection, database, source, current, kept)
    others: dict[str, int] = {}
    if left_out[OTHER_SET]:
        for other in await other_feature_sets(connection, database, current):
            others[other.name] = await _read_other(connection, database, source, other, kept)
    left_out[OTHER_SET] -= sum(others.values())
    return FeatureRows(kept.rows.finish(), left_out, {name: count for name, count in others.items() if count})


async def other_feature_sets(
    connection: asyncpg.Connection, database: Database, current: FeatureSet
) -> list[FeatureSet]:
    """What earlier programs wrote rows with, and newer ones."""
    rows = await connection.fetch(database.sql(_KNOWN_SETS), current.name)
    return [FeatureSet(row["feature_set"], tuple(row["names"])) for row in rows]


def row_type(columns: Sequence[tuple[Column, str]], current: FeatureSet) -> np.dtype[np.void]:
    """What rows of these columns are in memory, with `features` float32 (F,) behind them."""
    kinds = [(column.name, kind) for column, kind in columns]
    return np.dtype([*kinds, ("features", "<f4", (len(current.features),))], align=True)


def moves(features: Sequence[str], current: FeatureSet) -> tuple[list[int], list[int]]:
    """Where the features of the current set stand in `features`, and where they belong; the two are parallel."""
    places = {name: place for place, name in enumerate(features)}
    found = [(places[name], target) for target, name in enumerate(current.features) if name in places]
    return [source for source, _ in found], [target for _, target in found]


class _Kept:
    """The rows so far, in today's order of features."""

    def __init__(self, source: Source, current: FeatureSet) -> None:
        self._names = [column.name for column, _ in source.columns]
        self._current = current
        self.rows = GrowingRows(row_type(source.columns, current))

    def add(self, block: Rows, features: Sequence[str]) -> None:
        """A block of wire rows whose vectors hold `features` in this order."""
        added = self.rows.add(len(block))
        for name in self._names:
            added[name] = block[name]
        if tuple(features) == self._current.features:
            added["features"] = block["features"]
            return
        added["features"] = np.nan
        source, target = moves(features, self._current)
        added["features"][:, target] = block["features"][:, source]


async def _read_current(
    connection: asyncpg.Connection, database: Database, source: Source, current: FeatureSet, kept: _Kept
) -> dict[str, int]:
    """Read the rows of the current set; returns what is left out by reason."""
    at = len(source.arguments) + 1
    reasons = (*source.refusals, (OTHER_SET, f"s.feature_set <> ${at}"))
    reasons = (*reasons, (DAMAGED, f"octet_length(s.features) <> {current.width}"))
    cases = " ".join(f"WHEN {condition} THEN {number}" for number, (_, condition) in enumerate(reasons, 1))
    tally = np.zeros(len(reasons) + 1, dtype=np.int64)

    def take(block: Rows) -> None:
        verdicts: NDArray[np.int64] = block["verdict"].astype(np.int64)
        tally[:] += np.bincount(verdicts, minlength=len(tally))
        usable = verdicts == _USABLE
        kept.add(block if bool(np.all(usable)) else block[usable], current.features)

    # What is left out is sent with a vector of zeros, so that all rows have one width.
    blank = f"decode(repeat('00', {current.width}), 'hex')"
    whole = f"s.feature_set = ${at} AND octet_length(s.features) = {current.width}"
    columns = [
        *(column for column, _ in source.columns),
        Column("verdict", f"(CASE {cases} ELSE {_USABLE} END)::smallint", ">i2"),
        _features_column(current, f"CASE WHEN {whole} THEN s.features ELSE {blank} END"),
    ]
    await copy_rows(connection, columns, database.sql(source.rows), (*source.arguments, current.name), take)
    return {reason: int(count) for (reason, _), count in zip(reasons, tally[1:], strict=True)}


async def _read_other(
    connection: asyncpg.Connection, database: Database, source: Source, other: FeatureSet, kept: _Kept
) -> int:
    """Read the usable rows of another set; returns how many."""
    at = len(source.arguments) + 1
    refused = "".join(f" AND NOT ({condition})" for _, condition in source.refusals)
    rows = f"{source.rows} AND s.feature_set = ${at} AND octet_length(s.features) = {other.width}{refused}"
    count = 0

    def take(block: Rows) -> None:
        nonlocal count
        count += len(block)
        kept.add(block, other.features)

    columns = [*(column for column, _ in source.columns), _features_column(other, "s.features")]
    await copy_rows(connection, columns, database.sql(rows), (*source.arguments, other.name), take)
    return count


def _features_column(features: FeatureSet, sql: str) -> Column:
    return Column("features", sql, f"({len(features.features)},)<f4")
