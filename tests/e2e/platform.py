"""The platform around the service, played from outside over a real RabbitMQ: a gateway and an order-manager.

The market is the demo's process sped up sixty times: a second stands for a minute. Messages have the siblings' shapes.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import numpy as np

from model_service.config.clock import RandomIdentifiers
from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.demo.feed import MarketStep, Quote
from model_service.demo.gateway import BOOK_QUEUE, KLINE_QUEUE, TICKER_QUEUE, TRADE_QUEUE, Gateway
from model_service.demo.paper_orders import PaperOrders, PaperRules
from model_service.messaging.transport import OutgoingMessage

EXECUTIONS = "order-manager.execution_events"
GATEWAY_ARGUMENTS: Any = {"x-message-ttl": 86_400_000, "x-max-length": 100_000, "x-overflow": "drop-head"}
"""As ws-gateway declares its queues; a service that redeclares them otherwise is refused."""
STEP_SECONDS = 0.2
PHI_PER_SECOND, DRIFT, SIGMA = 0.96, 1.2, 0.002
START = datetime(2026, 1, 1, tzinfo=UTC)


class FastMarket:
    """Prices and pressures of some assets; fulfils the demo's MarketFeed."""

    def __init__(self, assets: tuple[str, ...], seed: int) -> None:
        self.assets = assets
        self.start = START
        self._rng = np.random.default_rng(seed)
        self._price = dict.fromkeys(assets, 1000.0)
        self._pressure = {asset: float(self._rng.standard_normal()) for asset in assets}
        self._gateway = Gateway(RandomIdentifiers())
        self._sequence = 0

    def advance(self) -> MarketStep | None:
        """Not used: the test moves the market in real time."""
        return None

    def quote(self, asset: str) -> Quote | None:
        """Bid and ask around the price."""
        price = self._price.get(asset)
        return None if price is None else Quote(bid=price * 0.99995, ask=price * 1.00005)

    def step(self, now: datetime) -> list[OutgoingMessage]:
        """Move every asset by one step and say so."""
        messages = []
        phi = PHI_PER_SECOND**STEP_SECONDS
        for asset in self.assets:
            shock, noise = self._rng.standard_normal(2)
            pressure = self._pressure[asset]
            drift = DRIFT * SIGMA * pressure * STEP_SECONDS
            self._price[asset] *= math.exp(drift + SIGMA * math.sqrt(STEP_SECONDS) * float(noise))
            self._pressure[asset] = phi * pressure + math.sqrt(1 - phi**2) * float(shock)
            messages += self._messages(asset, now)
        return messages

    def _messages(self, asset: str, now: datetime) -> list[OutgoingMessage]:
        quote = self.quote(asset)
        assert quote is not None
        self._sequence += 1
        imbalance = math.tanh(0.7 * self._pressure[asset])
        bid, ask = f"{quote.bid:.6f}", f"{quote.ask:.6f}"
        values = {"lastPrice": f"{self._price[asset]:.6f}", "bid1Price": bid, "ask1Price": ask, "volume24h": "1000000"}
        return [
            self._gateway.ticker(asset, now, values),
            self._gateway.book(
                asset, now, bid=(bid, f"{1 + imbalance:.6f}"), ask=(ask, f"{1 - imbalance:.6f}"), seq=self._sequence
            ),
        ]


@dataclass
class Platform:
    """Gateway and order-manager, running until cancelled."""

    url: str
    market: FastMarket
    signals: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        rules = PaperRules(least_latency_seconds=0.01, most_latency_seconds=0.05)
        self._orders = PaperOrders(self.market, queue=EXECUTIONS, seed=1, rules=rules)

    async def declare(self) -> None:
        """The queues that ws-gateway makes, with its arguments."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            for queue in (TICKER_QUEUE, TRADE_QUEUE, BOOK_QUEUE, KLINE_QUEUE):
                await channel.declare_queue(queue, durable=True, arguments=GATEWAY_ARGUMENTS)

    async def run(self) -> None:
        """Play both siblings."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=100)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._play(channel))
                group.create_task(self._take_signals(channel))

    async def send(self, queue: str, body: bytes) -> None:
        """One raw message to a queue."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue)

    async def waiting_signals(self) -> list[str]:
        """Identifiers of the signals that nobody has taken yet; they are taken now."""
        found = []
        async with await aio_pika.connect(self.url) as connection:
            queue = await (await connection.channel()).get_queue(SIGNAL_QUEUE)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                if not message.redelivered:
                    found.append(str(message.message_id))
        return found

    async def wait_for_signal(self, wanted: Any, seconds: float) -> dict[str, Any]:
        """The first signal for which `wanted` is true, waiting for it at most `seconds`."""
        async with asyncio.timeout(seconds), self.arrived:
            while True:
                for signal in self.signals:
                    if wanted(signal):
                        return signal
                await self.arrived.wait()

    async def _play(self, channel: aio_pika.abc.AbstractChannel) -> None:
        while True:
            now = datetime.now(UTC)
            for message in [*self.market.step(now), *self._orders.due(now)]:
                await self._publish(channel, message)
            await asyncio.sleep(STEP_SECONDS - (datetime.now(UTC) - now) / timedelta(seconds=1))

    async def _publish(self, channel: aio_pika.abc.AbstractChannel, message: OutgoingMessage) -> None:
        headers: Any = dict(message.headers)
        # Order events are transient, as order-manager sends them.
        wire = aio_pika.Message(message.body, message_id=message.message_id, headers=headers)
        await channel.default_exchange.publish(wire, routing_key=message.routing_key)

    async def _take_signals(self, channel: aio_pika.abc.AbstractChannel) -> None:
        # order-manager's own declaration: durable, no arguments. Whoever declares otherwise is refused.
        queue = await channel.declare_queue(SIGNAL_QUEUE, durable=True)
        async with queue.iterator() as incoming:
            async for message in incoming:
                self._orders.take(message.body, datetime.now(UTC))
                async with self.arrived:
                    self.signals.append(json.loads(message.body))
                    self.arrived.notify_all()
                await message.ack()
