"""The stream of a run's rows is what the reader reads at once, in the same order, whatever lies in the table."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.feature_rows import CURRENT, FeatureSet, register_feature_set
from model_service.database.sample_reader import read_samples
from model_service.database.sample_stream import stream_samples
from model_service.models.features import FEATURE_NAMES
from model_service.models.samples import Rows
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
SHORTER = FeatureSet("f0-0badcafe", ("retired", *FEATURE_NAMES[7::-1]))
LONGER = FeatureSet("f9-0badcafe", (*FEATURE_NAMES[:3], "to_come", *FEATURE_NAMES[3:], "to_come_too"))


async def stream(database: Database, as_of_us: int) -> tuple[list[Rows], dict[str, int]]:
    blocks: list[Rows] = []
    dropped = await stream_samples(database, "planted", current=CURRENT, as_of_us=as_of_us, on_rows=blocks.append)
    return blocks, dropped


async def assert_same(database: Database, as_of_us: int) -> list[Rows]:
    whole = await read_samples(database, "planted", current=CURRENT, as_of_us=as_of_us)
    blocks, dropped = await stream(database, as_of_us)
    rows = np.concatenate(blocks)
    assert dropped == whole.dropped
    assert rows.dtype == whole.rows.dtype
    for name in whole.rows.dtype.names or ():
        left, right = rows[name], whole.rows[name]
        assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), name
    return blocks


async def of_set(database: Database, feature_set: FeatureSet, seed: int, count: int) -> None:
    await register_feature_set(database, feature_set, NOON)
    features = np.random.default_rng(seed).standard_normal((count, len(feature_set.features))).astype("<f4")
    await store(database, imbalance_rows(count, seed), feature_set=feature_set.name, features=features)


async def test_rows_of_all_kinds(database: Database) -> None:
    rows = imbalance_rows(400, 1)
    rows["decided_us"][10:60] = rows["decided_us"][10]
    await store(database, rows[np.random.default_rng(1).permutation(400)])
    for revision in (2, 3):
        changed = rows[20 : 60 : revision + 1].copy()
        changed["net_return"] = 0.1 * revision
        await store(database, changed, revision=revision, available_us=revision * 10**17)
    await of_set(database, SHORTER, 2, 30)
    await of_set(database, LONGER, 3, 40)
    await store(database, imbalance_rows(3, 4), feature_set="f1-00000000")
    await store(database, imbalance_rows(4, 5), intent="exit")
    await store(database, imbalance_rows(2, 10), feature_set=SHORTER.name, features=b"\0" * 8)
    await store(database, imbalance_rows(5, 6), features=b"\0" * 8)
    await store(database, imbalance_rows(5, 7), features=b"\0" * 4 * (len(FEATURE_NAMES) + 9))
    await store(database, imbalance_rows(6, 8), intent="reduce")
    await store(database, imbalance_rows(7, 9), strategy_id="another")
    for as_of_us in (10**17, 2 * 10**17 - 1, 2 * 10**17, 10**18):
        await assert_same(database, as_of_us)


async def test_many_rows_come_in_several_blocks(database: Database) -> None:
    rows = imbalance_rows(12_345, 2)
    await store(database, rows)
    again = rows.copy()
    again["net_return"] = 0.5
    await store(database, again, revision=2)
    blocks = await assert_same(database, 10**18)
    assert len(blocks) > 4


async def test_no_rows(database: Database) -> None:
    blocks, dropped = await stream(database, 10**18)
    assert blocks == []
    assert set(dropped.values()) == {0}


async def test_a_database_that_is_away() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1"):
        await stream(Database(DatabaseAddress("127.0.0.1", 1, "none", "nobody")), 0)
