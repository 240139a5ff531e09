"""What only RabbitMQ can do to us: restarts, freezes, foreign and deleted queues, and refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.config.clock import SystemClock
from model_service.messaging import rabbitmq_publisher
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.transport import PublishingRoute, PublishOutcome, Transport, TransportUnavailable
from tests.support.rabbitmq import PrivateBroker
from tests.support.transports import PATIENCE_SECONDS, bodies, numbered, receive, to_queue, until_connected

CLOCK = SystemClock()
NOWHERE = "amqp://someone:secret@127.0.0.1:1/"


@asynccontextmanager
async def transport_to(url: str) -> AsyncIterator[RabbitTransport]:
    transport = RabbitTransport(url, clock=CLOCK)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


@pytest_asyncio.fixture
async def transport(rabbitmq_url: str) -> AsyncIterator[Transport]:
    async with transport_to(rabbitmq_url) as made:
        await until_connected(made)
        yield made


@pytest_asyncio.fixture
async def other_service(rabbitmq_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel of somebody else."""
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        yield await connection.channel()


async def test_all_goes_on_after_a_restart_of_the_broker(private_broker: PrivateBroker) -> None:
    queue = _name()
    async with transport_to(private_broker.url) as transport:
        await until_connected(transport)
        subscription = transport.subscribe(queue, declare=True)
        await transport.declare_queue(queue)
        await transport.publish(to_queue(queue, *numbered(10)))
        held = await receive(subscription, 4)
        await subscription.acknowledge(held[:2])
        # The acknowledgement is on its way, and nothing tells when the broker has it but an answer on the same channel.
        await asyncio.sleep(0.2)
        await private_broker.stop()
        await _until_lost(transport)
        await private_broker.start()
        await until_connected(transport)
        await subscription.acknowledge(held[2:])
        again = await receive(subscription, 8)
        assert bodies(again) == numbered(10)[2:]
        assert {delivery.tag for delivery in again}.isdisjoint(delivery.tag for delivery in held)
        await subscription.acknowledge(again)
        assert await transport.publish(to_queue(queue, b"new")) == [PublishOutcome.CONFIRMED]
        assert bodies(await receive(subscription, 1)) == [b"new"]


async def test_confirmed_messages_outlive_a_killed_broker(private_broker: PrivateBroker) -> None:
    queue = _name()
    async with transport_to(private_broker.url) as transport:
        await until_connected(transport)
        await transport.declare_queue(queue)
        # RabbitMQ itself may forget a queue that was declared within about two seconds of a SIGKILL: its metadata are
        # written with a delay, and no event says when.
        await asyncio.sleep(3)
        assert set(await transport.publish(to_queue(queue, *numbered(50)))) == {PublishOutcome.CONFIRMED}
        private_broker.kill()
        await _until_lost(transport)
        with pytest.raises(TransportUnavailable, match="RabbitMQ at 127"):
            await transport.publish(to_queue(queue, b"lost"))
        await private_broker.start()
        assert bodies(await receive(transport.subscribe(queue, declare=True), 50)) == numbered(50)


async def test_a_publish_without_an_answer_is_unknown_and_ends_its_connection(
    private_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq_publisher, "CONFIRM_SECONDS", 0.5)
    queue = _name()
    async with transport_to(private_broker.url) as transport:
        await until_connected(transport)
        await transport.declare_queue(queue)
        await transport.publish(to_queue(queue, b"warm"))
        private_broker.pause()
        try:
            outcomes = await transport.publish(to_queue(queue, *numbered(3)))
            assert outcomes == [PublishOutcome.UNKNOWN] * 3
            assert not transport.is_connected
        finally:
            private_broker.resume()
        await until_connected(transport)
        assert await transport.publish(to_queue(queue, b"after")) == [PublishOutcome.CONFIRMED]


async def test_closing_is_quick_while_the_broker_does_not_answer(private_broker: PrivateBroker) -> None:
    queue = _name()
    async with transport_to(private_broker.url) as transport:
        await until_connected(transport)
        transport.subscribe(queue, declare=True)
        private_broker.pause()
        began = time.monotonic()
        await transport.close()
        assert time.monotonic() - began < 6


async def test_without_a_broker_nothing_spins_and_no_secret_is_told() -> None:
    with capture_logs() as logs:
        async with transport_to(NOWHERE) as transport:
            assert not transport.is_connected
            subscription = transport.subscribe("work", declare=True)
            began = time.monotonic()
            with pytest.raises(TransportUnavailable, match=r"RabbitMQ at 127.0.0.1:1") as refused:
                await subscription.receive(wait_seconds=0)
            with pytest.raises(TransportUnavailable):
                await transport.declare_queue("work")
            with pytest.raises(TransportUnavailable):
                await transport.publish(to_queue("work", b"0"))
            assert time.monotonic() - began >= 0.5
    assert [entry["event"] for entry in logs] == ["broker_unreachable"] * 2
    assert "secret" not in f"{logs} {refused.value}"


