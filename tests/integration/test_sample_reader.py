"""What a training run reads: every value as it was stored, the latest revision known, rows of older feature sets."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from model_service.database.binary_copy import BlockParser, Column
from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.feature_rows import CURRENT, FeatureSet, register_feature_set
from model_service.database.sample_reader import SampleRows, read_samples
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows

OLDER = FeatureSet("f0-0badcafe", ("retired", *FEATURE_NAMES[7::-1]))
"""An earlier set of fewer features in another order, one of which is no longer computed."""
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
LATE = 10**18


async def read(database: Database, as_of_us: int = LATE) -> SampleRows:
    return await read_samples(database, "planted", current=CURRENT, as_of_us=as_of_us)


async def test_every_value_is_read_as_it_was_stored(database: Database) -> None:
    rows = imbalance_rows(300, 1)
    rows["is_warmup"][::3] = 0
    rows["opposite_net_return"][7] = np.nan
    await store(database, rows[::-1])
    found = await read(database)
    assert found.dropped == dict.fromkeys(found.dropped, 0)
    for name in rows.dtype.names or ():
        assert np.array_equal(found.rows[name], rows[name], equal_nan=rows[name].dtype.kind == "f"), name


async def test_rows_of_one_moment_come_in_the_order_of_their_identifiers(database: Database) -> None:
    rows = imbalance_rows(60, 1)
    rows["decided_us"][10:40] = rows["decided_us"][10]
    await store(database, rows[np.random.default_rng(1).permutation(60)])
    found = (await read(database)).rows
    assert np.all(np.diff(found["decided_us"]) >= 0)
    same = [bytes(row) for row in found["signal_id"][10:40]]
    assert same == sorted(bytes(row) for row in rows["signal_id"][10:40])


async def test_more_rows_than_fit_into_one_block(database: Database) -> None:
    rows = imbalance_rows(12_345, 2)
    await store(database, rows)
    found = (await read(database)).rows
    assert np.array_equal(found["signal_id"], rows["signal_id"])
    assert np.array_equal(found["features"], rows["features"], equal_nan=True)


async def test_only_the_latest_revision_known_then_counts(database: Database) -> None:
    rows = imbalance_rows(40, 1)
    await store(database, rows)
    changed = rows[:10].copy()
    for revision, net_return in ((2, 0.5), (3, 0.6)):
        changed["net_return"] = net_return
        await store(database, changed, revision=revision, available_us=10**17 + revision)
    first, second, third = [await read(database, 10**17 + known) for known in (0, 2, 3)]
    for found, value, others in ((first, 0.5, 0), (second, 0.5, 10), (third, 0.6, 10)):
        assert len(found.rows) == 40
        assert int(np.sum(found.rows["net_return"] == value)) == others
    assert [found.dropped["superseded_revision"] for found in (first, second, third)] == [0, 10, 20]
    assert [found.dropped["not_yet_known"] for found in (first, second, third)] == [20, 10, 0]


async def test_a_revision_that_came_without_its_first_counts_alone(database: Database) -> None:
    """The first may have been of another strategy's clean-up; nothing is lost for want of it."""
    rows = imbalance_rows(5, 1)
    await store(database, rows, revision=2)
    assert len((await read(database)).rows) == 5


async def test_what_is_left_out_is_counted_with_the_reason(database: Database) -> None:
    await store(database, imbalance_rows(40, 1))
    await store(database, imbalance_rows(3, 2), feature_set="f1-00000000")
    await store(database, imbalance_rows(4, 3), intent="exit")
    await store(database, imbalance_rows(5, 4), features=b"\0" * 8)
    await store(database, imbalance_rows(6, 5), intent="reduce")
    await store(database, imbalance_rows(7, 6), strategy_id="another")
    await store(database, imbalance_rows(8, 7), available_us=LATE + 1)
    found = await read(database)
    assert len(found.rows) == 46
    assert int(np.sum(found.rows["is_reduction"])) == 6
    assert found.dropped == {
        "not_yet_known": 8, "not_an_opening": 4, "other_feature_set": 3, "damaged_features": 5,
        "other_label_rule": 0, "superseded_revision": 0,
    }  # fmt: skip


