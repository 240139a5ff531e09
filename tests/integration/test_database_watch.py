"""A PostgreSQL that falls silent is noticed within five seconds; everybody is told, and all works again by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.config.clock import SystemClock
from model_service.database import watch
from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.embedded import EmbeddedPostgres
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.transport import TransportUnavailable
from tests.support.black_hole import BlackHole, black_hole
from tests.support.transports import bodies, receive, to_queue

NOTICED_SECONDS = 5.0
BACK_SECONDS = 10.0


@pytest_asyncio.fixture
async def hole(database: Database) -> AsyncIterator[BlackHole]:
    """A way to the test's own database."""
    async with black_hole(database.address) as made:
        yield made


@pytest_asyncio.fixture
async def watched(hole: BlackHole) -> AsyncIterator[Database]:
    """That database over the way, and watched."""
    async with opened(hole.address) as made:
        yield made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch of a fifth of the patience, for what does not depend on how long it takes."""
    for name in ("INTERVAL_SECONDS", "LIMIT_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(watch, name, getattr(watch, name) / 5)


@asynccontextmanager
async def opened(address: DatabaseAddress, *, pool_size: int = 4) -> AsyncIterator[Database]:
    made = Database(address, pool_size=pool_size, watched=True)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no longer; what it waits for is the promise under test."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


async def until_it_serves(database: Database) -> None:
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            try:
                assert await database.fetchval("SELECT 1") == 1
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_everybody_who_waits_is_told_and_all_works_again_by_itself(hole: BlackHole, watched: Database) -> None:
    async def long_statement() -> None:
        await watched.execute("SELECT pg_sleep(60)")

    async def transaction(begun: asyncio.Event) -> None:
        async with watched.transaction() as connection:
            begun.set()
            await connection.execute("SELECT pg_sleep(60)")

    begun = asyncio.Event()
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(long_statement()), asyncio.create_task(transaction(begun))]
    await begun.wait()
    hole.swallow()
    waiting += [asyncio.create_task(watched.fetchval("SELECT 1")), asyncio.create_task(watched.connect())]
    with capture_logs() as logs, within(NOTICED_SECONDS):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 4
    assert any("no answer within 3 s" in str(result) for result in results)
    with within(0.1), pytest.raises(DatabaseUnavailable, match="no answer within 3 s"):
        await watched.fetchval("SELECT 1")
    with within(0.1), pytest.raises(DatabaseUnavailable, match="no answer within 3 s"):
        await watched.connect()
    with capture_logs() as later:
        # Long enough for several attempts to connect: the change is said once.
        await asyncio.sleep(4.0)
        hole.pass_on()
        await until_it_serves(watched)
    events = [line["event"] for line in [*logs, *later] if line["event"].startswith("database_")]
    assert [event for event in events if event != "database_connection_dropped"] == ["database_lost", "database_back"]


@pytest.mark.usefixtures("hasty")
async def test_nobody_waits_on_a_full_pool_of_a_silent_server(hole: BlackHole) -> None:
    async with opened(hole.address, pool_size=1) as watched, watched.acquire():
        hole.swallow()
        waiting = [asyncio.create_task(watched.fetchval("SELECT 1")) for _ in range(3)]
        with within(NOTICED_SECONDS):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {DatabaseUnavailable}


async def test_a_slow_statement_of_a_server_that_answers_is_not_cut(watched: Database) -> None:
    await watched.execute("SELECT pg_sleep(5)")


async def test_a_server_that_is_held_up_for_a_second_is_not_cut(hole: BlackHole, watched: Database) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            hole.swallow()
            await asyncio.sleep(1.0)
            hole.pass_on()
            await watched.execute("SELECT pg_sleep(0.5)")
    assert logs == []


async def test_a_service_that_is_held_up_itself_does_not_blame_the_server(watched: Database) -> None:
    with capture_logs() as logs:
        time.sleep(4.0)
        await asyncio.sleep(0.7)
        time.sleep(1.0)
        await asyncio.sleep(0.7)
    assert logs == []


async def test_cut_connections_alone_are_no_outage(database: Database, watched: Database) -> None:
    with capture_logs() as logs:
        ended = await database.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await asyncio.sleep(2.0)
        assert await watched.fetchval("SELECT 2") == 2
    assert ended == 2
    assert logs == []


@pytest.mark.usefixtures("hasty")
async def test_what_a_lost_connection_held_is_free_when_all_works_again(hole: BlackHole, watched: Database) -> None:
    async def hold() -> None:
        async with watched.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(7)")
            hole.swallow()
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await hold()
    hole.pass_on()
    await until_it_serves(watched)
    assert await watched.fetchval("SELECT pg_try_advisory_lock(7)")


async def test_a_cancelled_transaction_stays_cancelled_when_the_connection_is_lost_besides(
    hole: BlackHole, watched: Database
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with watched.transaction() as connection:
            begun.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    await begun.wait()
    hole.swallow()
    await asyncio.sleep(0.1)
    task.cancel()
    with within(NOTICED_SECONDS), pytest.raises(asyncio.CancelledError):
        await task


async def test_a_caller_s_own_time_limit_stays_one(hole: BlackHole, watched: Database) -> None:
    hole.swallow()
    with within(NOTICED_SECONDS), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await watched.fetchval("SELECT 1")


@pytest.mark.usefixtures("hasty")
async def test_closing_does_not_wait_for_a_silent_server(hole: BlackHole) -> None:
    async with opened(hole.address) as watched:
        await watched.fetchval("SELECT 1")
        hole.swallow()
        with within(NOTICED_SECONDS):
            await watched.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "database-watch"]


async def test_a_consumer_of_the_embedded_transport_is_told_and_gets_its_messages_again(
    hole: BlackHole, watched: Database
) -> None:
    transport = PostgresTransport(watched, clock=SystemClock())
    await transport.start()
    await transport.declare_queue("work")
    subscription = transport.subscribe("work", declare=True)
    await transport.publish(to_queue("work", b"taken"))
    assert bodies(await receive(subscription, 1)) == [b"taken"]
    hole.swallow()
    with within(NOTICED_SECONDS), pytest.raises(TransportUnavailable):
        await subscription.receive(wait_seconds=30)
    hole.pass_on()
    await until_it_serves(watched)
    again = await receive(subscription, 1)
    assert bodies(again) == [b"taken"]
    await subscription.acknowledge(again)
    await transport.close()


async def test_a_killed_and_a_stopped_server(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "postgres", durable=False)
    address = await server.start()
    try:
        async with opened(address) as watched:
            with stopped(open_folder), within(NOTICED_SECONDS), pytest.raises(DatabaseUnavailable):
                await watched.execute("SELECT 1")
            await until_it_serves(watched)
            waiting = asyncio.create_task(watched.execute("SELECT pg_sleep(60)"))
            await watched.fetchval("SELECT 1")
            with within(1.0):
                for pid in processes(open_folder):
                    os.kill(pid, signal.SIGKILL)
                with pytest.raises(DatabaseUnavailable):
                    await waiting
            await server.stop()
            await server.start()
            await until_it_serves(watched)
    finally:
        await server.stop()


def processes(folder: Path) -> list[int]:
    """The server and its children."""
    postmaster = int((folder / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """All processes of the server are stopped (SIGSTOP) meanwhile."""
    pids = processes(folder)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
