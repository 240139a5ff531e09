"""Reads the rows of a training run as one block of bytes: a million of them without a Python object for any value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE

READ_TIMEOUT_SECONDS = 600.0
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER = b"\xff\xff"
_LENGTH_SUFFIX = "__length"

_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("signal_id", "s.signal_id", "(16,)u1"),
    ("decided_us", "s.decided_us", ">i8"),
    ("exit_us", "s.exit_us", ">i8"),
    ("side", "s.side", ">i2"),
    ("label", "s.label", ">i2"),
    ("exit_rule", "s.exit_rule", ">i2"),
    ("asset_code", "s.asset_code", ">i4"),
    ("is_warmup", "s.is_warmup", "u1"),
    ("is_reduction", "(s.intent = 'reduce')", "u1"),
    ("net_return", "s.net_return", ">f8"),
    ("probability_buy", "s.probability_buy", ">f8"),
    ("probability_sell", "s.probability_sell", ">f8"),
    ("probability_none", "s.probability_none", ">f8"),
    ("opposite_net_return", "coalesce(s.opposite_net_return, 'NaN')", ">f8"),
)
"""Name, SQL and type on the wire of all columns but the features, which come last."""

_SELECTED = """
    FROM model_service.samples s
    WHERE s.strategy_id = $1 AND s.feature_set = $2 AND s.available_us <= $3 AND s.intent IN ('open', 'reduce')
      AND octet_length(s.features) = $4
      AND NOT EXISTS (
          SELECT FROM model_service.samples later
          WHERE later.signal_id = s.signal_id AND later.revision > s.revision AND later.available_us <= $3)
    ORDER BY s.decided_us, s.signal_id"""

_DROPPED = """
    SELECT count(*) FILTER (WHERE available_us > $3) AS not_yet_known,
           count(*) FILTER (WHERE available_us <= $3 AND intent NOT IN ('open', 'reduce')) AS not_an_opening,
           count(*) FILTER (WHERE available_us <= $3 AND intent IN ('open', 'reduce') AND feature_set <> $2)
               AS other_feature_set,
           count(*) FILTER (WHERE available_us <= $3 AND intent IN ('open', 'reduce') AND feature_set = $2
                            AND octet_length(features) <> $4) AS damaged_features,
           count(*) FILTER (WHERE available_us <= $3 AND intent IN ('open', 'reduce') AND feature_set = $2
                            AND octet_length(features) = $4) AS usable
    FROM model_service.samples WHERE strategy_id = $1"""


@dataclass(frozen=True)
class SampleRows:
    """What was read.

    Attributes:
        rows: structured array (n,), ordered by decided_us and signal_id; fields as the columns of the table `samples`,
            with `features` float32 (F,) and `is_reduction` in place of the intent.
        dropped: rows of the strategy that were left out, by reason.
    """

    rows: NDArray[np.void]
    dropped: dict[str, int]


async def read_samples(
    database: Database, strategy_id: str, *, feature_set: str, feature_count: int, as_of_us: int
) -> SampleRows:
    """The latest revision known at `as_of_us` of each labelled opening or reduction of a strategy.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
        asyncpg.PostgresError: it refused, for example because a table is missing.
    """
    arguments = (strategy_id, feature_set, as_of_us, 4 * feature_count)
    connection = await database.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            content = await _copy(connection, database.sql(_query()), arguments)
            counts = await connection.fetchrow(database.sql(_DROPPED), *arguments)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL at {database.address}: {error or type(error).__name__}") from error
    finally:
        connection.terminate()
    rows = parse_copy(content, feature_count)
    return SampleRows(rows, _dropped(counts, len(rows)))


def parse_copy(content: bytes | bytearray, feature_count: int) -> NDArray[np.void]:
    """Rows of `COPY ... (FORMAT binary)` in which every field has a fixed width, without copying them.

    Raises:
        ValueError: not such a content, or a row has another width, such as one with a NULL.
    """
    layout = _layout(feature_count)
    body = len(content) - _HEADER_BYTES - len(_TRAILER)
    if content[: len(_SIGNATURE)] != _SIGNATURE or content[-len(_TRAILER) :] != _TRAILER:
        raise ValueError("not the content of a binary COPY: its signature or its end is missing")
    if body % layout.itemsize:
        raise ValueError(f"{body} bytes are not a whole number of rows of {layout.itemsize}; does a column hold NULL?")
    rows = np.frombuffer(content, dtype=layout, count=body // layout.itemsize, offset=_HEADER_BYTES)
    _check_lengths(rows)
    return rows


async def _copy(connection: asyncpg.Connection, query: str, arguments: tuple[object, ...]) -> bytearray:
    content = bytearray()

    async def append(part: bytes) -> None:
        content.extend(part)

    await connection.copy_from_query(query, *arguments, output=append, format="binary", timeout=READ_TIMEOUT_SECONDS)
    return content


def _query() -> str:
    expressions = ", ".join(sql for _, sql, _ in _COLUMNS)
    return f"SELECT {expressions}, s.features {_SELECTED}"


def _dropped(counts: Any, read: int) -> dict[str, int]:
    reasons = {name: int(value) for name, value in counts.items()} if counts else {}
    usable = reasons.pop("usable", read)
    return {**reasons, "superseded_revision": usable - read}


def _layout(feature_count: int) -> np.dtype[np.void]:
    """One row: the number of fields, then each field behind its length in bytes; a boolean is one byte."""
    fields: list[Any] = [("fields", ">i2")]
    for name, _, kind in (*_COLUMNS, ("features", "features", f"({feature_count},)<f4")):
        fields += [(name + _LENGTH_SUFFIX, ">i4"), (name, kind)]
    return np.dtype(fields)


def _check_lengths(rows: NDArray[np.void]) -> None:
    names = rows.dtype.names or ()
    if not np.all(rows["fields"] == len(_COLUMNS) + 1):
        raise ValueError("a row of the COPY has another number of fields than asked for")
    for name in names:
        if name.endswith(_LENGTH_SUFFIX):
            field = rows.dtype[name.removesuffix(_LENGTH_SUFFIX)]
            if not np.all(rows[name] == field.itemsize):
                raise ValueError(f"a row of the COPY has a {name.removesuffix(_LENGTH_SUFFIX)} of another width")
