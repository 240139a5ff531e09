"""The lockstep: who speaks when, and what ends it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from model_service.config.clock import VirtualClock
from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.demo.driver import DemoFailed, Lockstep
from model_service.demo.ending import Ending
from model_service.demo.gateway import GATEWAY_QUEUES
from model_service.demo.market import FIRST_MOMENT, SimulatedMarket
from model_service.demo.paper_orders import PaperOrders, PaperRules
from model_service.demo.status import DemoStatus, StrategyLine
from model_service.demo.until import Until
from model_service.messaging.transport import (
    Delivery,
    OutgoingMessage,
    PublishingLease,
    PublishingRoute,
    PublishOutcome,
    QueueState,
    RoleTaken,
    Subscription,
)

EXECUTIONS = "order-manager.execution_events"


class MemorySubscription:
    """Takes from a list; acknowledging is not checked here."""

    def __init__(self, name: str, messages: list[OutgoingMessage]) -> None:
        self.queue, self._messages = name, messages

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        taken, self._messages[:limit] = self._messages[:limit], []
        return [Delivery(tag, message.body, {}, message.message_id, False) for tag, message in enumerate(taken)]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None: ...

    async def close(self) -> None: ...


class MemoryTransport:
    """Queues as lists."""

    is_connected = True

    def __init__(self, outcome: PublishOutcome = PublishOutcome.CONFIRMED) -> None:
        self.queues: dict[str, list[OutgoingMessage]] = defaultdict(list)
        self.declared: list[str] = []
        self._outcome = outcome

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def declare_queue(self, queue: str) -> None:
        self.declared.append(queue)

    async def queue_state(self, queue: str) -> QueueState | None:
        return QueueState(queue, len(self.queues[queue]), 0)

    def subscribe(self, queue: str, *, prefetch: int = 400, declare: bool) -> Subscription:
        return MemorySubscription(queue, self.queues[queue])

    async def lease_publishing(self, route: PublishingRoute) -> PublishingLease:
        raise RoleTaken(route.role)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        for message in messages:
            self.queues[message.routing_key].append(message)
        return [self._outcome for _ in messages]


class OneSignalService:
    """Sends one signal at its second step and notes when it was called, and what lay in the queue of executions."""

    def __init__(self, transport: MemoryTransport, clock: VirtualClock) -> None:
        self._transport, self._clock = transport, clock
        self.calls: list[tuple[datetime, list[str]]] = []

    async def step(self) -> None:
        waiting, self._transport.queues[EXECUTIONS] = self._transport.queues[EXECUTIONS], []
        self.calls.append((self._clock.now(), [json.loads(message.body)["event_type"] for message in waiting]))
        if len(self.calls) == 2:
            await self._transport.publish([_signal()])


def _signal() -> OutgoingMessage:
    body = {
        "signal_id": str(UUID(int=1, version=4)),
        "signal_type": "buy",
        "asset": "BTCUSDT",
        "amount": 100,
        "market_data_snapshot": {"price": 60_000},
    }
    return OutgoingMessage("", SIGNAL_QUEUE, json.dumps(body).encode(), "1")


def build(outcome: PublishOutcome = PublishOutcome.CONFIRMED) -> tuple[Lockstep, OneSignalService, MemoryTransport]:
    transport, clock = MemoryTransport(outcome), VirtualClock(FIRST_MOMENT)
    feed = SimulatedMarket(7, steps=4)
    rules = PaperRules(reject_rate=0, partial_rate=0, cancel_rate=0)
    service = OneSignalService(transport, clock)
    orders = PaperOrders(feed, queue=EXECUTIONS, seed=7, rules=rules)
    return Lockstep(feed, orders, service, transport, clock), service, transport


async def test_fills_reach_the_service_one_step_after_its_signal() -> None:
    lockstep, service, transport = build()
    await lockstep.open()
    assert transport.declared == list(GATEWAY_QUEUES)
    while await lockstep.step():
        pass
    assert [reports for _, reports in service.calls] == [[], [], ["pending", "filled"], []]
    assert [moment - FIRST_MOMENT for moment, _ in service.calls] == [timedelta(seconds=10 * step) for step in range(4)]
    assert len(transport.queues["ws-gateway.ticker"]) == 12


async def test_settling_delivers_what_is_owed_without_a_market() -> None:
    lockstep, service, transport = build()
    await lockstep.open()
    await lockstep.step()
    await lockstep.step()
    tickers = len(transport.queues["ws-gateway.ticker"])
    await lockstep.settle(20)
    assert service.calls[2][1] == ["pending", "filled"]
    assert len(transport.queues["ws-gateway.ticker"]) == tickers


async def test_an_unconfirmed_message_ends_the_demo() -> None:
    lockstep, _, _ = build(PublishOutcome.UNROUTABLE)
    await lockstep.open()
    with pytest.raises(DemoFailed, match=r"ws-gateway\.\w+ was not accepted: unroutable"):
        await lockstep.step()


def status(version: str | None = None, model_signals: int = 0) -> DemoStatus:
    mode = "model" if version else "warmup"
    return DemoStatus((StrategyLine("momentum_v1", mode, version),), model_signals=model_signals)


def minutes(count: float) -> datetime:
    return FIRST_MOMENT + timedelta(minutes=count)


def ending(until: Until) -> Ending:
    return Ending(until, start=FIRST_MOMENT, horizon=timedelta(minutes=5))


def test_promoted_ends_when_the_model_has_spoken_and_its_trades_are_judged() -> None:
    end = ending(Until.PROMOTED)
    assert not end.observe(status(), minutes(300))
    assert not end.observe(status("v1", 0), minutes(310))
    assert not end.observe(status("v1", 40), minutes(311))
    assert not end.observe(status("v1", 29), minutes(318))
    assert end.observe(status("v1", 30), minutes(318))
    assert end.reached(status("v1", 30), minutes(318), market_over=False, interrupted=False)


def test_promoted_gives_up_after_two_days() -> None:
    end = ending(Until.PROMOTED)
    assert end.observe(status(), minutes(48 * 60))
    assert not end.reached(status(), minutes(48 * 60), market_over=False, interrupted=False)


def test_end_and_never_do_not_end_by_themselves() -> None:
    for until in (Until.END, Until.NEVER):
        assert not ending(until).observe(status("v1", 1000), minutes(9999))
    assert ending(Until.END).reached(status(), minutes(1), market_over=True, interrupted=False)
    assert not ending(Until.END).reached(status(), minutes(1), market_over=False, interrupted=True)
    assert ending(Until.NEVER).reached(status(), minutes(1), market_over=False, interrupted=True)
