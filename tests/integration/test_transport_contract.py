"""What every transport promises; each test runs over RabbitMQ and over PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio

from model_service.config.clock import SystemClock
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.rabbitmq_echo import echo_queue
from model_service.messaging.transport import OutgoingMessage, PublishingRoute, PublishOutcome, Transport
from tests.support.transports import bodies, numbered, receive, to_queue, until_connected

CLOCK = SystemClock()


@dataclass(frozen=True)
class Adapter:
    """How to make a transport and how to remove what a test has declared with it."""

    make: Callable[[], Transport]
    remove: Callable[[str], Awaitable[None]]


@pytest.fixture(params=["postgres", "rabbitmq"])
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    if request.param == "postgres":
        database = request.getfixturevalue("database")
        yield Adapter(lambda: PostgresTransport(database, clock=CLOCK), _nothing_to_remove)
    else:
        url = request.getfixturevalue("rabbitmq_url")
        yield Adapter(lambda: RabbitTransport(url, clock=CLOCK), lambda name: _remove(url, name))


async def _nothing_to_remove(_name: str) -> None:
    """The whole database goes."""


async def _remove(url: str, name: str) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.queue_delete(name)
    await channel.exchange_delete(name)
    await connection.close()


@pytest_asyncio.fixture
async def transport(adapter: Adapter) -> AsyncIterator[Transport]:
    made = adapter.make()
    await made.start()
    await until_connected(made)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def queue(adapter: Adapter, transport: Transport) -> AsyncIterator[str]:
    """An empty queue of the test's own."""
    name = f"test.{uuid4().hex}"
    await transport.declare_queue(name)
    yield name
    await adapter.remove(name)


async def test_a_message_arrives_as_it_was_sent(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    message = OutgoingMessage("", queue, b'{"price": "1.5"}', "id-1", {"trace_id": "t-1", "other": "\u00e9"})
    assert await transport.publish([message]) == [PublishOutcome.CONFIRMED]
    (delivery,) = await receive(subscription, 1)
    assert (delivery.body, delivery.message_id) == (message.body, "id-1")
    assert delivery.headers == {"trace_id": "t-1", "other": "\u00e9"}
    assert not delivery.redelivered


async def test_messages_arrive_in_the_order_in_which_they_were_sent(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, *numbered(500)))
    received: list[bytes] = []
    for _ in range(5):
        batch = await receive(subscription, 100)
        received += bodies(batch)
        await subscription.acknowledge(batch)
    assert received == numbered(500)


async def test_a_batch_holds_no_more_than_its_limit(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, *numbered(5)))
    first = await subscription.receive(limit=3, wait_seconds=5, linger_seconds=0.5)
    assert bodies(first) == numbered(3)
    assert bodies(await receive(subscription, 2)) == [b"3", b"4"]


async def test_no_more_messages_are_handed_out_than_the_prefetch(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, prefetch=3, declare=True)
    await transport.publish(to_queue(queue, *numbered(5)))
    held = await receive(subscription, 3)
    assert await subscription.receive(wait_seconds=0.2) == []
    await subscription.acknowledge(held)
    assert bodies(await receive(subscription, 2)) == [b"3", b"4"]


async def test_what_a_closed_subscription_had_not_settled_comes_again(transport: Transport, queue: str) -> None:
    closed = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, *numbered(4)))
    batch = await receive(closed, 4)
    # The third before the first: settling one must not settle what came before it.
    await closed.acknowledge([batch[2]])
    await closed.acknowledge([batch[0]])
    await closed.close()
    again = await receive(transport.subscribe(queue, declare=True), 2)
    assert sorted(bodies(again)) == [b"1", b"3"]
    assert all(delivery.redelivered for delivery in again)


async def test_settling_twice_settles_nothing_else(adapter: Adapter, transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, *numbered(3)))
    batch = await receive(subscription, 3)
    await subscription.acknowledge(batch[:1])
    await subscription.acknowledge(batch[:1])
    await subscription.close()
    assert sorted(await _left_in(adapter, transport, queue)) == [b"1", b"2"]


async def test_two_subscriptions_share_a_queue_without_duplicates(
    adapter: Adapter, transport: Transport, queue: str
) -> None:
    subscriptions = [transport.subscribe(queue, prefetch=20, declare=True) for _ in range(2)]
    for subscription in subscriptions:
        assert await subscription.receive(wait_seconds=0.1) == []
    await transport.publish(to_queue(queue, *numbered(200)))
    received: list[bytes] = []
    async with asyncio.timeout(20):
        while len(received) < 200:
            for subscription in subscriptions:
                batch = await subscription.receive(limit=20, wait_seconds=0.5)
                received += bodies(batch)
                await subscription.acknowledge(batch)
    assert sorted(received) == sorted(numbered(200))
    assert await _left_in(adapter, transport, queue) == []


