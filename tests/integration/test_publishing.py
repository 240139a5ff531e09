"""Signals reach the broker once or not at all, whoever publishes and whatever breaks; over both transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import aio_pika
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.config.clock import SystemClock
from model_service.contracts.signals import SIGNAL_EXCHANGE, SIGNAL_QUEUE
from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.outbox import Outbox
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.rabbitmq import RabbitTransport
from model_service.messaging.rabbitmq_echo import echo_queue
from model_service.messaging.rabbitmq_lease import RabbitPublishingLease
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingLease,
    PublishingRoute,
    PublishOutcome,
    RoleTaken,
    Transport,
    TransportUnavailable,
)
from model_service.publishers.signal_publisher import PUBLISHER_ROLE, ROUTE, SignalPublisher
from model_service.services.ports import DecidedSignal
from tests.integration.test_stores import decided, with_signals
from tests.support.rabbitmq import PrivateBroker
from tests.support.transports import PATIENCE_SECONDS, receive, until_connected

CLOCK = SystemClock()


@dataclass(frozen=True)
class Adapter:
    """How to make a transport, and the database of the test."""

    make: Callable[[], Transport]
    database: Database
    is_rabbitmq: bool


@pytest.fixture(params=["postgres", "rabbitmq"])
def adapter(request: pytest.FixtureRequest, database: Database) -> Iterator[Adapter]:
    if request.param == "postgres":
        yield Adapter(lambda: PostgresTransport(database, clock=CLOCK), database, False)
    else:
        url = request.getfixturevalue("rabbitmq_url")
        yield Adapter(lambda: RabbitTransport(url, clock=CLOCK), database, True)
        asyncio.run(_clean(url))


async def _clean(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for queue in (SIGNAL_QUEUE, echo_queue(SIGNAL_EXCHANGE)):
            await channel.queue_delete(queue)
        await channel.exchange_delete(SIGNAL_EXCHANGE)


@asynccontextmanager
async def connected(adapter: Adapter) -> AsyncIterator[Transport]:
    transport = adapter.make()
    await transport.start()
    try:
        await until_connected(transport)
        yield transport
    finally:
        await transport.close()


@pytest_asyncio.fixture
async def transport(adapter: Adapter) -> AsyncIterator[Transport]:
    async with connected(adapter) as made:
        yield made


@pytest.fixture
def route() -> PublishingRoute:
    """The signals' own exchange and queue."""
    return PublishingRoute(PUBLISHER_ROLE, SIGNAL_EXCHANGE, SIGNAL_QUEUE)


async def lease_of(transport: Transport, route: PublishingRoute) -> PublishingLease:
    """The lease, waited for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                lease = await transport.lease_publishing(route)
            except (RoleTaken, TransportUnavailable):
                await asyncio.sleep(0.05)
            else:
                await lease.renew_route()
                return lease


def message(name: str, *, seconds: float | None = None) -> OutgoingMessage:
    expires_at = None if seconds is None else CLOCK.now() + timedelta(seconds=seconds)
    return OutgoingMessage(SIGNAL_EXCHANGE, SIGNAL_QUEUE, name.encode(), name, {}, expires_at)


async def accepted(lease: PublishingLease) -> list[str]:
    return sorted([name async for batch in lease.accepted(complete=True) for name in batch])


async def test_one_connection_holds_the_role_until_it_gives_it_up(
    adapter: Adapter, transport: Transport, route: PublishingRoute
) -> None:
    first = await lease_of(transport, route)
    async with connected(adapter) as other:
        with pytest.raises(RoleTaken, match=PUBLISHER_ROLE):
            await other.lease_publishing(route)
        await first.release()
        assert not first.is_held
        assert (await lease_of(other, route)).is_held


async def test_a_successor_learns_what_was_accepted_from_a_predecessor_that_vanished(
    adapter: Adapter, route: PublishingRoute
) -> None:
    async with connected(adapter) as vanishing:
        lease = await lease_of(vanishing, route)
        names = [f"name-{number:03}" for number in range(450)]
        assert set(await lease.publish([message(name) for name in names])) == {PublishOutcome.CONFIRMED}
    async with connected(adapter) as successor:
        lease = await lease_of(successor, route)
        assert await accepted(lease) == names
        await lease.release()


async def test_what_expired_unread_was_accepted_all_the_same(
    adapter: Adapter, transport: Transport, route: PublishingRoute
) -> None:
    lease = await lease_of(transport, route)
    await lease.publish([message("short", seconds=1.5), message("long")])
    await lease.release()
    await asyncio.sleep(1.6)
    successor = await lease_of(transport, route)
    assert await accepted(successor) == ["long", "short"]
    await successor.release()


async def test_an_expired_message_is_not_sent(transport: Transport, route: PublishingRoute) -> None:
    lease = await lease_of(transport, route)
    outcomes = await lease.publish([message("late", seconds=-1), message("timely", seconds=30)])
    assert outcomes == [PublishOutcome.NOT_SENT, PublishOutcome.CONFIRMED]
    (delivery,) = await receive(transport.subscribe(SIGNAL_QUEUE, declare=False), 1)
    assert delivery.message_id == "timely"
    await lease.release()


# The publisher


def signals(count: int, *, seconds: float = 60) -> list[DecidedSignal]:
    """Decided now, for the strategies' own sake in this order."""
    now = CLOCK.now()
    made = []
    for number in range(count):
        one = decided(uuid4(), Side.BUY)
        moment = now + timedelta(microseconds=number)
        expires_at = now + timedelta(seconds=seconds)
        made.append(replace(one, signal=replace(one.signal, timestamp=moment, expires_at=expires_at)))
    return made


