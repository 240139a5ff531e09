"""The pool: what it says when PostgreSQL is away, what it leaves alone, and that it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable, TransactionConflict
from model_service.database.embedded import EmbeddedPostgres

COUNT = "SELECT count(*) FROM model_service.message_queues"


async def _kill_own_connection(connection: object) -> None:
    assert isinstance(connection, asyncpg.pool.PoolConnectionProxy)
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest_asyncio.fixture
async def impatient(database: Database) -> AsyncIterator[Database]:
    """The same database with one connection and a short limit for statements."""
    opened = Database(database.address, pool_size=1, connect_timeout_seconds=0.5, command_timeout_seconds=0.2)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def test_json_and_utc(database: Database) -> None:
    row = await database.fetchrow("SELECT $1::jsonb AS body, current_setting('timezone') AS zone", {"a": [1, None]})
    assert row is not None
    assert (row["body"], row["zone"]) == ({"a": [1, None]}, "UTC")


async def test_a_connection_outside_the_pool_reads_json_too(database: Database) -> None:
    connection = await database.connect()
    try:
        assert await connection.fetchval("SELECT '{\"a\": 1}'::jsonb") == {"a": 1}
    finally:
        await connection.close()


async def test_a_transaction_is_taken_back_when_its_block_fails(database: Database) -> None:
    async def block() -> None:
        async with database.transaction() as connection:
            await connection.execute(database.sql("INSERT INTO model_service.message_queues VALUES ('q')"))
            raise KeyError("of the caller")

    with pytest.raises(KeyError):
        await block()
    assert await database.fetchval(COUNT) == 0


@pytest.mark.parametrize("error", [TimeoutError("mine"), FileNotFoundError("mine"), ValueError("mine")])
async def test_errors_of_the_block_pass_as_they_are(database: Database, error: Exception) -> None:
    with pytest.raises(type(error), match="mine"):
        async with database.transaction():
            raise error
    with pytest.raises(type(error), match="mine"):
        async with database.acquire():
            raise error


async def test_a_timeout_of_the_caller_stays_a_timeout(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with database.transaction() as connection, asyncio.timeout(0.05):
            await connection.execute("SELECT pg_sleep(30)")
    assert await database.fetchval("SELECT 1") == 1


async def test_an_error_of_a_source_that_the_driver_reads_stays_what_it_is(database: Database) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"q\n"
        raise FileNotFoundError("of the source")

    with pytest.raises(FileNotFoundError, match="of the source"):
        async with database.transaction() as connection:
            await connection.copy_to_table("message_queues", schema_name="model_service", source=source())


async def test_wrong_arguments_and_wrong_use_are_not_an_outage(database: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        await database.fetchval("SELECT $1::integer", "not a number")
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await database.fetchval("SELECT $1::integer")
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetchval("SELECT 1 FROM model_service.no_such_table")


@pytest.mark.parametrize("code", ["53100", "53200", "55006", "57014", "58030", "25006"])
async def test_the_state_of_the_server_is_an_outage(database: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="for the test") as caught:
        await database.execute(_failing_with(code))
    assert not isinstance(caught.value, TransactionConflict)


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_conflict_may_be_tried_again_at_once(database: Database, code: str) -> None:
    with pytest.raises(TransactionConflict, match="for the test"):
        await database.execute(_failing_with(code))


@pytest.mark.parametrize("code", ["22003", "23514", "42P01", "25001", "P0001"])
async def test_what_no_waiting_mends_passes_as_it_is(database: Database, code: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="for the test"):
        await database.execute(_failing_with(code))


def _failing_with(code: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END $$"


async def test_cancellation_passes_and_the_connection_is_given_back(impatient: Database) -> None:
    waiting = asyncio.Event()

    async def hold() -> None:
        async with impatient.transaction():
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await impatient.fetchval("SELECT 1") == 1


async def test_a_statement_over_its_limit_is_an_outage(impatient: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
        await impatient.execute("SELECT pg_sleep(30)")
    with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
        async with impatient.transaction() as connection:
            await connection.fetch("SELECT pg_sleep(30)")
    assert await impatient.fetchval("SELECT 1") == 1


async def test_no_free_connection_is_an_outage(impatient: Database) -> None:
    async with impatient.acquire():
        with pytest.raises(DatabaseUnavailable):
            await impatient.fetchval("SELECT 1")


async def test_a_connection_lost_in_a_block_is_an_outage_and_the_next_block_works(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as connection:
            await _kill_own_connection(connection)
    assert await database.fetchval("SELECT 1") == 1


async def test_using_a_lost_connection_again_is_an_outage_too(database: Database) -> None:
    async def block() -> None:
        async with database.acquire() as connection:
            with pytest.raises(asyncpg.PostgresError):
                await _kill_own_connection(connection)
            await connection.fetchval("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await block()
    assert await database.fetchval("SELECT 1") == 1


async def test_an_error_of_the_caller_is_kept_when_the_connection_is_lost_besides(database: Database) -> None:
    async def block() -> None:
        async with database.acquire() as connection:
            with pytest.raises(asyncpg.PostgresError):
                await _kill_own_connection(connection)
            raise KeyError("of the caller")

    with pytest.raises(KeyError):
        await block()


@pytest.mark.parametrize("change", [{"host": "/nowhere"}, {"database": "no_such"}, {"user": "nobody_here"}])
async def test_an_address_that_does_not_answer(postgres_server: DatabaseAddress, change: dict[str, str]) -> None:
    away = Database(replace(postgres_server, **change), connect_timeout_seconds=1.0)  # type: ignore[arg-type]
    with pytest.raises(DatabaseUnavailable, match=next(iter(change.values()))):
        await away.open()
    with pytest.raises(DatabaseUnavailable):
        await away.connect()
    with pytest.raises(DatabaseUnavailable, match="not connected"):
        await away.fetchval("SELECT 1")
    await away.close()


async def test_an_address_does_not_show_its_password(postgres_server: DatabaseAddress) -> None:
    secret = replace(postgres_server, password="hidden-word")
    assert "hidden-word" not in f"{secret} {secret!r} {[secret]}"


async def test_the_pool_survives_a_restart_of_the_server(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "postgres", durable=False)
    pool = Database(await server.start(), pool_size=3, connect_timeout_seconds=2.0)
    try:
        await pool.open()
        await pool.execute("CREATE TABLE kept AS SELECT 42 AS value")
        async with pool.acquire(), pool.acquire():
            await server.stop()
        with pytest.raises(DatabaseUnavailable):
            await pool.fetchval("SELECT value FROM kept")
        await server.start()
        assert await pool.fetchval("SELECT value FROM kept") == 42
    finally:
        await pool.close()
        await server.stop()