async def test_a_message_that_no_queue_takes_is_unroutable(transport: Transport, queue: str) -> None:
    absent = f"test.{uuid4().hex}"
    messages = [*to_queue(queue, b"0"), *to_queue(absent, b"1"), *to_queue(queue, b"2")]
    confirmed, unroutable = PublishOutcome.CONFIRMED, PublishOutcome.UNROUTABLE
    assert await transport.publish(messages) == [confirmed, unroutable, confirmed]
    assert await transport.publish([OutgoingMessage(absent, queue, b"3", "3")]) == [unroutable]
    assert await transport.publish(to_queue(queue, b"4")) == [confirmed]
    assert bodies(await receive(transport.subscribe(queue, declare=True), 3)) == [b"0", b"2", b"4"]


async def test_an_exchange_routes_to_the_queue_that_is_bound_to_it(
    adapter: Adapter, transport: Transport, queue: str
) -> None:
    lease = await transport.lease_publishing(PublishingRoute(f"role.{queue}", queue, queue))
    await lease.renew_route()
    await lease.release()
    outcomes = await transport.publish(
        [OutgoingMessage(queue, queue, b"bound", "1"), OutgoingMessage(queue, "else", b"", "2")]
    )
    assert outcomes == [PublishOutcome.CONFIRMED, PublishOutcome.UNROUTABLE]
    assert bodies(await receive(transport.subscribe(queue, declare=True), 1)) == [b"bound"]
    await adapter.remove(echo_queue(queue))


async def test_the_state_of_a_queue_is_seen_without_declaring_it(transport: Transport, queue: str) -> None:
    absent = f"test.{uuid4().hex}"
    assert await transport.queue_state(absent) is None
    assert await transport.queue_state(absent) is None
    await transport.publish(to_queue(queue, *numbered(3)))
    state = await transport.queue_state(queue)
    assert state is not None
    assert (state.name, state.messages, state.consumers) == (queue, 3, 0)
    await receive(transport.subscribe(queue, declare=True), 3)
    state = await transport.queue_state(queue)
    assert state is not None
    assert (state.messages, state.consumers) == (0, 1)


async def test_receiving_without_waiting_returns_at_once(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, b"0"))
    await receive(subscription, 1)
    began = time.monotonic()
    assert await subscription.receive(wait_seconds=0) == []
    assert time.monotonic() - began < 0.15


async def test_a_waiting_receive_is_woken_by_a_message(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    await transport.publish(to_queue(queue, b"warm"))
    await subscription.acknowledge(await receive(subscription, 1))
    waiting = asyncio.create_task(subscription.receive(wait_seconds=10))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    began = time.monotonic()
    await transport.publish(to_queue(queue, b"news"))
    assert bodies(await waiting) == [b"news"]
    assert time.monotonic() - began < 1.0


async def test_a_message_that_has_expired_is_never_delivered(
    adapter: Adapter, transport: Transport, queue: str
) -> None:
    now = CLOCK.now()
    late = to_queue(queue, b"late", expires_at=now - timedelta(seconds=1))
    assert await transport.publish(late) == [PublishOutcome.NOT_SENT]
    soon = to_queue(queue, b"soon", expires_at=now + timedelta(milliseconds=300))
    lasting = to_queue(queue, b"lasting", expires_at=now + timedelta(minutes=5))
    assert await transport.publish([*soon, *lasting]) == [PublishOutcome.CONFIRMED] * 2
    await asyncio.sleep(0.5)
    assert bodies(await receive(transport.subscribe(queue, declare=True), 1)) == [b"lasting"]
    assert await _left_in(adapter, transport, queue) == [b"lasting"]


async def test_a_large_message_arrives_whole(transport: Transport, queue: str) -> None:
    body = b"0123456789" * 100_000
    assert await transport.publish(to_queue(queue, body)) == [PublishOutcome.CONFIRMED]
    assert bodies(await receive(transport.subscribe(queue, declare=True), 1)) == [body]


async def test_a_queue_of_others_is_waited_for_and_not_declared(adapter: Adapter, transport: Transport) -> None:
    absent = f"test.{uuid4().hex}"
    subscription = transport.subscribe(absent, declare=False)
    assert await subscription.receive(wait_seconds=0.5) == []
    assert await transport.queue_state(absent) is None
    await transport.declare_queue(absent)
    await transport.publish(to_queue(absent, b"at last"))
    assert bodies(await receive(subscription, 1)) == [b"at last"]
    await adapter.remove(absent)


async def test_closing_wakes_who_waits(transport: Transport, queue: str) -> None:
    subscription = transport.subscribe(queue, declare=True)
    waiting = asyncio.create_task(subscription.receive(wait_seconds=30))
    await asyncio.sleep(0.3)
    await subscription.close()
    async with asyncio.timeout(2):
        await asyncio.gather(waiting, return_exceptions=True)


async def _left_in(adapter: Adapter, transport: Transport, queue: str) -> list[bytes]:
    """What a consumer still gets that comes after all others have gone."""
    await transport.close()
    fresh = adapter.make()
    await fresh.start()
    await until_connected(fresh)
    try:
        subscription = fresh.subscribe(queue, declare=False)
        left = []
        while batch := await subscription.receive(wait_seconds=0.5):
            left += bodies(batch)
        return left
    finally:
        await fresh.close()
