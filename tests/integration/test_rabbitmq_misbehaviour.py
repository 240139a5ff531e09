"""What a broker, a network or a stranger may say must cost a message's headers or one connection, and nothing more."""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import aio_pika
import pytest
import uvloop
from structlog.testing import capture_logs
from yarl import URL

from model_service.config.clock import SystemClock
from model_service.messaging import rabbitmq_queues, rabbitmq_subscription
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.rabbitmq_connection import BrokerConnection
from model_service.messaging.rabbitmq_deliveries import WireDelivery
from model_service.messaging.rabbitmq_echo import echo_queue
from model_service.messaging.transport import OutgoingMessage, PublishingRoute, PublishOutcome
from tests.faults.proxy import FaultProxy
from tests.support.transports import PATIENCE_SECONDS, bodies, receive, to_queue, until_connected

NOTICED_SECONDS = 2.0
MALFORMED = struct.pack(">BHI", 1, 0, 1) + b"\x00\xce"
"""A method frame that ends before its method is named."""

Loop = Callable[[], asyncio.AbstractEventLoop]
T = TypeVar("T")


@asynccontextmanager
async def transport_to(url: str) -> AsyncIterator[RabbitTransport]:
    transport = RabbitTransport(url, clock=SystemClock())
    await transport.start()
    try:
        await until_connected(transport)
        yield transport
    finally:
        await transport.close()


@contextmanager
def much_stack() -> Iterator[None]:
    """The driver encodes nested tables by recursion."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


async def send_nested(channel: aio_pika.abc.AbstractChannel, queue: str, body: bytes, levels: int) -> None:
    """A message of which a header is nested so deeply."""
    nested: dict[str, Any] = {}
    for _ in range(levels):
        nested = {"a": nested}
    with much_stack():
        await channel.default_exchange.publish(aio_pika.Message(body, headers=nested), routing_key=queue)


@pytest.mark.parametrize("levels", [200, 450, 600, 1_500])
async def test_a_deeply_nested_header_costs_nothing_but_the_headers(rabbitmq_url: str, levels: int) -> None:
    queue = f"test.{uuid4().hex}"
    async with transport_to(rabbitmq_url) as transport, await aio_pika.connect(rabbitmq_url) as stranger:
        channel = await stranger.channel()
        await channel.declare_queue(queue, durable=True)
        await send_nested(channel, queue, b"poison", levels)
        await transport.publish(to_queue(queue, b"good"))
        with capture_logs() as logs:
            subscription = transport.subscribe(queue, declare=False)
            batch = await receive(subscription, 2)
            await subscription.acknowledge(batch)
        assert bodies(batch) == [b"poison", b"good"]
        assert not any(delivery.redelivered for delivery in batch)
        assert {entry["event"] for entry in logs} <= {"queue_consumed", "delivery_properties_unreadable"}
        await channel.queue_delete(queue)


async def test_a_strangers_message_in_the_echo_does_not_stop_the_publisher(rabbitmq_url: str) -> None:
    name = f"test.{uuid4().hex}"
    route = PublishingRoute(f"role.{name}", name, name)
    async with transport_to(rabbitmq_url) as transport, await aio_pika.connect(rabbitmq_url) as stranger:
        channel = await stranger.channel()
        await (await transport.lease_publishing(route)).release()
        await send_nested(channel, echo_queue(name), b"poison", 600)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await transport.queue_state(echo_queue(name))).messages:  # type: ignore[union-attr]
                await asyncio.sleep(0.02)
            lease = await transport.lease_publishing(route)
            assert [name async for batch in lease.accepted(complete=True) for name in batch] == [""]
            assert await lease.publish([OutgoingMessage(name, name, b"0", "id-0")]) == [PublishOutcome.CONFIRMED]
            assert [name async for batch in lease.accepted(complete=True) for name in batch] == ["id-0"]
        await lease.release()
        for queue in (name, echo_queue(name)):
            await channel.queue_delete(queue)
        await channel.exchange_delete(name)


async def test_a_taker_that_fails_ends_its_connection(rabbitmq_url: str) -> None:
    queue = f"test.{uuid4().hex}"

    def fail(_: WireDelivery) -> None:
        raise KeyError("a fault of ours")

    async with transport_to(rabbitmq_url) as transport:
        await transport.declare_queue(queue)
        connection = await BrokerConnection.open(rabbitmq_url, "test")
        channel = await connection.channel_for("test")
        with capture_logs() as logs:
            await connection.consume(channel, queue, fail)
            await transport.publish(to_queue(queue, b"0"))
            async with asyncio.timeout(NOTICED_SECONDS):
                await connection.lost.wait()
        await connection.end()
        assert [entry["event"] for entry in logs] == ["broker_stream_unreadable"]
        (delivery,) = await receive(transport.subscribe(queue, declare=True), 1)
        assert delivery.body == b"0"
    async with await aio_pika.connect(rabbitmq_url) as stranger:
        await (await stranger.channel()).queue_delete(queue)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
async def test_an_orderly_end_is_noticed_at_once(rabbitmq_url: str, new_loop: Loop) -> None:
    address = URL(rabbitmq_url)
    proxy = FaultProxy(address.port or 5672)
    await proxy.start()
    finish = partial(asyncio.get_running_loop().call_soon_threadsafe, proxy.finish)
    url = str(address.with_port(proxy.port))
    # In a thread of its own, since the loop of the service is the one that is tried.
    noticed_seconds, complaints = await asyncio.to_thread(_run_in, new_loop, _notice_an_orderly_end(url, finish))
    await proxy.close()
    assert noticed_seconds < NOTICED_SECONDS
    assert complaints == []


def _run_in(new_loop: Loop, trial: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(trial)


async def _notice_an_orderly_end(url: str, finish: Callable[[], object]) -> tuple[float, list[dict[str, Any]]]:
    """After how many seconds, and what asyncio complained of; it has to come back too."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with transport_to(url) as transport:
        began = time.monotonic()
        finish()
        async with asyncio.timeout(PATIENCE_SECONDS * 2):
            while transport._publishing.is_alive or transport._consuming.is_alive:
                await asyncio.sleep(0.01)
        noticed_seconds = time.monotonic() - began
        await until_connected(transport)
    return noticed_seconds, complaints