def publisher_of(database: Database, transport: Transport) -> SignalPublisher:
    return SignalPublisher(Outbox(database, PUBLISHER_ROLE), transport)


async def step(publisher: SignalPublisher) -> int:
    """One step that sends something, with the connection and the role waited for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(TransportUnavailable):
                if sent := await publisher.step(CLOCK.now()):
                    return sent
            await asyncio.sleep(0.05)


async def statuses(database: Database) -> dict[str, int]:
    rows = await database.fetch("SELECT status, count(*) FROM model_service.trading_signals GROUP BY 1")
    return {row[0]: row[1] for row in rows}


async def delivered(transport: Transport, count: int) -> list[str]:
    subscription = transport.subscribe(SIGNAL_QUEUE, declare=False)
    deliveries = await receive(subscription, count)
    await subscription.acknowledge(deliveries)
    assert await subscription.receive(wait_seconds=0.3) == []
    return [delivery.message_id or "" for delivery in deliveries]


async def test_each_signal_is_published_once_in_order_and_marked(adapter: Adapter, transport: Transport) -> None:
    sent = signals(3)
    await with_signals(adapter.database, *sent)
    publisher = publisher_of(adapter.database, transport)
    assert await step(publisher) == 3
    assert await publisher.step(CLOCK.now()) == 0
    assert await delivered(transport, 3) == [str(one.signal.signal_id) for one in sent]
    assert await statuses(adapter.database) == {"published": 3}
    await publisher.close()


async def test_an_expired_signal_is_marked_and_never_sent(adapter: Adapter, transport: Transport) -> None:
    await with_signals(adapter.database, *signals(1, seconds=-1), *signals(1))
    publisher = publisher_of(adapter.database, transport)
    assert await step(publisher) == 1
    assert await statuses(adapter.database) == {"published": 1, "expired": 1}
    assert len(await delivered(transport, 1)) == 1
    await publisher.close()


class Forgetful(Outbox):
    """An outbox whose process dies between the broker's word and its own writing."""

    async def settle(self, states: object, now: object) -> None:
        if states:
            raise DatabaseUnavailable("killed")


async def test_a_kill_after_the_brokers_word_sends_nothing_twice(adapter: Adapter) -> None:
    await with_signals(adapter.database, *signals(5))
    async with connected(adapter) as dying:
        publisher = SignalPublisher(Forgetful(adapter.database, PUBLISHER_ROLE), dying)
        with pytest.raises(DatabaseUnavailable):
            await step(publisher)
    assert await statuses(adapter.database) == {"pending": 5}
    async with connected(adapter) as transport:
        successor = publisher_of(adapter.database, transport)
        await with_signals(adapter.database, *signals(1))
        assert await step(successor) == 1
        assert await statuses(adapter.database) == {"published": 6}
        assert len(set(await delivered(transport, 6))) == 6
        await successor.close()


