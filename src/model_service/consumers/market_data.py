"""Market events from the gateway's queues into the live state; closed bars into the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog

from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import InvalidMessage
from model_service.database.bars import BarStore
from model_service.database.dead_letters import DeadLetters
from model_service.market.snapshot import Bar
from model_service.market.state import AssetMarket
from model_service.messaging.transport import Delivery, Subscription

log = structlog.get_logger()


class MarketDataConsumer:
    """One queue of the gateway. Events of assets that no strategy has are taken and dropped."""

    def __init__(
        self,
        subscription: Subscription,
        markets: Mapping[str, AssetMarket],
        bars: BarStore,
        dead_letters: DeadLetters,
    ) -> None:
        self._subscription = subscription
        self._markets = markets
        self._bars = bars
        self._dead_letters = dead_letters
        self._unsaved: list[tuple[str, Bar]] = []
        self.events = 0

    @property
    def queue(self) -> str:
        """The queue that it takes from."""
        return self._subscription.queue

    async def step(self, now: datetime, *, wait_seconds: float = 0.0) -> int:
        """Take one batch, waiting at most `wait_seconds` for it; returns how many messages it had."""
        deliveries = await self._subscription.receive(wait_seconds=wait_seconds)
        if not deliveries:
            return 0
        letters: list[tuple[bytes, InvalidMessage]] = []
        for delivery in deliveries:
            self._apply(delivery, letters)
        try:
            await self._bars.save(self._unsaved)
            await self._dead_letters.keep(self._subscription.queue, letters, now)
        except BaseException:
            # The events have been applied, and applying them again changes nothing; the closed bars are still held.
            await self._subscription.give_back(deliveries)
            raise
        self._unsaved.clear()
        await self._subscription.acknowledge(deliveries)
        self.events += len(deliveries)
        return len(deliveries)

    def _apply(self, delivery: Delivery, letters: list[tuple[bytes, InvalidMessage]]) -> None:
        try:
            event = decode_market(delivery.body)
        except InvalidMessage as reason:
            letters.append((delivery.body, reason))
            log.warning("market_event_refused", queue=self._subscription.queue, code=reason.code, field=reason.field)
            return
        market = self._markets.get(event.asset) if event is not None else None
        if event is not None and market is not None:
            self._unsaved += [(event.asset, bar) for bar in market.apply(event)]
