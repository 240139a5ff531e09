"""Rows of fixed width out of PostgreSQL's binary COPY, block by block: no Python object for any value.

Neither the content of the whole COPY nor a second copy of the rows is ever in memory: a block of bytes arrives, is
viewed as rows as they are on the wire, and is converted into native columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np

from model_service.models.samples import Rows

READ_TIMEOUT_SECONDS = 600.0
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER = b"\xff\xff"
_LENGTH_SUFFIX = "__length"
_BLOCK_BYTES = 1 << 20
_FIRST_CAPACITY = 4096


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a COPY: its name, the SQL that gives it, never NULL, and its type on the wire."""

    name: str
    sql: str
    wire: str


class BlockParser:
    """Takes the bytes of a COPY as they come, and hands on whole rows, a block at a time.

    Args:
        columns: in the order of the COPY; each has one width in all rows.
        on_rows: gets structured rows as on the wire; they are valid only during the call.
    """

    def __init__(self, columns: Sequence[Column], on_rows: Callable[[Rows], None]) -> None:
        self._layout = _layout(columns)
        self._columns = len(columns)
        self._on_rows = on_rows
        self._waiting = bytearray()
        self._header_seen = False

    async def take(self, part: bytes) -> None:
        """Some more bytes. Raises ValueError when they are not such a COPY."""
        self._waiting += part
        if len(self._waiting) >= _BLOCK_BYTES:
            self._hand_on()

    def finish(self) -> None:
        """The last rows. Raises ValueError when the COPY is not whole, or a row has another width."""
        self._hand_on()
        if not self._header_seen or self._waiting != _TRAILER:
            raise ValueError(
                f"the COPY ends with {len(self._waiting)} bytes that are no row of {self._layout.itemsize} bytes and "
                "not its end; is a value NULL, or a bytea of another length?"
            )

    def _hand_on(self) -> None:
        if not self._header_seen:
            self._skip_header()
        # What may be the end of the COPY stays behind.
        count = (len(self._waiting) - len(_TRAILER)) // self._layout.itemsize
        if count > 0:
            rows = np.frombuffer(self._waiting, dtype=self._layout, count=count)
            self._check(rows)
            self._on_rows(rows)
            del rows  # a bytearray that is looked at cannot be shortened
            del self._waiting[: count * self._layout.itemsize]

    def _skip_header(self) -> None:
        if self._waiting[: len(_SIGNATURE)] != _SIGNATURE or len(self._waiting) < _HEADER_BYTES:
            raise ValueError("not the content of a binary COPY: its signature is missing")
        del self._waiting[:_HEADER_BYTES]
        self._header_seen = True

    def _check(self, rows: Rows) -> None:
        if not np.all(rows["fields"] == self._columns):
            raise ValueError("a row of the COPY has another number of fields, or one before it another width")
        for name in self._layout.names or ():
            if name.endswith(_LENGTH_SUFFIX):
                column = name.removesuffix(_LENGTH_SUFFIX)
                if not np.all(rows[name] == self._layout[column].itemsize):
                    raise ValueError(f"a row of the COPY has a {column} of another width, or NULL")


class GrowingRows:
    """A structured array to which rows are added; growing moves no bytes where the system can move pages instead."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._rows = np.empty(_FIRST_CAPACITY, dtype=dtype)
        self._count = 0

    def add(self, count: int) -> Rows:
        """A view of `count` new rows, to be filled at once; it is not valid after the next call."""
        needed = self._count + count
        if needed > len(self._rows):
            # Nobody but us holds the array: views of it live until the next call at most.
            self._rows.resize(max(needed, len(self._rows) * 3 // 2), refcheck=False)
        added = self._rows[self._count : needed]
        self._count = needed
        return added

    def finish(self) -> Rows:
        """All rows, without what was kept free; nothing can be added after."""
        self._rows.resize(self._count, refcheck=False)
        return self._rows


async def copy_rows(
    connection: asyncpg.Connection,
    columns: Sequence[Column],
    rows_sql: str,
    arguments: Sequence[object],
    on_rows: Callable[[Rows], None],
    *,
    timeout_seconds: float = READ_TIMEOUT_SECONDS,
) -> None:
    """`SELECT columns rows_sql` with `arguments`, handed on block by block; errors of `on_rows` pass through.

    Raises:
        ValueError: a row has another width than its columns say.
        asyncpg.PostgresError, OSError, TimeoutError: as the driver.
    """
    parser = BlockParser(columns, on_rows)
    query = f"SELECT {', '.join(column.sql for column in columns)} {rows_sql}"
    await connection.copy_from_query(query, *arguments, output=parser.take, format="binary", timeout=timeout_seconds)
    parser.finish()


def _layout(columns: Sequence[Column]) -> np.dtype[np.void]:
    """One row: the number of fields, then each field behind its length in bytes; a boolean is one byte."""
    fields: list[Any] = [("fields", ">i2")]
    for column in columns:
        fields += [(column.name + _LENGTH_SUFFIX, ">i4"), (column.name, column.wire)]
    return np.dtype(fields)
