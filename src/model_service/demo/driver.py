"""The market, the order-manager and the service in lockstep: one step of virtual time after the other.

Each step: what the order-manager owes and what the market says is published, the clock moves, the service does one
pass, and the order-manager takes the signals of that pass. Nothing looks at real time, so the same inputs give the
same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from model_service.config.clock import VirtualClock
from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.demo.feed import MarketFeed
from model_service.demo.gateway import GATEWAY_QUEUES
from model_service.demo.paper_orders import PaperOrders
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, Subscription, Transport

RECEIVE_LIMIT = 500


class DemoFailed(Exception):  # noqa: N818 - it is the end of the demo, and the text says why
    """The demo cannot go on; the text says why and what to do."""


class SteppedService(Protocol):
    """The service as the driver needs it."""

    async def step(self) -> None:
        """One deterministic pass over everything that has arrived, at the clock's present moment."""
        ...


class Lockstep:
    """Moves the demo forward.

    Args:
        transport: where market and order-manager publish; they see nothing else of the service.
        clock: the service's clock, which this alone moves.
    """

    def __init__(
        self, feed: MarketFeed, orders: PaperOrders, service: SteppedService, transport: Transport, clock: VirtualClock
    ) -> None:
        self._feed, self._orders, self._service = feed, orders, service
        self._transport, self._clock = transport, clock
        self._signals: Subscription | None = None
        self.steps = 0

    @property
    def now(self) -> datetime:
        """Virtual time."""
        return self._clock.now()

    async def open(self) -> None:
        """Declare the gateway's queues and begin to take signals."""
        for queue in GATEWAY_QUEUES:
            await self._transport.declare_queue(queue)
        self._signals = self._transport.subscribe(SIGNAL_QUEUE, prefetch=RECEIVE_LIMIT, declare=True)

    async def step(self) -> bool:
        """One step of the market; False when the market has no more. Raises DemoFailed."""
        step = self._feed.advance()
        if step is None:
            return False
        await self._pass(step.at, step.messages)
        return True

    async def settle(self, seconds: float) -> None:
        """Let time pass without a market, so that orders and a training run can finish. Raises DemoFailed."""
        for _ in range(max(1, round(seconds / 10))):
            await self._pass(self.now + timedelta(seconds=10), ())

    async def close(self) -> None:
        """Stop taking signals."""
        if self._signals is not None:
            await self._signals.close()

    async def _pass(self, at: datetime, messages: Sequence[OutgoingMessage]) -> None:
        await self._publish([*self._orders.due(at), *messages])
        self._clock.advance_to(at)
        await self._service.step()
        await self._take_signals()
        self.steps += 1

    async def _publish(self, messages: Sequence[OutgoingMessage]) -> None:
        if not messages:
            return
        outcomes = await self._transport.publish(messages)
        for message, outcome in zip(messages, outcomes, strict=True):
            if outcome is not PublishOutcome.CONFIRMED:
                raise DemoFailed(f"a message to {message.routing_key} was not accepted: {outcome.value}")

    async def _take_signals(self) -> None:
        assert self._signals is not None, "open() comes first"
        while True:
            deliveries = await self._signals.receive(limit=RECEIVE_LIMIT, wait_seconds=0, linger_seconds=0)
            for delivery in deliveries:
                self._orders.take(delivery.body, self.now)
            if deliveries:
                await self._signals.acknowledge(deliveries)
            if len(deliveries) < RECEIVE_LIMIT:
                return
