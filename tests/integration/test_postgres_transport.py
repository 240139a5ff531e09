"""What is particular to the transport of the embedded default."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from model_service.config.clock import SystemClock, VirtualClock
from model_service.database.connection import Database
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.postgres_session import ConsumerSession
from model_service.messaging.transport import PublishingRoute, PublishOutcome, TransportUnavailable
from tests.support.transports import bodies, numbered, receive, to_queue


@pytest_asyncio.fixture
async def transport(database: Database) -> AsyncIterator[PostgresTransport]:
    made = PostgresTransport(database, clock=SystemClock())
    await made.start()
    await made.declare_queue("work")
    yield made
    await made.close()


async def test_messages_of_a_dead_consumer_go_to_another(database: Database, transport: PostgresTransport) -> None:
    dying = transport.subscribe("work", declare=True)
    await transport.publish(to_queue("work", *numbered(3)))
    held = await receive(dying, 3)
    other = transport.subscribe("work", declare=True)
    assert await other.receive(wait_seconds=0) == []
    await _terminate(database, await _first_consumer(database))
    again = await receive(other, 3)
    assert bodies(again) == numbered(3)
    assert all(delivery.redelivered for delivery in again)
    await dying.acknowledge(held)
    await other.close()
    assert bodies(await receive(dying, 3)) == numbered(3)


async def test_receiving_without_waiting_is_one_statement(
    transport: PostgresTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = transport.subscribe("work", declare=True)
    assert await subscription.receive(wait_seconds=0) == []
    statements: list[str] = []
    fetch = ConsumerSession.fetch

    async def counted(session: ConsumerSession, text: str, *arguments: object) -> list[asyncpg.Record]:
        statements.append(text)
        return await fetch(session, text, *arguments)

    monkeypatch.setattr(ConsumerSession, "fetch", counted)
    assert await subscription.receive(wait_seconds=0) == []
    await transport.publish(to_queue("work", *numbered(3)))
    assert bodies(await subscription.receive(wait_seconds=0)) == numbered(3)
    assert len(statements) == 2


async def test_messages_expire_on_the_clock_of_the_transport(database: Database) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    transport = PostgresTransport(database, clock=clock)
    await transport.declare_queue("work")
    expires_at = clock.now() + timedelta(minutes=1)
    assert await transport.publish(to_queue("work", b"0", expires_at=expires_at)) == [PublishOutcome.CONFIRMED]
    subscription = transport.subscribe("work", declare=True)
    clock.advance_to(expires_at)
    assert await subscription.receive(wait_seconds=0) == []
    assert await transport.publish(to_queue("work", b"1", expires_at=expires_at)) == [PublishOutcome.NOT_SENT]
    await transport.close()
    assert await database.fetchval("SELECT count(*) FROM model_service.messages") == 0


async def test_a_waiting_consumer_gets_what_another_leaves(transport: PostgresTransport) -> None:
    first, second = (transport.subscribe("work", declare=True) for _ in range(2))
    await transport.publish(to_queue("work", b"0"))
    await receive(first, 1)
    waiting = asyncio.create_task(second.receive(wait_seconds=10))
    await asyncio.sleep(0.2)
    await first.close()
    async with asyncio.timeout(1):
        assert bodies(await waiting) == [b"0"]


STATES = ["53100", "53200", "57P05", "58030", "25006", "40P01"]
"""Of a full disk, too little memory, an operator's time limit, a broken disk, a standby, a deadlock."""


@pytest.mark.parametrize("sqlstate", STATES)
async def test_a_server_that_is_unwell_is_waited_for(
    database: Database, transport: PostgresTransport, sqlstate: str
) -> None:
    route = PublishingRoute("role", "signals", "work")
    subscription = transport.subscribe("work", declare=True)
    lease = await transport.lease_publishing(route)
    await lease.renew_route()
    messages = [replace(message, exchange="signals") for message in to_queue("work", b"work", b"more")]
    assert await lease.publish(messages[:1]) == [PublishOutcome.CONFIRMED]
    await _refuse_messages(database, sqlstate)
    with pytest.raises(TransportUnavailable, match="no space"):
        await subscription.receive(wait_seconds=0.5)
    assert await lease.publish(messages[1:]) == [PublishOutcome.UNKNOWN]
    assert not lease.is_held
    await database.execute("DROP TRIGGER refuse ON model_service.messages")
    (delivery,) = await receive(subscription, 1)
    assert await (await transport.lease_publishing(route)).publish(messages[1:]) == [PublishOutcome.CONFIRMED]
    await _refuse_messages(database, sqlstate)
    await subscription.acknowledge([delivery])
    await database.execute("DROP TRIGGER refuse ON model_service.messages")
    assert sorted(bodies(await receive(subscription, 2))) == [b"more", b"work"]


async def test_a_cancelled_receive_loses_nothing(transport: PostgresTransport) -> None:
    subscription = transport.subscribe("work", declare=True)
    for number in range(20):
        waiting = asyncio.create_task(subscription.receive(wait_seconds=5))
        await asyncio.sleep(0.002 * number)
        published = asyncio.create_task(transport.publish(to_queue("work", str(number).encode())))
        await asyncio.sleep(0.001 * number)
        waiting.cancel()
        (result,) = await asyncio.gather(waiting, return_exceptions=True)
        assert await published == [PublishOutcome.CONFIRMED]
        batch = result if isinstance(result, list) else await receive(subscription, 1)
        assert bodies(batch) == [str(number).encode()]
        await subscription.acknowledge(batch)


async def _refuse_messages(database: Database, sqlstate: str) -> None:
    await database.execute(
        "CREATE OR REPLACE FUNCTION model_service.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '{sqlstate}'; END $$"
    )
    await database.execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON model_service.messages"
        " FOR EACH ROW EXECUTE FUNCTION model_service.refuse()"
    )


async def _first_consumer(database: Database) -> int:
    """The server process of the consumer that connected first."""
    row = await database.fetchrow(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted) ORDER BY backend_start LIMIT 1"
    )
    assert row is not None
    return int(row["pid"])


async def _terminate(database: Database, pid: int) -> None:
    await database.execute("SELECT pg_terminate_backend($1)", pid)
