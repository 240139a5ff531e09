"""The rows of a training run in time order, block by block, for datasets that are larger than the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from model_service.config.label_rule import LabelRules
from model_service.database.binary_copy import Column, copy_rows
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE
from model_service.database.feature_rows import DAMAGED, OTHER_SET, FeatureSet, moves, other_feature_sets, row_type
from model_service.database.sample_reader import COLUMNS, SUPERSEDED, Refusals, refusals
from model_service.models.samples import Rows

STREAM_TIMEOUT_SECONDS = 7 * 86_400.0
"""As long as a run may last at most: what is read here has any size."""
_ORDERED = """
    FROM model_service.samples AS s WHERE s.strategy_id = $1
    ORDER BY s.decided_us, s.signal_id, s.revision"""
_WIDTH = "($5::integer[])[array_position($4::text[], s.feature_set)]"
_UNREADABLE = (
    (OTHER_SET, f"s.feature_set <> ($4::text[])[1] AND octet_length(s.features) IS DISTINCT FROM {_WIDTH}"),
    (DAMAGED, f"octet_length(s.features) <> {_WIDTH}"),
)


async def stream_samples(
    database: Database,
    strategy_id: str,
    *,
    current: FeatureSet,
    as_of_us: int,
    rules: LabelRules | None = None,
    on_rows: Callable[[Rows], None],
) -> dict[str, int]:
    """Hand the rows that `read_samples` would return to `on_rows`, in the same order, about a megabyte at a time.

    Returns:
        Rows of the strategy that were left out, by reason.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
        asyncpg.PostgresError: it refused, for example because a table is missing.
    """
    connection = await database.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            known = [current, *await other_feature_sets(connection, database, current)]
            reasons = (*await refusals(connection, database, rules), *_UNREADABLE)
            stream = _Stream(known, reasons, on_rows)
            names, widths = [known_set.name for known_set in known], [known_set.width for known_set in known]
            arguments = (strategy_id, as_of_us, rules and rules.otherwise, names, widths)
            columns, rows = _columns(max(widths), reasons), database.sql(_ORDERED)
            await copy_rows(connection, columns, rows, arguments, stream.take, timeout_seconds=STREAM_TIMEOUT_SECONDS)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL at {database.address}: {error or type(error).__name__}") from error
    finally:
        connection.terminate()
    stream.finish()
    return stream.dropped


def _columns(width: int, reasons: Refusals) -> list[Column]:
    """Every row is sent, at one width: vectors of shorter sets, and those of no use, are filled up or cut."""
    cases = " ".join(f"WHEN {condition} THEN {number}" for number, (_, condition) in enumerate(reasons, 1))
    filled = f"substr(s.features || decode(repeat('00', {width}), 'hex'), 1, {width})"
    features = f"CASE octet_length(s.features) WHEN {width} THEN s.features ELSE {filled} END"
    return [
        *(column for column, _ in COLUMNS),
        Column("verdict", f"(CASE {cases} ELSE 0 END)::smallint", ">i2"),
        Column("set_number", "coalesce(array_position($4::text[], s.feature_set), 0)::smallint", ">i2"),
        Column("features", features, f"({width // 4},)<f4"),
    ]


class _Stream:
    """From rows on the wire to rows that count, with features in today's order."""

    def __init__(self, known: Sequence[FeatureSet], reasons: Refusals, on_rows: Callable[[Rows], None]) -> None:
        self._moves = [moves(known_set.features, known[0]) for known_set in known]
        self._type = row_type(COLUMNS, known[0])
        self._reasons = reasons
        self._on_rows = on_rows
        # The next block may begin with a later revision of the last row.
        self._last: Rows = np.empty(0, dtype=self._type)
        self.dropped = dict.fromkeys((*(reason for reason, _ in reasons), SUPERSEDED), 0)

    def take(self, block: Rows) -> None:
        """Some more rows."""
        verdicts = np.bincount(block["verdict"].astype(np.intp), minlength=len(self._reasons) + 1)
        for (reason, _), count in zip(self._reasons, verdicts[1:].tolist(), strict=True):
            self.dropped[reason] += count
        usable = block if not np.any(verdicts[1:]) else block[block["verdict"] == 0]
        rows = np.concatenate((self._last, self._native(usable)))
        followed = np.append(np.all(rows["signal_id"][1:] == rows["signal_id"][:-1], axis=1), False)[: len(rows)]
        self.dropped[SUPERSEDED] += int(np.sum(followed))
        rows = rows[~followed]
        self._last = rows[-1:].copy()
        if len(rows) > 1:
            self._on_rows(rows[:-1])

    def finish(self) -> None:
        """There are no more."""
        if len(self._last):
            self._on_rows(self._last)

    def _native(self, block: Rows) -> Rows:
        rows = np.empty(len(block), dtype=self._type)
        for column, _ in COLUMNS:
            rows[column.name] = block[column.name]
        rows["features"] = np.nan
        for number, (source, target) in enumerate(self._moves, 1):
            ours = np.flatnonzero(block["set_number"] == number)
            if len(ours):
                rows["features"][ours[:, None], target] = block["features"][ours[:, None], source]
        return rows
