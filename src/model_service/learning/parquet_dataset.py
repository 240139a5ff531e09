"""A run's dataset as Parquet files in time order: written block by block, read a part at a time.

A partition is two files: `rows-NNNNN.parquet` with the rows, one column for each field of a Dataset and each feature,
and `plan-NNNNN.parquet` with the block that each row serves in and its weight, which are known only after the last row.
Never more than a partition and a block are in memory, whatever the size of the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset
from model_service.learning.plan import Plan
from model_service.learning.split import SHARES, Split
from model_service.models.features import FEATURE_NAMES, align_to_side

ROWS_PER_PARTITION = 65_536
BLOCK_CODES = {name: code for code, name in enumerate(SHARES)}
BETWEEN_BLOCKS = -1
"""Code of the rows that were purged or embargoed."""
_NARROW = tuple(field.name for field in fields(Dataset) if field.name not in ("signal_ids", "features"))
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Partitions:
    """Where a dataset lies; `sizes` are the rows of each partition, in time order."""

    folder: Path
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def ranges(self) -> list[tuple[int, int]]:
        """First row of each partition and first row after it, counted over the whole dataset."""
        return list(pairwise([0, *np.cumsum(self.sizes, dtype=np.int64).tolist()]))


@dataclass(frozen=True)
class Part:
    """Some rows of one block in one partition: what a worker reads at once.

    Attributes:
        partition: its number.
        block: one of the names of SHARES.
        share, shares: the part is this one, counted from 0, of so many equal ones.
        rows: how many rows it has.
    """

    partition: int
    block: str
    share: int
    shares: int
    rows: int


class PartitionWriter:
    """Takes blocks in time order, of any size, and writes partitions of one size.

    Args:
        folder: an empty one.
        rows_per_partition: in all of them but the last.
    """

    def __init__(self, folder: Path, rows_per_partition: int = ROWS_PER_PARTITION) -> None:
        self._folder = folder
        self._rows_per_partition = rows_per_partition
        self._waiting: list[Dataset] = []
        self._sizes: list[int] = []

    def add(self, block: Dataset) -> None:
        """The next rows in time. Raises OSError."""
        self._waiting.append(block)
        while sum(map(len, self._waiting)) >= self._rows_per_partition:
            rows = Dataset.joined(self._waiting)
            self._write(rows.take(slice(self._rows_per_partition)))
            self._waiting = [rows.take(slice(self._rows_per_partition, None))]

    def finish(self) -> Partitions:
        """Write what is left, and say what was written. Raises OSError."""
        if sum(map(len, self._waiting)):
            self._write(Dataset.joined(self._waiting))
        self._waiting = []
        return Partitions(self._folder, tuple(self._sizes))

    def _write(self, rows: Dataset) -> None:
        identifiers = np.ascontiguousarray(rows.signal_ids)
        columns: dict[str, pa.Array] = {
            "signal_id": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), len(rows), [None, pa.py_buffer(identifiers)]
            ),
            **{name: pa.array(getattr(rows, name)) for name in _NARROW},
            **{name: pa.array(np.ascontiguousarray(rows.features[:, at])) for at, name in enumerate(FEATURE_NAMES)},
        }
        _write_table(columns, _rows_path(self._folder, len(self._sizes)))
        self._sizes.append(len(rows))


def write_plan(partitions: Partitions, plan: Plan) -> None:
    """Put beside each partition what its rows serve for. Raises OSError."""
    codes = np.full(sum(partitions.sizes), BETWEEN_BLOCKS, dtype=np.int8)
    for name, rows in plan.split.blocks().items():
        codes[rows] = BLOCK_CODES[name]
    for number, (first, end) in enumerate(partitions.ranges()):
        columns = {"block": pa.array(codes[first:end]), "weight": pa.array(plan.weights[first:end])}
        _write_table(columns, _plan_path(partitions.folder, number))


def parts_of(partitions: Partitions, split: Split, block: str, at_least: int) -> list[Part]:
    """A block cut into parts of about one size, one or more for each partition that it reaches into.

    Args:
        at_least: so many parts, when the block has as many rows.
    """
    rows = split.blocks()[block]
    borders = np.searchsorted(rows, [first for first, _ in partitions.ranges()])
    counts = np.diff(np.append(borders, len(rows)))
    wanted = -(-at_least // max(int(np.count_nonzero(counts)), 1))
    return [
        Part(partition, block, share, shares, size)
        for partition, count in enumerate(counts.tolist())
        for shares in [min(wanted, count)]
        for share, size in enumerate(_sizes_of_shares(count, shares))
    ]


def read_part(folder: Path, part: Part) -> tuple[Floats, NDArray[np.int8], Floats]:
    """The rows of a part as a model reads them: inputs float32 (n, F + 1), labels int8 (n,), weights float32 (n,).

    Raises OSError, also when the file is not there.
    """
    plan = _read_table(_plan_path(folder, part.partition))
    rows = np.flatnonzero(_column(plan, "block") == BLOCK_CODES[part.block])
    rows = np.array_split(rows, part.shares)[part.share]
    table = _read_table(_rows_path(folder, part.partition), ["side_signs", "labels", *FEATURE_NAMES])
    inputs = align_to_side(_features(table, rows), _column(table, "side_signs")[rows])
    return inputs, _column(table, "labels")[rows], _column(plan, "weight")[rows]


def read_rows(partitions: Partitions, rows: NDArray[np.intp]) -> Dataset:
    """The rows with these numbers, rising, counted over the whole dataset. Raises OSError."""
    return Dataset.joined(list(_rows_by_partition(partitions, rows)))


def thinned(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """`rows`, or `most` of them at even distances when they are more."""
    if len(rows) <= most:
        return rows
    return rows[(np.arange(most, dtype=np.int64) * len(rows)) // most]


def _rows_by_partition(partitions: Partitions, rows: NDArray[np.intp]) -> Iterator[Dataset]:
    for number, (first, end) in enumerate(partitions.ranges()):
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] - first
        if len(here):
            yield _read_dataset(_rows_path(partitions.folder, number), here)


def _read_dataset(path: Path, rows: NDArray[np.intp]) -> Dataset:
    table = _read_table(path)
    identifiers = table.column("signal_id").combine_chunks()
    _, content = identifiers.buffers()
    values = np.frombuffer(content, dtype=np.uint8)[16 * identifiers.offset :]
    return Dataset(
        signal_ids=values[: 16 * len(identifiers)].reshape(-1, 16)[rows],
        features=_features(table, rows),
        **{name: _column(table, name)[rows] for name in _NARROW},
    )


def _features(table: pa.Table, rows: NDArray[np.intp]) -> Floats:
    features = np.empty((len(rows), len(FEATURE_NAMES)), dtype=np.float32)
    for at, name in enumerate(FEATURE_NAMES):
        features[:, at] = _column(table, name)[rows]
    return features


def _sizes_of_shares(count: int, shares: int) -> list[int]:
    """The lengths that numpy's array_split gives."""
    return [count // shares + (share < count % shares) for share in range(shares)]


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(name).to_numpy()
    return values


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    # One file and one thread: whole datasets are what several processes share.
    with pq.ParquetFile(path) as file:
        return file.read(columns=columns, use_threads=False)


def _write_table(columns: dict[str, pa.Array], path: Path) -> None:
    # Numbers of this kind hardly repeat: dictionaries would cost time and space.
    pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False, write_statistics=False)


def _rows_path(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.parquet"


def _plan_path(folder: Path, number: int) -> Path:
    return folder / f"plan-{number:05d}.parquet"