async def test_a_wrong_password_is_said_without_telling_it(rabbitmq_url: str) -> None:
    with capture_logs() as logs:
        async with transport_to(rabbitmq_url.replace("guest:guest@", "guest:secret@")) as transport:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not logs:
                    await asyncio.sleep(0.02)
            assert not transport.is_connected
    assert logs[0]["event"] == "broker_unreachable"
    assert "ACCESS_REFUSED" in logs[0]["reason"]
    assert "secret" not in str(logs)


async def test_a_virtual_host_that_is_not_there_is_named(rabbitmq_url: str) -> None:
    async with transport_to(f"{rabbitmq_url.rstrip('/')}/nowhere") as transport:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "'nowhere'" not in str(transport._publishing.unavailable):
                await asyncio.sleep(0.02)
        # The same words each time: what waits for the broker says it once.
        assert "object at" not in str(transport._publishing.unavailable)


async def test_a_deleted_queue_of_ours_is_declared_again(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    queue = _name()
    subscription = transport.subscribe(queue, declare=True)
    await _until_there(transport, queue)
    await other_service.queue_delete(queue)
    await _until_there(transport, queue)
    await transport.publish(to_queue(queue, b"0"))
    assert bodies(await receive(subscription, 1)) == [b"0"]
    await other_service.queue_delete(queue)


async def test_a_deleted_queue_of_others_is_waited_for(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    queue = _name()
    await other_service.declare_queue(queue, durable=True)
    subscription = transport.subscribe(queue, declare=False)
    await transport.publish(to_queue(queue, b"before"))
    await subscription.acknowledge(await receive(subscription, 1))
    await other_service.queue_delete(queue)
    assert await subscription.receive(wait_seconds=0.5) == []
    assert await transport.queue_state(queue) is None
    await other_service.declare_queue(queue, durable=True, arguments={"x-max-length": 7})
    await transport.publish(to_queue(queue, b"after"))
    assert bodies(await receive(subscription, 1)) == [b"after"]
    await other_service.queue_delete(queue)


async def test_a_queue_with_other_arguments_is_used_as_it_is(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    queue = _name()
    await other_service.declare_queue(queue, durable=True, arguments={"x-message-ttl": 60_000})
    with capture_logs() as logs:
        for _ in range(2):
            await transport.declare_queue(queue)
        subscription = transport.subscribe(queue, declare=True)
        await transport.publish(to_queue(queue, b"0"))
        assert bodies(await receive(subscription, 1)) == [b"0"]
    refusals = [entry for entry in logs if entry["event"] == "queue_has_other_arguments"]
    assert len(refusals) == 2, "one of the transport, one of the subscription"
    assert all("x-message-ttl" in entry["reason"] for entry in refusals)
    await other_service.queue_delete(queue)


async def test_an_exchange_of_another_type_is_refused_in_words(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    name = _name()
    await other_service.declare_exchange(name, aio_pika.ExchangeType.FANOUT)
    with pytest.raises(TransportUnavailable, match=f"RabbitMQ refused .*{name}.*PRECONDITION_FAILED"):
        await transport.lease_publishing(PublishingRoute(f"role.{name}", name, name))
    await other_service.exchange_delete(name)
    await other_service.queue_delete(name)


async def test_a_queue_that_is_full_refuses_only_its_own_messages(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    full, queue = _name(), _name()
    await other_service.declare_queue(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await transport.declare_queue(queue)
    messages = to_queue(full, b"0", b"1") + to_queue(queue, b"2")
    confirmed, refused = PublishOutcome.CONFIRMED, PublishOutcome.REFUSED
    assert await transport.publish(messages) == [confirmed, refused, confirmed]
    for name in (full, queue):
        await other_service.queue_delete(name)


async def test_closing_at_any_moment_ends_the_work_in_the_background(rabbitmq_url: str) -> None:
    before = asyncio.all_tasks()
    for number in range(25):
        async with asyncio.timeout(10), transport_to(rabbitmq_url) as transport:
            transport.subscribe(_name(), declare=False)
            await asyncio.sleep(0.004 * number)
    # A connection attempt that was given up may still run into its own time limit first.
    async with asyncio.timeout(20):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.02)


async def test_messages_are_persistent_and_carry_their_expiration(
    transport: Transport, other_service: aio_pika.abc.AbstractChannel
) -> None:
    queue = _name()
    await transport.declare_queue(queue)
    expires_at = CLOCK.now().replace(year=CLOCK.now().year + 1)
    assert await transport.publish(to_queue(queue, b"0", expires_at=expires_at)) == [PublishOutcome.CONFIRMED]
    message = await (await other_service.get_queue(queue)).get(no_ack=True)
    assert message is not None
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert isinstance(message.expiration, (int, float))
    assert abs(message.expiration - (expires_at - CLOCK.now()).total_seconds()) < 5
    await other_service.queue_delete(queue)


def _name() -> str:
    return f"test.{uuid4().hex}"


async def _until_lost(transport: Transport) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while transport.is_connected:
            await asyncio.sleep(0.02)


async def _until_there(transport: Transport, queue: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (state := await transport.queue_state(queue)) is None or state.consumers == 0:
            await asyncio.sleep(0.02)
