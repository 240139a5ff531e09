"""What the consumer of executions owes while PostgreSQL refuses a batch, over both transports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.config.clock import SystemClock
from model_service.consumers.executions import ExecutionConsumer
from model_service.consumers.fills import FillDeriver
from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.dead_letters import DeadLetters
from model_service.database.executions import ExecutionStore
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import Transport
from tests.integration.test_stores import BUY_ID, decided, with_signals
from tests.support.builders import NOON
from tests.support.transports import PATIENCE_SECONDS, to_queue, until_connected

CLOCK = SystemClock()
MakeTransport = Callable[[], Transport]


def flat_event(event_id: str, **changes: Any) -> bytes:
    """A fill of BUY_ID, of 0.1 at 50,000."""
    event = {
        "event_id": event_id, "order_id": "order-1", "signal_id": str(BUY_ID), "strategy_id": "momentum_v1",
        "asset": "BTCUSDT", "side": "buy", "execution_price": 50000.0, "execution_quantity": 0.1,
        "execution_fees": 5.0, "executed_at": "2026-03-02T12:00:05Z",
    }  # fmt: skip
    return json.dumps(event | changes).encode()


@pytest.fixture(params=["postgres", "rabbitmq"])
def make_transport(request: pytest.FixtureRequest, database: Database) -> MakeTransport:
    if request.param == "postgres":
        return lambda: PostgresTransport(database, clock=CLOCK)
    url = request.getfixturevalue("rabbitmq_url")
    return lambda: RabbitTransport(url, clock=CLOCK)


@pytest_asyncio.fixture
async def transport(make_transport: MakeTransport) -> AsyncIterator[Transport]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        made = make_transport()
        await made.start()
        await until_connected(made)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def queue(request: pytest.FixtureRequest, transport: Transport) -> AsyncIterator[str]:
    name = f"test.{uuid4().hex}"
    await transport.declare_queue(name)
    yield name
    if isinstance(transport, RabbitTransport):
        async with await aio_pika.connect(request.getfixturevalue("rabbitmq_url")) as connection:
            await (await connection.channel()).queue_delete(name)


async def consumer_with(
    database: Database, transport: Transport, queue: str, *events: bytes, prefetch: int = 400
) -> ExecutionConsumer:
    """A consumer of a queue that holds `events`, with the signal that they are fills of."""
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await transport.publish(to_queue(queue, *events))
    subscription = transport.subscribe(queue, prefetch=prefetch, declare=True)
    return ExecutionConsumer(subscription, ExecutionStore(database), DeadLetters(database))


async def take(consumer: ExecutionConsumer, count: int) -> None:
    """Steps until `count` messages are settled. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while count > 0:
            count -= await consumer.step(NOON, wait_seconds=1.0)
    assert count == 0


async def refuse(database: Database, code: str, when: str = "true") -> None:
    """Let PostgreSQL refuse rows of execution_events with this SQLSTATE."""
    await database.execute(
        "CREATE OR REPLACE FUNCTION model_service.refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN IF {when} THEN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
    )
    await database.execute(
        "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON model_service.execution_events"
        " FOR EACH ROW EXECUTE FUNCTION model_service.refuse()"
    )


async def accept(database: Database) -> None:
    await database.execute("DROP TRIGGER refuse ON model_service.execution_events")


async def recorded(database: Database) -> list[str]:
    rows = await database.fetch("SELECT event_id FROM model_service.execution_events ORDER BY received_at, event_id")
    return [row["event_id"] for row in rows]


async def derived_fills(database: Database) -> int:
    """How many fills there are once all that waits is derived."""
    deriver = FillDeriver(ExecutionStore(database))
    await deriver.catch_up(NOON)
    assert await database.fetchval("SELECT count(*) FROM model_service.underived_executions") == 0
    count: int = await database.fetchval("SELECT count(*) FROM model_service.fills")
    assert count == deriver.fills
    return count


async def dead_letters(database: Database) -> list[tuple[str, bytes]]:
    rows = await database.fetch("SELECT reason_code, body FROM model_service.dead_letters ORDER BY dead_letter_id")
    return [tuple(row) for row in rows]


async def ready_in(transport: Transport, queue: str) -> int:
    state = await transport.queue_state(queue)
    assert state is not None
    return state.messages


@pytest.mark.parametrize("code", ["53100", "25006", "55006", "P0001"])
async def test_a_batch_is_held_until_it_can_be_recorded(
    database: Database, transport: Transport, queue: str, code: str
) -> None:
    consumer = await consumer_with(database, transport, queue, *(flat_event(str(n)) for n in range(5)), prefetch=3)
    await refuse(database, code)
    expected = asyncpg.PostgresError if code == "P0001" else DatabaseUnavailable
    for _ in range(3):
        with pytest.raises(expected, match="for the test"):
            await consumer.step(NOON, wait_seconds=5.0)
        assert await ready_in(transport, queue) == 2, "nothing is given back, nothing beyond the prefetch is taken"
    await accept(database)
    await take(consumer, 5)
    assert sorted(await recorded(database)) == ["0", "1", "2", "3", "4"]
    assert await dead_letters(database) == []
    assert await derived_fills(database) == 5