async def test_an_answer_that_is_not_amqp_is_outlived(rabbitmq_url: str) -> None:
    address = URL(rabbitmq_url)
    answers = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        answers += 1
        await reader.read(8)
        writer.write(MALFORMED)
        await writer.drain()
        await reader.read()
        writer.close()

    nonsense = await asyncio.start_server(answer, "127.0.0.1", 0)
    proxy = FaultProxy(nonsense.sockets[0].getsockname()[1])
    await proxy.start()
    transport = RabbitTransport(str(address.with_port(proxy.port)), clock=SystemClock())
    with capture_logs() as logs:
        await transport.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while answers < 4:
                await asyncio.sleep(0.02)
        proxy.target_port = address.port or 5672
        await until_connected(transport)
    assert [entry["event"] for entry in logs] == ["broker_unreachable"] * 2 + ["broker_connected"] * 2
    await transport.close()
    await proxy.close()
    nonsense.close()


async def test_a_consumer_outlives_what_nobody_expected(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = f"test.{uuid4().hex}"
    ensure_queue = rabbitmq_queues.ensure_queue
    faults = iter([ValueError("no AMQP"), ValueError("no AMQP either")])

    async def fails_twice(connection: BrokerConnection, name: str) -> str | None:
        if (fault := next(faults, None)) is not None:
            raise fault
        return await ensure_queue(connection, name)

    monkeypatch.setattr(rabbitmq_subscription, "ensure_queue", fails_twice)
    async with transport_to(rabbitmq_url) as transport:
        await transport.declare_queue(queue)
        await transport.publish(to_queue(queue, b"0"))
        with capture_logs() as logs:
            assert bodies(await receive(transport.subscribe(queue, declare=True), 1)) == [b"0"]
    assert [entry["event"] for entry in logs].count("consumer_failed") == 1
    async with await aio_pika.connect(rabbitmq_url) as stranger:
        await (await stranger.channel()).queue_delete(queue)
