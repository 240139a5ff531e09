"""Rows of training into the table `samples`, a million in seconds: the binary COPY is laid out by numpy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.database.connection import Database
from model_service.models.features import FEATURE_SET

_WIRE = {
    "signal_id": "u1", "revision": ">i4", "strategy_id": "u1", "asset_code": ">i4", "feature_set": "u1",
    "side": ">i2", "intent": "u1", "is_warmup": "u1", "decided_us": ">i8", "exit_us": ">i8", "available_us": ">i8",
    "label": ">i2", "exit_rule": ">i2", "net_return": ">f8", "probability_buy": ">f8", "probability_sell": ">f8",
    "probability_none": ">f8", "opposite_net_return": ">f8", "features": "<f4",
}  # fmt: skip
"""Columns and types of their values on the wire; texts and identifiers are bytes."""
_ROWS_AT_ONCE = 20_000


async def store(database: Database, rows: NDArray[np.void], **changes: Any) -> None:
    """Put rows into `samples`, each known from the end of its label on.

    Args:
        changes: by column, a value for all rows (bytes for `features`) or an array of one for each.
    """
    texts = {"strategy_id": "planted", "feature_set": FEATURE_SET, "intent": "open"}
    given = {name: rows[name] for name in rows.dtype.names or ()}
    values = {"revision": 1, "available_us": rows["exit_us"], **texts, **given, **changes}
    columns = {name: _column(value) for name, value in values.items() if name in _WIRE}
    async with database.acquire() as connection:
        await connection.copy_to_table(
            "samples", schema_name=database.address.schema, columns=list(_WIRE), format="binary",
            source=_copy(len(rows), columns), timeout=600,
        )  # fmt: skip


def _column(value: Any) -> NDArray[Any]:
    """An array with one row for each sample, or a single one for all."""
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return np.frombuffer(data, dtype="u1")[None]
    return value if isinstance(value, np.ndarray) else np.array([value])


async def _copy(count: int, columns: dict[str, NDArray[Any]]) -> AsyncIterator[bytes]:
    yield b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    for start in range(0, count, _ROWS_AT_ONCE):
        end = min(start + _ROWS_AT_ONCE, count)
        part = {name: column if len(column) == 1 else column[start:end] for name, column in columns.items()}
        yield _block(end - start, part)
    yield b"\xff\xff"


def _block(count: int, columns: dict[str, NDArray[Any]]) -> bytes:
    fields: list[Any] = [("fields", ">i2")]
    for name, kind in _WIRE.items():
        fields += [(f"{name}__length", ">i4"), (name, _kind(kind, columns[name]), columns[name].shape[1:])]
    wire = np.zeros(count, dtype=np.dtype(fields))
    wire["fields"] = len(_WIRE)
    for name in _WIRE:
        wire[f"{name}__length"] = wire.dtype[name].itemsize
        wire[name] = columns[name]
    return wire.tobytes()


def _kind(kind: str, column: NDArray[Any]) -> str:
    """Features may come as bytes of any length, to be damaged ones."""
    return "u1" if column.dtype == np.uint8 and column.ndim > 1 else kind
