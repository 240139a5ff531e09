"""A dataset in Parquet partitions is the dataset, whichever way it was cut."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from model_service.learning.dataset import Dataset, dataset_from_rows
from model_service.learning.parquet_dataset import (
    BETWEEN_BLOCKS,
    BLOCK_CODES,
    Partitions,
    PartitionWriter,
    parts_of,
    read_part,
    read_rows,
    thinned,
    write_plan,
)
from model_service.learning.plan import Plan
from model_service.learning.run import prepare
from tests.support.training_rows import imbalance_rows, training_job

ROWS = 2000


def dataset() -> Dataset:
    return dataset_from_rows(imbalance_rows(ROWS, 3, assets=3))[0]


def plan() -> Plan:
    return prepare(training_job(), imbalance_rows(ROWS, 3, assets=3), {}).plan


def written(folder: Path, rows_per_partition: int, rows_per_block: int = 300) -> Partitions:
    rows, writer = dataset(), PartitionWriter(folder, rows_per_partition)
    for first in range(0, ROWS, rows_per_block):
        writer.add(rows.take(slice(first, first + rows_per_block)))
    return writer.finish()


def assert_same(found: Dataset, wanted: Dataset) -> None:
    for field in fields(Dataset):
        left, right = getattr(found, field.name), getattr(wanted, field.name)
        assert left.dtype == right.dtype, field.name
        assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), field.name


@pytest.mark.parametrize(
    ("rows_per_partition", "sizes"), [(700, (700, 700, 600)), (1000, (1000, 1000)), (2500, (2000,))]
)
def test_rows_come_back_as_they_were_written(tmp_path: Path, rows_per_partition: int, sizes: tuple[int, ...]) -> None:
    partitions = written(tmp_path, rows_per_partition)
    assert partitions.sizes == sizes
    assert_same(read_rows(partitions, np.arange(ROWS)), dataset())
    some = np.array([0, 3, 699, 700, 1399, 1999])
    assert_same(read_rows(partitions, some), dataset().take(some))


@pytest.mark.parametrize(("rows_per_block", "rows_per_partition"), [(1, 300), (37, 300), (2000, 300), (300, 300)])
def test_blocks_of_any_size_make_the_same_partitions(
    tmp_path: Path, rows_per_block: int, rows_per_partition: int
) -> None:
    partitions = written(tmp_path, rows_per_partition, rows_per_block)
    assert partitions.sizes == (300,) * 6 + (200,)
    assert read_rows(partitions, np.arange(ROWS)).fingerprint() == dataset().fingerprint()


@pytest.mark.parametrize("block", ["train", "early_stopping"])
@pytest.mark.parametrize("at_least", [1, 2, 9, 5000])
@pytest.mark.parametrize("rows_per_partition", [170, 900, 2500])
def test_the_parts_of_a_block_are_the_block(tmp_path: Path, block: str, at_least: int, rows_per_partition: int) -> None:
    partitions, planned = written(tmp_path, rows_per_partition), plan()
    write_plan(partitions, planned)
    rows = planned.split.blocks()[block]
    parts = parts_of(partitions, planned.split, block, at_least)
    assert min(at_least, len(rows)) <= len(parts)
    assert sum(part.rows for part in parts) == len(rows)
    read = [read_part(tmp_path, part) for part in parts[: 40 if at_least == 5000 else None]]
    assert [len(labels) for _, labels, _ in read] == [part.rows for part in parts][: len(read)]
    assert min(part.rows for part in parts) > 0
    wanted = dataset().take(rows[: sum(len(labels) for _, labels, _ in read)])
    inputs, labels, weights = (np.concatenate(column) for column in zip(*read, strict=True))
    assert np.array_equal(inputs, wanted.inputs(), equal_nan=True)
    assert np.array_equal(labels, wanted.labels)
    assert np.array_equal(weights, planned.weights[rows[: len(weights)]])


def test_rows_between_blocks_serve_for_nothing(tmp_path: Path) -> None:
    partitions, planned = written(tmp_path, 700), plan()
    write_plan(partitions, planned)
    assert BETWEEN_BLOCKS not in BLOCK_CODES.values()
    kept = sum(part.rows for name in BLOCK_CODES for part in parts_of(partitions, planned.split, name, 1))
    assert kept == ROWS - planned.split.purged - planned.split.embargoed < ROWS


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    partitions, planned = written(tmp_path, 700), plan()
    part = parts_of(partitions, planned.split, "train", 1)[0]
    with pytest.raises(OSError, match=r"plan-00000\.parquet"):
        read_part(tmp_path, part)


def test_no_rows_make_no_partition(tmp_path: Path) -> None:
    assert PartitionWriter(tmp_path).finish() == Partitions(tmp_path, ())


def test_thinning_keeps_even_distances() -> None:
    rows = np.arange(100, 200)
    assert np.array_equal(thinned(rows, 100), rows)
    assert np.array_equal(thinned(rows, 10), np.arange(100, 200, 10))
    kept = thinned(rows, 30)
    assert len(kept) == 30
    assert set(np.diff(kept).tolist()) == {3, 4}