async def test_rows_of_an_older_set_come_in_todays_order(database: Database) -> None:
    new, old = imbalance_rows(50, 1), imbalance_rows(30, 2)
    old["decided_us"] += 5_000_000
    older_vectors = np.random.default_rng(3).standard_normal((30, len(OLDER.features))).astype(np.float32)
    await register_feature_set(database, OLDER, NOON)
    await register_feature_set(database, FeatureSet("f0-00000000", ("nothing", "of", "today")), NOON)
    await store(database, new)
    await store(database, old, feature_set=OLDER.name, features=older_vectors)
    await store(database, imbalance_rows(2, 4), feature_set=OLDER.name, intent="exit", features=older_vectors[:2])
    await store(database, imbalance_rows(3, 5), feature_set=OLDER.name, features=b"\0" * 8)
    found = await read(database)
    assert (len(found.rows), found.of_other_sets) == (80, {OLDER.name: 30})
    assert found.dropped["other_feature_set"] == 3
    assert found.dropped["not_an_opening"] == 2
    assert np.all(np.diff(found.rows["decided_us"]) >= 0)
    mapped = found.rows[np.isin(found.rows["decided_us"], old["decided_us"])]
    for place, name in enumerate(FEATURE_NAMES):
        if name in OLDER.features:
            expected = older_vectors[:, OLDER.features.index(name)]
        else:
            expected = np.full(30, np.nan, dtype=np.float32)
        assert np.array_equal(mapped["features"][:, place], expected, equal_nan=True), name
    kept = found.rows[np.isin(found.rows["decided_us"], new["decided_us"])]
    assert np.array_equal(kept["features"], new["features"], equal_nan=True)


async def test_a_set_is_written_down_once(database: Database) -> None:
    await register_feature_set(database, CURRENT, NOON)
    await register_feature_set(database, CURRENT, NOON.replace(hour=13))
    rows = await database.fetch("SELECT * FROM model_service.feature_sets")
    assert [tuple(row) for row in rows] == [(FEATURE_SET, list(FEATURE_NAMES), NOON)]


async def test_no_rows_are_no_rows(database: Database) -> None:
    found = await read(database)
    assert len(found.rows) == 0
    assert found.rows["features"].shape == (0, len(FEATURE_NAMES))


async def test_reading_from_a_database_that_is_away_says_so() -> None:
    database = Database(DatabaseAddress("127.0.0.1", 1, "none", "nobody"))
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1"):
        await read(database)


HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
NUMBER = (Column("number", "number", ">i8"),)


def row(*values: int | None) -> bytes:
    fields = [struct.pack(">i", -1) if value is None else struct.pack(">iq", 8, value) for value in values]
    return struct.pack(">h", len(values)) + b"".join(fields)


async def parse(*parts: bytes) -> list[int]:
    found: list[int] = []
    parser = BlockParser(NUMBER, lambda block: found.extend(block["number"].tolist()))
    for part in parts:
        await parser.take(part)
    parser.finish()
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_copy_may_be_cut_anywhere(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_service.database.binary_copy._BLOCK_BYTES", 40)
    content = HEADER + b"".join(row(value) for value in range(50)) + b"\xff\xff"
    assert await parse(*(content[at : at + size] for at in range(0, len(content), size))) == list(range(50))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([b"x" * 40], "signature"),
        ([HEADER + row(1)], "ends with"),
        ([HEADER + row(1)[:-3] + b"\xff\xff"], "ends with"),
        ([HEADER + row(None) + b"\xff\xff"], "ends with"),
        ([HEADER + row(None) + row(None) + row(None) + b"\xff\xff"], "another width, or NULL"),
        ([HEADER + row(1, 2) + b"\xff\xff"], "number of fields"),
        ([], "signature"),
    ],
)
async def test_a_damaged_copy_is_an_error(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await parse(*parts)
