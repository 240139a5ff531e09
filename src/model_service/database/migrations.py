"""Migrations: SQL files in order, each applied in one transaction and written down in `schema_migrations`.

Replicas may run them at the same time: each transaction takes the same advisory lock and looks again what is missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from model_service.database.connection import Connection, Database, DatabaseAddress

LONGEST_SECONDS = 3600.0
"""Limit of one migration, the wait for another replica's included."""
FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<direction>up|down)\.sql")

BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS model_service.schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    checksum   text NOT NULL
);
"""


class SchemaOutdated(Exception):  # noqa: N818 - the state of the database, not a programming error
    """The database lacks migrations that this version of the service needs; the text says which and what to do."""


class MigrationChanged(Exception):  # noqa: N818 - the state of the database, not a programming error
    """The file of an applied migration has been changed since, or is not there; the text says which."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema and its way back; SQL names the schema `model_service`."""

    version: int
    name: str
    up: str
    down: str

    @property
    def label(self) -> str:
        """As in the file names: `0001_initial`."""
        return f"{self.version:04d}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the way up, hexadecimal."""
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One migration as the database has it.

    `changed`: applied, but the file is another one now. `unknown`: applied by a newer version of the service.
    """

    version: int
    name: str
    state: Literal["applied", "pending", "changed", "unknown"]
    applied_at: datetime | None


async def apply_migrations(database: Database) -> list[str]:
    """Apply what is missing, each migration in a transaction of its own; returns the labels of those applied here.

    Raises:
        MigrationChanged: an applied migration's file has changed.
        DatabaseUnavailable: the connection was lost; what was applied stays.
    """
    done: list[str] = []
    while True:
        async with database.transaction() as connection:
            await _lock(database, connection)
            await _make_bookkeeping(database, connection)
            pending = _pending(await _applied(database, connection))
            if not pending:
                return done
            await _apply(database, connection, pending[0])
        done.append(pending[0].label)


async def revert_migrations(database: Database, count: int = 1) -> list[str]:
    """Take back the last `count` applied migrations, newest first; returns their labels.

    Raises:
        ValueError: `count` is negative.
        MigrationChanged: there is no way back in this version, because a newer one has applied it.
    """
    if count < 0:
        raise ValueError(f"count is {count}; it must be 0 or more migrations to take back")
    done: list[str] = []
    for _ in range(count):
        async with database.transaction() as connection:
            await _lock(database, connection)
            applied = await _applied(database, connection)
            if not applied:
                break
            migration = _known(applied[max(applied)])
            await _revert(database, connection, migration)
        done.append(migration.label)
    return done


async def migration_status(database: Database) -> list[MigrationState]:
    """All migrations, known here or found in the database, in order."""
    async with database.acquire() as connection:
        applied = await _applied(database, connection)
    known = {migration.version: migration for migration in load_migrations()}
    return [_state(known.get(version), applied.get(version)) for version in sorted(known | applied)]


async def check_schema(database: Database) -> None:
    """Pass if the database has every migration of this version; more, from a newer version, do no harm.

    Raises:
        SchemaOutdated: some are missing.
        MigrationChanged: an applied migration's file has changed.
    """
    async with database.acquire() as connection:
        pending = _pending(await _applied(database, connection))
    if pending:
        labels = ", ".join(migration.label for migration in pending)
        raise SchemaOutdated(f"PostgreSQL at {database.address} lacks {labels}; run `model-service db up`.")


def migrations_as_sql(schema: str) -> str:
    """All migrations as plain SQL for psql, with what `apply_migrations` writes down about them.

    It is for a database without any of them: running it twice fails at the first statement that finds its table.
    """
    translate = Database(DatabaseAddress("", 0, "", "", schema=schema)).sql
    parts = [f"BEGIN;\n\nCREATE SCHEMA IF NOT EXISTS model_service;\n{BOOKKEEPING}\nCOMMIT;\n"]
    parts += [_as_sql(migration) for migration in load_migrations()]
    return translate("\n".join(parts))


def _as_sql(migration: Migration) -> str:
    record = (
        "INSERT INTO model_service.schema_migrations (version, name, checksum)\n"
        f"VALUES ({migration.version}, '{migration.name}', '{migration.checksum}');"
    )
    return f"-- {migration.label}\nBEGIN;\n\n{migration.up.strip()}\n\n{record}\n\nCOMMIT;\n"


@lru_cache(maxsize=1)
def load_migrations() -> tuple[Migration, ...]:
    """The migrations of this version, in order.

    Raises:
        ValueError: a file has a name that is none, is half of a pair, or shares its number.
    """
    folder = files("model_service") / "migrations"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return migrations_from({name: (folder / name).read_text(encoding="utf-8") for name in names})


def migrations_from(texts: dict[str, str]) -> tuple[Migration, ...]:
    """Migrations from the texts of their files, by file name. Raises as `load_migrations`."""
    found = [_parsed(name) for name in texts]
    steps = sorted({(version, name) for version, name, _ in found})
    _check_numbers(version for version, _ in steps)
    return tuple(_paired(texts, version, name) for version, name in steps)


def _parsed(file_name: str) -> tuple[int, str, str]:
    match = FILE_NAME.fullmatch(file_name)
    if match is None:
        raise ValueError(f"migration file {file_name}: the name must be like 0001_initial.up.sql")
    return int(match["version"]), match["name"], match["direction"]


def _check_numbers(versions: Iterable[int]) -> None:
    listed = list(versions)
    twice = sorted({version for version in listed if listed.count(version) > 1})
    if twice:
        raise ValueError(f"migration number {twice[0]:04d} is used by two migrations; give one a new number")


def _paired(texts: dict[str, str], version: int, name: str) -> Migration:
    paths = [f"{version:04d}_{name}.{direction}.sql" for direction in ("up", "down")]
    missing = [path for path in paths if path not in texts]
    if missing:
        raise ValueError(f"migration file {missing[0]} is missing; every migration has a way up and a way down")
    return Migration(version, name, texts[paths[0]], texts[paths[1]])


@dataclass(frozen=True, slots=True)
class _Applied:
    version: int
    name: str
    applied_at: datetime
    checksum: str


async def _lock(database: Database, connection: Connection) -> None:
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('migrations of ' || $1, 0))",
        database.address.schema,
        timeout=LONGEST_SECONDS,
    )


async def _make_bookkeeping(database: Database, connection: Connection) -> None:
    # Looked for first, so that a role without the right to make schemas can use one that was made for it.
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", database.address.schema):
        await connection.execute(database.sql("CREATE SCHEMA model_service"))
    await connection.execute(database.sql(BOOKKEEPING))


async def _has_bookkeeping(database: Database, connection: Connection) -> bool:
    return bool(
        await connection.fetchval(database.sql("SELECT to_regclass('model_service.schema_migrations') IS NOT NULL"))
    )


async def _applied(database: Database, connection: Connection) -> dict[int, _Applied]:
    if not await _has_bookkeeping(database, connection):
        return {}
    rows = await connection.fetch(
        database.sql("SELECT version, name, applied_at, checksum FROM model_service.schema_migrations")
    )
    return {row["version"]: _Applied(**row) for row in rows}


def _pending(applied: dict[int, _Applied]) -> list[Migration]:
    known = load_migrations()
    for migration in known:
        _check_unchanged(migration, applied.get(migration.version))
    return [migration for migration in known if migration.version not in applied]


def _check_unchanged(migration: Migration, applied: _Applied | None) -> None:
    if applied is not None and applied.checksum != migration.checksum:
        raise MigrationChanged(
            f"Migration {migration.label} was applied on {applied.applied_at:%Y-%m-%d} from another text"
            f" (checksum {applied.checksum[:12]}, now {migration.checksum[:12]}):"
            " restore its file and put the change into a new migration."
        )


def _known(applied: _Applied) -> Migration:
    for migration in load_migrations():
        if migration.version == applied.version:
            return migration
    raise MigrationChanged(
        f"Migration {applied.version:04d}_{applied.name} was applied by a newer version of the service;"
        " take it back with that version."
    )


def _state(migration: Migration | None, applied: _Applied | None) -> MigrationState:
    if migration is None:
        if applied is None:
            raise ValueError("a migration is known here, or applied, or both")
        return MigrationState(applied.version, applied.name, "unknown", applied.applied_at)
    if applied is None:
        return MigrationState(migration.version, migration.name, "pending", None)
    state: Literal["applied", "changed"] = "applied" if applied.checksum == migration.checksum else "changed"
    return MigrationState(migration.version, migration.name, state, applied.applied_at)


async def _apply(database: Database, connection: Connection, migration: Migration) -> None:
    await connection.execute(database.sql(migration.up), timeout=LONGEST_SECONDS)
    await connection.execute(
        database.sql("INSERT INTO model_service.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"),
        migration.version,
        migration.name,
        migration.checksum,
    )


async def _revert(database: Database, connection: Connection, migration: Migration) -> None:
    await connection.execute(database.sql(migration.down), timeout=LONGEST_SECONDS)
    # The way back of the first migration drops the whole schema, this table with it.
    if await _has_bookkeeping(database, connection):
        await connection.execute(
            database.sql("DELETE FROM model_service.schema_migrations WHERE version = $1"), migration.version
        )