async def test_what_a_former_version_left_half_sent_is_sent(adapter: Adapter, transport: Transport) -> None:
    await with_signals(adapter.database, *signals(5))
    await adapter.database.execute("UPDATE model_service.trading_signals SET status = 'sending'")
    publisher = publisher_of(adapter.database, transport)
    assert await step(publisher) == 5
    assert len(set(await delivered(transport, 5))) == 5
    await publisher.close()


async def test_a_former_holder_writes_nothing(adapter: Adapter, transport: Transport) -> None:
    await with_signals(adapter.database, *signals(2))
    former = Outbox(adapter.database, PUBLISHER_ROLE)
    await former.take(CLOCK.now())
    claimed = (await former.next_batch(CLOCK.now(), 1)).signals
    publisher = publisher_of(adapter.database, transport)
    assert await step(publisher) == 2
    waiting = signals(1)
    await with_signals(adapter.database, *waiting)
    await former.settle({claimed[0].signal_id: "expired", waiting[0].signal.signal_id: "published"}, CLOCK.now())
    await former.mark_accepted([waiting[0].signal.signal_id], CLOCK.now())
    assert (await former.next_batch(CLOCK.now())).signals == []
    assert await statuses(adapter.database) == {"published": 2, "pending": 1}
    await publisher.close()


async def test_a_signal_with_an_order_is_never_sent_again(adapter: Adapter, transport: Transport) -> None:
    with_order, without = signals(2)
    await with_signals(adapter.database, with_order, without)
    await adapter.database.execute(
        "UPDATE model_service.trading_signals SET order_state = 'filled' WHERE signal_id = $1",
        with_order.signal.signal_id,
    )
    publisher = publisher_of(adapter.database, transport)
    assert await step(publisher) == 1
    assert await delivered(transport, 1) == [str(without.signal.signal_id)]
    assert await statuses(adapter.database) == {"published": 2}
    await publisher.close()


async def test_a_replica_stands_by_and_takes_over(adapter: Adapter, transport: Transport) -> None:
    first = publisher_of(adapter.database, transport)
    await with_signals(adapter.database, *signals(1))
    assert await step(first) == 1
    async with connected(adapter) as other:
        second = publisher_of(adapter.database, other)
        with capture_logs() as logs:
            assert [await second.step(CLOCK.now()) for _ in range(3)] == [0, 0, 0]
        assert [entry["event"] for entry in logs].count("publisher_stands_by") == 1
        await first.close()
        await with_signals(adapter.database, *signals(2))
        assert await step(second) == 2
        await second.close()


def ids(made: list[DecidedSignal]) -> list[UUID]:
    return [one.signal.signal_id for one in made]


@pytest_asyncio.fixture
async def rabbit(database: Database, rabbitmq_url: str) -> AsyncIterator[Adapter]:
    """What only RabbitMQ can do."""
    yield Adapter(lambda: RabbitTransport(rabbitmq_url, clock=CLOCK), database, True)
    await _clean(rabbitmq_url)


async def test_a_lost_binding_or_queue_is_made_again(rabbit: Adapter, rabbitmq_url: str) -> None:
    async with connected(rabbit) as transport, await aio_pika.connect(rabbitmq_url) as connection:
        publisher = publisher_of(rabbit.database, transport)
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        channel = await connection.channel()
        await channel.queue_delete(SIGNAL_QUEUE)
        await asyncio.sleep(1.1)
        later = signals(2)
        await with_signals(rabbit.database, *later)
        assert await step(publisher) == 2
        assert await delivered(transport, 2) == [str(one) for one in ids(later)]
        await publisher.close()


async def test_a_deleted_exchange_is_told_and_made_again(rabbit: Adapter, rabbitmq_url: str) -> None:
    async with connected(rabbit) as transport, await aio_pika.connect(rabbitmq_url) as connection:
        publisher = publisher_of(rabbit.database, transport)
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        channel = await connection.channel()
        await channel.exchange_delete(SIGNAL_EXCHANGE)
        await with_signals(rabbit.database, *signals(3))
        with capture_logs() as logs:
            await publisher.step(CLOCK.now())
        assert "publish_unconfirmed" in [entry["event"] for entry in logs]
        assert await statuses(rabbit.database) == {"published": 1, "pending": 3}
        assert await step(publisher) == 3
        assert len(set(await delivered(transport, 4))) == 4
        await publisher.close()


