"""Migrations on a real PostgreSQL: forward, back, twice at once, and with files that have changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from model_service.database import migrations
from model_service.database.connection import Database
from model_service.database.migrations import (
    Migration,
    MigrationChanged,
    SchemaOutdated,
    apply_migrations,
    check_schema,
    load_migrations,
    migration_status,
    migrations_as_sql,
    migrations_from,
    revert_migrations,
)

LABELS = [migration.label for migration in load_migrations()]
SECOND = Migration(
    9001,
    "notes",
    "CREATE TABLE model_service.notes (note text PRIMARY KEY); INSERT INTO model_service.notes VALUES ('first');",
    "DROP TABLE model_service.notes;",
)


@pytest.fixture
def with_second(monkeypatch: pytest.MonkeyPatch) -> None:
    known = (*load_migrations(), SECOND)
    monkeypatch.setattr(migrations, "load_migrations", lambda: known)


async def _tables(database: Database, schema: str = "model_service") -> list[str]:
    rows = await database.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
        " WHERE table_schema = $1 ORDER BY 1",
        schema,
    )
    return [row["name"] for row in rows]


async def test_applies_all_once(empty_database: Database) -> None:
    assert await apply_migrations(empty_database) == LABELS
    assert await apply_migrations(empty_database) == []
    assert {state.state for state in await migration_status(empty_database)} == {"applied"}
    await check_schema(empty_database)


async def test_down_leaves_nothing_and_up_works_again(empty_database: Database) -> None:
    await apply_migrations(empty_database)
    columns = await _tables(empty_database)
    assert await revert_migrations(empty_database, len(LABELS)) == LABELS[::-1]
    assert await _tables(empty_database) == []
    assert {state.state for state in await migration_status(empty_database)} == {"pending"}
    assert await revert_migrations(empty_database) == []
    await apply_migrations(empty_database)
    assert await _tables(empty_database) == columns


@pytest.mark.usefixtures("with_second")
async def test_a_later_migration_goes_and_comes_alone(empty_database: Database) -> None:
    assert (await apply_migrations(empty_database))[-1] == SECOND.label
    assert await revert_migrations(empty_database) == [SECOND.label]
    assert [state.state for state in await migration_status(empty_database)] == ["applied"] * len(LABELS) + ["pending"]
    assert await apply_migrations(empty_database) == [SECOND.label]


async def test_two_replicas_at_once_apply_each_migration_once(empty_database: Database) -> None:
    done = await asyncio.gather(*(apply_migrations(empty_database) for _ in range(4)))
    assert sorted(label for labels in done for label in labels) == sorted(LABELS)


async def test_a_failing_migration_leaves_nothing_behind(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(SECOND, up=SECOND.up + "SELECT 1 / 0;")
    known = (*load_migrations(), broken)
    monkeypatch.setattr(migrations, "load_migrations", lambda: known)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply_migrations(empty_database)
    assert not any(column.startswith("notes.") for column in await _tables(empty_database))
    assert [state.state for state in await migration_status(empty_database)][-1] == "pending"


async def test_check_names_what_is_missing_and_what_to_run(empty_database: Database) -> None:
    with pytest.raises(SchemaOutdated, match=rf"lacks .*{LABELS[0]}.*run `model-service db up`"):
        await check_schema(empty_database)


async def test_a_changed_file_of_an_applied_migration_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = load_migrations()
    changed = (replace(first, up=first.up + "\n-- changed\n"), *others)
    monkeypatch.setattr(migrations, "load_migrations", lambda: changed)
    assert (await migration_status(database))[0].state == "changed"
    for refused in (apply_migrations, check_schema):
        with pytest.raises(MigrationChanged, match=f"{first.label}.*restore its file"):
            await refused(database)


async def test_a_newer_database_is_served_but_not_taken_back(database: Database) -> None:
    await database.execute(
        "INSERT INTO model_service.schema_migrations (version, name, checksum) VALUES (9002, 'later', 'x')"
    )
    await check_schema(database)
    assert (await migration_status(database))[-1].state == "unknown"
    with pytest.raises(MigrationChanged, match="9002_later was applied by a newer version"):
        await revert_migrations(database)


async def test_the_schema_of_the_setting_is_used(empty_database: Database) -> None:
    named = Database(replace(empty_database.address, schema="other_name"))
    await named.open()
    try:
        await apply_migrations(named)
        await check_schema(named)
        assert await _tables(named, "model_service") == []
        assert "schema_migrations.checksum" in await _tables(named, "other_name")
        await named.execute("INSERT INTO model_service.message_queues VALUES ('q')")
        assert await named.fetchval("SELECT count(*) FROM other_name.message_queues") == 1
        await revert_migrations(named, len(LABELS))
        assert await _tables(named, "other_name") == []
    finally:
        await named.close()


@pytest.mark.parametrize("schema", ["model_service", "other_name"])
async def test_plain_sql_leaves_the_same_database(empty_database: Database, schema: str) -> None:
    async with empty_database.acquire() as connection:
        await connection.execute(migrations_as_sql(schema))
    by_hand = await _tables(empty_database, schema)
    named = Database(replace(empty_database.address, schema=schema))
    await named.open()
    try:
        await check_schema(named)
        assert await apply_migrations(named) == []
        await revert_migrations(named, len(LABELS))
        await apply_migrations(named)
        assert await _tables(named, schema) == by_hand
    finally:
        await named.close()


async def test_a_role_without_the_right_to_make_schemas_uses_the_one_made_for_it(empty_database: Database) -> None:
    role = f"tenant_{empty_database.address.database}"
    await empty_database.execute(f"CREATE ROLE {role} LOGIN")
    await empty_database.execute(f"CREATE SCHEMA model_service AUTHORIZATION {role}")
    tenant = Database(replace(empty_database.address, user=role))
    await tenant.open()
    try:
        assert await apply_migrations(tenant) == LABELS
    finally:
        await tenant.close()
        await empty_database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_negative_count_is_refused(empty_database: Database) -> None:
    with pytest.raises(ValueError, match="count is -1"):
        await revert_migrations(empty_database, -1)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1_short.up.sql"], "must be like"),
        (["0001_one.up.sql"], r"0001_one\.down\.sql is missing"),
        (["0001_a.up.sql", "0001_a.down.sql", "0001_b.up.sql", "0001_b.down.sql"], "0001 is used by two"),
    ],
)
def test_wrong_sets_of_files_are_refused(names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        migrations_from(dict.fromkeys(names, ""))
