"""The order of things for bad input: row, copy, mark, acknowledgement; and that bad input never stops good input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.config.clock import SystemClock
from model_service.consumers.dead_letter_office import DeadLetterOffice
from model_service.consumers.executions import ExecutionConsumer
from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database
from model_service.database.dead_letters import DeadLetters, fingerprint_of
from model_service.database.executions import ExecutionStore
from model_service.messaging import rabbitmq_publisher
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import Delivery, OutgoingMessage, PublishOutcome, Subscription, Transport
from tests.support.builders import NOON
from tests.support.rabbitmq import PrivateBroker
from tests.support.transports import receive, to_queue, until_connected

CLOCK = SystemClock()
POISON = b'{"event_id": "poison"}'
REASON = InvalidMessage("unknown_shape", "", "neither shape")
GOOD = json.dumps(
    {
        "event_id": "good", "order_id": "o", "signal_id": "s", "asset": "BTCUSDT", "side": "buy",
        "execution_price": 1, "execution_quantity": 1, "execution_fees": 0, "executed_at": "2026-03-02T12:00:00Z",
    }
).encode()  # fmt: skip


@pytest.fixture(params=["postgres", "rabbitmq"])
def make_transport(request: pytest.FixtureRequest) -> Iterator[Callable[[], Transport]]:
    database = request.getfixturevalue("database")
    if request.param == "postgres":
        yield lambda: PostgresTransport(database, clock=CLOCK)
    else:
        url = request.getfixturevalue("rabbitmq_url")
        yield lambda: RabbitTransport(url, clock=CLOCK)


@pytest_asyncio.fixture
async def transport(make_transport: Callable[[], Transport]) -> AsyncIterator[Transport]:
    made = make_transport()
    await made.start()
    await until_connected(made)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def rabbitmq(rabbitmq_url: str) -> AsyncIterator[Transport]:
    made = RabbitTransport(rabbitmq_url, clock=CLOCK)
    await made.start()
    await until_connected(made)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def operator(rabbitmq_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Somebody with the broker's tools."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


def name() -> str:
    return f"test.{uuid4().hex}"


def office_for(database: Database, transport: Transport, queue: str) -> DeadLetterOffice:
    return DeadLetterOffice(DeadLetters(database), transport, queue=queue)


async def letters_of(database: Database) -> list[Any]:
    return await database.fetch("SELECT * FROM model_service.dead_letters ORDER BY dead_letter_id")


async def depth(transport: Transport, queue: str) -> int:
    state = await transport.queue_state(queue)
    return -1 if state is None else state.messages


class Witness:
    """A subscription that looks at the world at the moment of each acknowledgement."""

    def __init__(self, inner: Subscription, look: Callable[[], Any]) -> None:
        self._inner, self._look = inner, look
        self.seen: list[Any] = []
        self.queue = inner.queue
        self.receive, self.close = inner.receive, inner.close

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.seen.append(await self._look())
        await self._inner.acknowledge(deliveries)


class WatchedTransport:
    """A transport that looks at the world at the moment of each publish, takes its time, and passes all else on."""

    def __init__(self, inner: Transport, look: Callable[[], Any]) -> None:
        self._inner, self._look = inner, look
        self.seen: list[Any] = []

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        self.seen.append(await self._look())
        await asyncio.sleep(0.3)
        return await self._inner.publish(messages)


async def consume_one(consumer: ExecutionConsumer) -> None:
    async with asyncio.timeout(20):
        while not await consumer.step(NOON, wait_seconds=1.0):
            pass


async def test_the_row_comes_first_then_the_copy_and_its_mark_and_only_then_the_acknowledgement(
    database: Database, transport: Transport
) -> None:
    source, queue = name(), name()

    async def look() -> tuple[int, int, int]:
        rows = await letters_of(database)
        return len(rows), sum(row["copied_at"] is not None for row in rows), await depth(transport, queue)

    watched: Any = WatchedTransport(transport, look)
    witness = Witness(transport.subscribe(source, declare=True), look)
    consumer = ExecutionConsumer(witness, ExecutionStore(database), office_for(database, watched, queue))
    await transport.declare_queue(source)
    await transport.publish(to_queue(source, POISON, GOOD))
    await consume_one(consumer)
    assert watched.seen == [(1, 0, 0)], "when the copy was sent: rows, rows with the mark, copies"
    assert set(witness.seen) == {(1, 1, 1)}, "when the original was acknowledged"
    copy = (await receive(transport.subscribe(queue, declare=False), 1))[0]
    assert (copy.body, copy.message_id) == (POISON, fingerprint_of(source, POISON))
    assert copy.headers == {"source": source, "reason_code": "unknown_shape"}


async def test_the_same_poison_a_thousand_times_is_one_row_and_one_copy(
    database: Database, transport: Transport
) -> None:
    source, queue = name(), name()
    subscription = transport.subscribe(source, declare=True)
    consumer = ExecutionConsumer(subscription, ExecutionStore(database), office_for(database, transport, queue))
    await transport.declare_queue(source)
    await transport.publish(to_queue(source, *[POISON] * 1000))
    taken = 0
    async with asyncio.timeout(60):
        while taken < 1000:
            taken += await consumer.step(NOON, wait_seconds=1.0)
    (letter,) = await letters_of(database)
    assert letter["occurrences"] == 1000
    assert await depth(transport, queue) == 1


async def test_replicas_that_meet_the_same_letter_at_once_make_one_copy(
    database: Database, transport: Transport
) -> None:
    queue = name()
    await transport.declare_queue(queue)
    offices = [office_for(database, transport, queue) for _ in range(6)]
    await asyncio.gather(*(office.keep("q", [(POISON, REASON), (b"other", REASON)], NOON) for office in offices))
    assert [letter["occurrences"] for letter in await letters_of(database)] == [6, 6]
    async with asyncio.timeout(10):
        while any(letter["copied_at"] is None for letter in await letters_of(database)):
            await asyncio.sleep(0.02)
    assert await depth(transport, queue) == 2


async def test_what_a_dead_process_had_kept_but_not_copied_is_copied_by_the_next(
    database: Database, transport: Transport
) -> None:
    queue = name()
    bodies = [str(number).encode() for number in range(45)]
    await DeadLetters(database).keep("q", [(body, REASON) for body in bodies], NOON)
    office = office_for(database, transport, queue)
    while await office.step(NOON):
        pass
    assert await depth(transport, queue) == 45
    assert all(letter["copied_at"] == NOON for letter in await letters_of(database))


async def test_a_deleted_queue_is_there_again_with_the_next_copy(
    database: Database, rabbitmq: Transport, operator: aio_pika.abc.AbstractChannel
) -> None:
    queue = name()
    office = office_for(database, rabbitmq, queue)
    await office.keep("q", [(b"first", REASON)], NOON)
    await operator.queue_delete(queue)
    with capture_logs() as logs:
        await office.keep("q", [(b"second", REASON)], NOON)
    assert await depth(rabbitmq, queue) == 1
    await operator.declare_queue(queue, durable=True)  # as we declare it, else the broker would refuse this
    assert [log["event"] for log in logs] == []


async def test_a_queue_with_other_arguments_is_left_as_it_is_and_said_once(
    database: Database, rabbitmq: Transport, operator: aio_pika.abc.AbstractChannel
) -> None:
    queue = name()
    foreign: Any = {"x-max-length": 0, "x-overflow": "reject-publish"}
    await operator.declare_queue(queue, durable=True, arguments=foreign)
    office = office_for(database, rabbitmq, queue)
    with capture_logs() as logs:
        for body in (b"first", b"second", b"third"):
            await office.keep("q", [(body, REASON)], NOON)
        assert await office.step(NOON) == 0
    assert [letter["copied_at"] for letter in await letters_of(database)] == [None] * 3
    assert [log["event"] for log in logs] == ["queue_has_other_arguments", "dead_letter_copies_waiting"]
    await operator.declare_queue(queue, durable=True, arguments=foreign)


async def test_blocked_publishers_stop_no_good_input_and_the_copy_follows(
    database: Database, private_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq_publisher, "CONFIRM_SECONDS", 60.0)
    source, queue = name(), name()
    transport = RabbitTransport(private_broker.url, clock=CLOCK)
    await transport.start()
    await until_connected(transport)
    office = office_for(database, transport, queue)
    subscription = transport.subscribe(source, declare=True)
    consumer = ExecutionConsumer(subscription, ExecutionStore(database), office)
    await transport.declare_queue(source)
    await transport.publish(to_queue(source, POISON, GOOD))
    await private_broker.set_memory_alarm(True)
    try:
        await consume_one(consumer)
        (letter,) = await letters_of(database)
        assert letter["copied_at"] is None
        assert await database.fetchval("SELECT count(*) FROM model_service.execution_events") == 1
        await subscription.close()
        assert await depth(transport, source) == 0, "both were acknowledged"
    finally:
        await private_broker.set_memory_alarm(False)
    async with asyncio.timeout(60):
        while (await letters_of(database))[0]["copied_at"] is None:
            await office.step(CLOCK.now())
            await asyncio.sleep(0.1)
    assert await depth(transport, queue) == 1
    await office.close()
    await transport.close()


async def test_while_copies_wait_the_row_is_enough_at_once(database: Database, private_broker: PrivateBroker) -> None:
    transport = RabbitTransport(private_broker.url, clock=CLOCK)
    await transport.start()
    await until_connected(transport)
    looks: list[int] = []

    async def look() -> None:
        looks.append(len(await letters_of(database)))

    watched: Any = WatchedTransport(transport, look)
    office = office_for(database, watched, name())
    await private_broker.set_memory_alarm(True)
    try:
        for number in range(50):
            await office.keep("q", [(str(number).encode(), REASON)], NOON)
    finally:
        await private_broker.set_memory_alarm(False)
        await office.close()
        await transport.close()
    assert looks == [1], "only the first letter was tried while it was kept"
    assert len(await letters_of(database)) == 50


async def test_a_letter_that_the_broker_never_takes_holds_back_no_other(
    database: Database, private_broker: PrivateBroker
) -> None:
    await private_broker.evaluate("application:set_env(rabbit, max_message_size, 1000)")
    transport = RabbitTransport(private_broker.url, clock=CLOCK)
    await transport.start()
    await until_connected(transport)
    queue = name()
    office = office_for(database, transport, queue)
    letters = DeadLetters(database)
    await letters.keep("q", [(b"x" * 2000, REASON), *((str(n).encode(), REASON) for n in range(8))], NOON)
    try:
        async with asyncio.timeout(60):
            while await database.fetchval("SELECT count(copied_at) FROM model_service.dead_letters") < 8:
                await office.step(CLOCK.now())
                await asyncio.sleep(0.05)
        assert await depth(transport, queue) >= 8
    finally:
        await private_broker.evaluate("application:set_env(rabbit, max_message_size, 134217728)")
        await transport.close()