async def test_giving_up_the_role_is_no_loss(rabbit: Adapter) -> None:
    async with connected(rabbit) as transport:
        lease = await lease_of(transport, ROUTE)
        with capture_logs() as logs:
            await lease.release()
            await (await lease_of(transport, ROUTE)).release()
        assert "broker_lost" not in [entry["event"] for entry in logs]


async def test_without_a_queue_a_signal_is_unroutable_and_never_marked_sent(rabbit: Adapter, rabbitmq_url: str) -> None:
    async with connected(rabbit) as transport, await aio_pika.connect(rabbitmq_url) as connection:
        publisher = publisher_of(rabbit.database, transport)
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        channel = await connection.channel()
        exchange = await channel.get_exchange(SIGNAL_EXCHANGE)
        # At once: the binding is made again when a second has passed.
        await (await channel.get_queue(SIGNAL_QUEUE)).unbind(exchange, SIGNAL_QUEUE)
        await with_signals(rabbit.database, *signals(1))
        with capture_logs() as logs:
            await publisher.step(CLOCK.now())
        assert "signals_unroutable" in [entry["event"] for entry in logs if entry["log_level"] == "error"]
        await publisher.close()
        assert await statuses(rabbit.database) == {"published": 1, "unroutable": 1}
        await asyncio.sleep(1.0)
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        # The echo has all three by now, and still only two were sent.
        assert await statuses(rabbit.database) == {"published": 2, "unroutable": 1}
        await publisher.close()


async def test_nothing_is_delivered_before_the_last_word(rabbit: Adapter, rabbitmq_url: str) -> None:
    """A connection that ends between the messages and the commit has sent nothing, and remembers nothing."""
    async with connected(rabbit) as transport:
        lease = await lease_of(transport, ROUTE)
        transaction = lease._transaction  # type: ignore[attr-defined]
        await transaction.put([message("one"), message("two")], CLOCK.now(), 5.0)
        await lease.release()
        successor = await lease_of(transport, ROUTE)
        assert await accepted(successor) == []
        state = await transport.queue_state(SIGNAL_QUEUE)
        assert state is not None
        assert state.messages == 0
        await successor.release()


async def test_a_broker_without_memory_gets_no_signal_and_delivers_none_late(
    database: Database, private_broker: PrivateBroker
) -> None:
    adapter = Adapter(lambda: RabbitTransport(private_broker.url, clock=CLOCK), database, True)
    async with connected(adapter) as transport:
        publisher = publisher_of(database, transport)
        await with_signals(database, *signals(1))
        assert await step(publisher) == 1
        await private_broker.set_memory_alarm(True)
        try:
            await with_signals(database, *signals(3, seconds=2.0))
            for _ in range(3):
                with pytest.raises(TransportUnavailable, match=r"lacks memory or disk|take a probe"):
                    await publisher.step(CLOCK.now())
            await asyncio.sleep(2.0)
        finally:
            await private_broker.set_memory_alarm(False)
        later = signals(2)
        await with_signals(database, *later)
        assert await step(publisher) == 2
        assert await statuses(database) == {"published": 3, "expired": 3}
        assert (await delivered(transport, 3))[1:] == [str(one) for one in ids(later)]
        await publisher.close()
    await _clean(private_broker.url)


async def test_what_no_queue_took_stays_known_when_the_database_and_the_lease_are_lost(
    rabbit: Adapter, rabbitmq_url: str
) -> None:
    """The echo has an unroutable signal too, so what the process knows goes first."""
    async with connected(rabbit) as transport, await aio_pika.connect(rabbitmq_url) as connection:
        outbox = FailingOnce(rabbit.database, PUBLISHER_ROLE)
        publisher = SignalPublisher(outbox, transport)
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        exchange = await (channel := await connection.channel()).get_exchange(SIGNAL_EXCHANGE)
        await (await channel.get_queue(SIGNAL_QUEUE)).unbind(exchange, SIGNAL_QUEUE)
        await with_signals(rabbit.database, *signals(1))
        outbox.fails = True
        with pytest.raises(DatabaseUnavailable):
            await publisher.step(CLOCK.now())
        await publisher._lease.release()  # type: ignore[union-attr]
        await with_signals(rabbit.database, *signals(1))
        assert await step(publisher) == 1
        assert await statuses(rabbit.database) == {"published": 2, "unroutable": 1}
        await publisher.close()


