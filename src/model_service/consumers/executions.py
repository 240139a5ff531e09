"""Execution events from the broker: decoded, recorded in one transaction, and only then acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog

from model_service.contracts.execution_decoder import decode_execution
from model_service.contracts.executions import Observation
from model_service.contracts.types import InvalidMessage
from model_service.database.dead_letters import DeadLetters
from model_service.database.executions import ExecutionStore
from model_service.messaging.transport import Delivery, Subscription

log = structlog.get_logger()


class ExecutionConsumer:
    """Commit before acknowledge: a crash in between brings messages again, and their event_id makes them count once."""

    def __init__(self, subscription: Subscription, store: ExecutionStore, dead_letters: DeadLetters) -> None:
        self._subscription = subscription
        self._store = store
        self._dead_letters = dead_letters
        self.recorded = 0
        self.fills = 0

    async def step(self, now: datetime, *, wait_seconds: float = 0.0) -> int:
        """Take one batch, waiting at most `wait_seconds` for it; returns how many messages it had.

        Raises TransportUnavailable or DatabaseUnavailable; then nothing was acknowledged, and the batch went back.
        """
        deliveries = await self._subscription.receive(wait_seconds=wait_seconds)
        if not deliveries:
            return 0
        try:
            await self._record(deliveries, now)
        except BaseException:
            await self._subscription.give_back(deliveries)
            raise
        await self._subscription.acknowledge(deliveries)
        return len(deliveries)

    async def _record(self, deliveries: Sequence[Delivery], now: datetime) -> None:
        observations: list[tuple[Observation, bytes]] = []
        letters: list[tuple[bytes, InvalidMessage]] = []
        for delivery in deliveries:
            try:
                observations.append((decode_execution(delivery.body), delivery.body))
            except InvalidMessage as reason:
                letters.append((delivery.body, reason))
                log.warning("execution_refused", code=reason.code, field=reason.field)
        await self._dead_letters.keep(self._subscription.queue, letters, now)
        if observations:
            batch = await self._store.record(observations, self._subscription.queue, now)
            self.recorded += batch.new_events
            self.fills += batch.fills
            if batch.orphans:
                log.info("execution_orphans", count=batch.orphans)