async def test_only_what_cannot_be_stored_becomes_a_dead_letter(
    database: Database, transport: Transport, queue: str
) -> None:
    names = ["a", "b", "c", "POISON1", "e", "f", "g", "POISON2", "POISON3", "j"]
    events = [flat_event(name) for name in names]
    consumer = await consumer_with(database, transport, queue, *events, b"not json")
    await refuse(database, "23514", "NEW.event_id LIKE 'POISON%'")
    with capture_logs() as logs:
        await take(consumer, 11)
    refused = [log for log in logs if log["event"] == "execution_refused"]
    assert refused == [{"event": "execution_refused", "log_level": "warning", "queue": queue, "code": "invalid_json"}]
    assert sorted(await recorded(database)) == ["a", "b", "c", "e", "f", "g", "j"]
    assert sorted(await dead_letters(database)) == [
        ("invalid_json", b"not json"),
        ("not_storable", events[3]),
        ("not_storable", events[7]),
        ("not_storable", events[8]),
    ]
    reason = await database.fetchval("SELECT reason FROM model_service.dead_letters WHERE body = $1", events[3])
    assert reason == "23514: for the test"
    assert await derived_fills(database) == 7


async def test_what_was_recorded_of_a_batch_stays_when_the_server_goes_away_in_the_middle(
    database: Database, transport: Transport, queue: str
) -> None:
    consumer = await consumer_with(database, transport, queue, *(flat_event(name) for name in "abPdefgh"))
    await refuse(database, "23514", "NEW.event_id = 'P'")
    await database.execute(
        "CREATE FUNCTION model_service.full() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = '53100'; END $$"
    )
    await database.execute(
        "CREATE TRIGGER zz BEFORE INSERT ON model_service.execution_events FOR EACH ROW"
        " WHEN (NEW.event_id = 'h') EXECUTE FUNCTION model_service.full()"
    )
    with pytest.raises(DatabaseUnavailable, match="disk full"):
        await take(consumer, 8)
    await database.execute("DROP TRIGGER zz ON model_service.execution_events")
    await take(consumer, 8)
    assert sorted(await recorded(database)) == ["a", "b", "d", "e", "f", "g", "h"]
    assert [code for code, _ in await dead_letters(database)] == ["not_storable"]
    assert consumer.recorded == 7


async def test_a_deadlock_is_tried_again_at_once(database: Database, transport: Transport, queue: str) -> None:
    consumer = await consumer_with(database, transport, queue, flat_event("a"))
    await database.execute("CREATE SEQUENCE model_service.attempts")  # what it counts outlives a rollback
    await refuse(database, "40P01", "nextval('model_service.attempts') <= 2")
    assert await consumer.step(NOON, wait_seconds=5.0) == 1
    assert await recorded(database) == ["a"]


async def test_a_cancelled_step_leaves_its_messages_to_the_next(
    database: Database, transport: Transport, queue: str
) -> None:
    consumer = await consumer_with(database, transport, queue, flat_event("a"), flat_event("b"))
    async with database.transaction() as other:
        await other.execute("LOCK TABLE model_service.execution_events")
        step = asyncio.create_task(take(consumer, 2))
        await _until_someone_waits_for_a_lock(database)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert await ready_in(transport, queue) == 0
    await take(consumer, 2)
    assert sorted(await recorded(database)) == ["a", "b"]


async def test_a_batch_that_another_consumer_has_recorded_meanwhile_counts_once(
    database: Database, make_transport: MakeTransport, transport: Transport, queue: str
) -> None:
    first = await consumer_with(database, transport, queue, flat_event("a"), flat_event("b"))
    await refuse(database, "53100")
    with pytest.raises(DatabaseUnavailable):
        await first.step(NOON, wait_seconds=5.0)
    await transport.close()
    await accept(database)
    fresh = make_transport()
    await fresh.start()
    second = ExecutionConsumer(fresh.subscribe(queue, declare=True), ExecutionStore(database), DeadLetters(database))
    await take(second, 2)
    assert await first.step(NOON) == 2, "its tags are stale, and nobody minds"
    await fresh.close()
    assert (first.recorded, second.recorded) == (0, 2)
    assert await derived_fills(database) == 2


async def _until_someone_waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.02)


async def test_an_execution_from_the_far_future_is_a_dead_letter(
    database: Database, transport: Transport, queue: str
) -> None:
    events = flat_event("good"), flat_event("late", executed_at="2199-12-31T00:00:00Z")
    await take(await consumer_with(database, transport, queue, *events), 2)
    assert await recorded(database) == ["good"]
    letter = await database.fetchrow("SELECT reason_code, reason FROM model_service.dead_letters")
    assert letter is not None
    assert letter["reason_code"] == "invalid_value"
    assert "executed_at" in letter["reason"]
    assert "the service's clock" in letter["reason"]


async def test_a_fill_is_not_earlier_than_its_signal(database: Database, transport: Transport, queue: str) -> None:
    await take(await consumer_with(database, transport, queue, flat_event("old", executed_at="2000-01-01")), 1)
    await ExecutionStore(database).derive(NOON)
    times = await database.fetch(
        "SELECT executed_at, opened_at, first_filled_at, decided_at FROM model_service.fills"
        " JOIN model_service.lots USING (signal_id) JOIN model_service.trading_signals USING (signal_id)"
    )
    assert len(times) == 1
    assert len(set(times[0].values())) == 1