class FailingOnce(Outbox):
    """An outbox whose database is away for one writing."""

    fails = False

    async def settle(self, states: Mapping[UUID, str], now: datetime) -> None:
        if states and self.fails:
            self.fails = False
            raise DatabaseUnavailable("away for a moment")
        await super().settle(states, now)


async def test_the_broker_forgets_a_signal_before_it_expires(rabbit: Adapter, rabbitmq_url: str) -> None:
    async with connected(rabbit) as transport, await aio_pika.connect(rabbitmq_url) as connection:
        lease = await lease_of(transport, ROUTE)
        await lease.publish([message("short", seconds=5.0), message("long", seconds=60.0)])
        queue = await (await connection.channel()).get_queue(SIGNAL_QUEUE)
        expirations = {}
        while (one := await queue.get(no_ack=True, fail=False)) is not None:
            expirations[one.message_id] = float(str(one.expiration))
        # Half of what is left, or a second, is for the way to the commit.
        assert 0 < expirations["short"] <= 4.0
        assert 0 < expirations["long"] <= 59.0
        await lease.release()


class Jumping:
    """A clock that has jumped ahead by the time it is asked again."""

    def __init__(self) -> None:
        self.jumps: list[float] = []

    def now(self) -> datetime:
        """The present, and the next jump."""
        return CLOCK.now() + timedelta(seconds=self.jumps.pop(0) if self.jumps else 0.0)


async def test_messages_that_took_too_long_to_be_read_are_not_committed(rabbit: Adapter, rabbitmq_url: str) -> None:
    clock = Jumping()
    made = Adapter(lambda: RabbitTransport(rabbitmq_url, clock=clock), rabbit.database, True)
    async with connected(made) as transport:
        lease = await lease_of(transport, ROUTE)
        # The probe, the beginning, and the moment before the commit: later than a second.
        clock.jumps = [0.0, 0.0, 1.5]
        assert await lease.publish([message("slow", seconds=5.0)]) == [PublishOutcome.NOT_SENT]
        assert clock.jumps == []
        assert await lease.publish([message("quick", seconds=5.0)]) == [PublishOutcome.CONFIRMED]
        assert await delivered(transport, 1) == ["quick"]
        await lease.release()


async def test_what_is_about_to_expire_holds_up_nothing(rabbit: Adapter) -> None:
    async with connected(rabbit) as transport:
        lease = await lease_of(transport, ROUTE)
        outcomes = await lease.publish([message("dying", seconds=0.4), message("living", seconds=5.0)])
        assert outcomes == [PublishOutcome.NOT_SENT, PublishOutcome.CONFIRMED]
        assert await delivered(transport, 1) == ["living"]
        await lease.release()


async def test_an_alarm_between_the_probe_and_the_messages_delivers_nothing_late(
    database: Database, private_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sees_nothing(_: RabbitPublishingLease) -> None:
        return None

    adapter = Adapter(lambda: RabbitTransport(private_broker.url, clock=CLOCK), database, True)
    async with connected(adapter) as transport:
        lease = await lease_of(transport, ROUTE)
        monkeypatch.setattr(RabbitPublishingLease, "_why_closed", sees_nothing)
        await private_broker.set_memory_alarm(True)
        publishing = asyncio.create_task(lease.publish([message(str(number), seconds=4.0) for number in range(3)]))
        try:
            # Longer than may pass before a commit, shorter than the signals last.
            await asyncio.sleep(1.5)
        finally:
            await private_broker.set_memory_alarm(False)
        assert await publishing == [PublishOutcome.NOT_SENT] * 3
        monkeypatch.undo()
        assert await lease.publish([message("after")]) == [PublishOutcome.CONFIRMED]
        assert await delivered(transport, 1) == ["after"]
        await lease.release()
    await _clean(private_broker.url)
