"""Market events from the gateway's queues into the live state; closed bars into the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog

from model_service.consumers.dead_letter_office import DeadLetterKeeper
from model_service.contracts.market_decoder import decode_market
from model_service.contracts.types import InvalidMessage
from model_service.database.bars import BarStore
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
        dead_letters: DeadLetterKeeper,
    ) -> None:
        self._subscription = subscription
        self._markets = markets
        self._bars = bars
        self._dead_letters = dead_letters
        self._held: list[Delivery] = []
        self._applied = 0
        self._unsaved: list[tuple[str, Bar]] = []
        self._letters: list[tuple[bytes, InvalidMessage]] = []
        self.events = 0

    @property
    def queue(self) -> str:
        """The queue that it takes from."""
        return self._subscription.queue

    async def step(self, now: datetime, *, wait_seconds: float = 0.0) -> int:
        """Take one batch, waiting at most `wait_seconds` for it; returns how many messages it had.

        A batch whose bars could not be saved is held and not given back: the next step goes on with it.
        """
        if not self._held:
            self._held = await self._subscription.receive(wait_seconds=wait_seconds)
            self._applied = 0
        while self._applied < len(self._held):
            self._apply(self._held[self._applied], now)
            self._applied += 1
        await self._bars.save(self._unsaved)
        self._unsaved.clear()
        await self._dead_letters.keep(self.queue, self._letters, now)
        self._letters.clear()
        settled, self._held = self._held, []
        await self._subscription.acknowledge(settled)
        self.events += len(settled)
        return len(settled)

    def _apply(self, delivery: Delivery, now: datetime) -> None:
        try:
            event = decode_market(delivery.body, now)
        except InvalidMessage as reason:
            self._letters.append((delivery.body, reason))
            log.warning("market_event_refused", queue=self._subscription.queue, code=reason.code, field=reason.field)
            return
        market = self._markets.get(event.asset) if event is not None else None
        if event is not None and market is not None:
            self._unsaved += [(event.asset, bar) for bar in market.apply(event, now)]
