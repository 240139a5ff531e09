"""Execution events from the broker: decoded, stored in one transaction, and only then acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from model_service.consumers.dead_letter_office import DeadLetterKeeper
from model_service.contracts.execution_decoder import decode_execution
from model_service.contracts.executions import Observation
from model_service.contracts.types import InvalidMessage
from model_service.database.executions import ExecutionStore, NotStorable
from model_service.messaging.transport import Delivery, Subscription

log = structlog.get_logger()


class ExecutionConsumer:
    """Commit before acknowledge: a crash in between brings messages again, and their event_id makes them count once.

    A batch that could not be recorded is held and tried again as it is; nothing is given back. Since it stays
    unacknowledged, the broker sends no more than the prefetch, and consumption stops until the database is back.
    """

    def __init__(self, subscription: Subscription, store: ExecutionStore, dead_letters: DeadLetterKeeper) -> None:
        self._subscription = subscription
        self._store = store
        self._dead_letters = dead_letters
        self._received: list[Delivery] = []
        self._batch: _Batch | None = None
        self.recorded = 0

    async def step(self, now: datetime, *, wait_seconds: float = 0.0) -> int:
        """Settle one batch, waiting at most `wait_seconds` for it; returns how many messages it had.

        Raises TransportUnavailable or DatabaseUnavailable; then nothing was acknowledged, and the next step goes on
        with the same batch, as it does after a cancellation or a fault of the program.
        """
        if not self._received:
            self._received = await self._subscription.receive(wait_seconds=wait_seconds)
        if self._batch is None:
            self._batch = _decoded(self._received, self._subscription.queue, now)
        await self._record(self._batch, now)
        await self._bury(self._batch, now)
        settled, self._received, self._batch = self._received, [], None
        await self._subscription.acknowledge(settled)
        return len(settled)

    async def _record(self, batch: _Batch, now: datetime) -> None:
        """All at once; what PostgreSQL refuses is searched for by halves, and only that becomes a dead letter."""
        size = len(batch.observations)
        while batch.observations:
            part = batch.observations[:size]
            try:
                self.recorded += await self._store.append(part, self._subscription.queue, now)
            except NotStorable as refusal:
                size = len(part) // 2
                if not size:
                    batch.refuse_first(refusal)
                    size = 1
                continue
            del batch.observations[: len(part)]
            size *= 2

    async def _bury(self, batch: _Batch, now: datetime) -> None:
        if batch.letters:
            await self._dead_letters.keep(self._subscription.queue, batch.letters, now)
            batch.letters.clear()


@dataclass(slots=True)
class _Batch:
    """What is still to be done of some messages; what is done is not done again."""

    observations: list[tuple[Observation, bytes]] = field(default_factory=list)
    letters: list[tuple[bytes, InvalidMessage]] = field(default_factory=list)

    def refuse_first(self, refusal: NotStorable) -> None:
        observation, body = self.observations.pop(0)
        self.letters.append((body, InvalidMessage("not_storable", "", str(refusal))))
        log.warning("execution_not_storable", event_id=observation.event_id, reason=str(refusal))


def _decoded(deliveries: Sequence[Delivery], queue: str, now: datetime) -> _Batch:
    batch = _Batch()
    for delivery in deliveries:
        try:
            batch.observations.append((decode_execution(delivery.body, now), delivery.body))
        except InvalidMessage as reason:
            batch.letters.append((delivery.body, reason))
            where = {"field": reason.field} if reason.field else {}
            log.warning("execution_refused", queue=queue, code=reason.code, **where)
    return batch
