"""From the outbox to the broker: claimed, published with confirmation, and only then marked published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from model_service.contracts.signals import SIGNAL_EXCHANGE, SIGNAL_QUEUE, TradingSignal, encode_signal
from model_service.database.outbox import Outbox
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, Transport, TransportUnavailable

log = structlog.get_logger()

STATE_AFTER = {
    PublishOutcome.CONFIRMED: "published",
    PublishOutcome.UNROUTABLE: "unroutable",
    PublishOutcome.REFUSED: "pending",
    PublishOutcome.UNKNOWN: "pending",
}
"""A refused or unanswered signal is tried again until it expires. order-manager takes a signal_id that has filled only
once; one that it has rejected it would take again."""


class SignalPublisher:
    """Sends what lies in the outbox, oldest first; what has expired is never sent."""

    def __init__(self, outbox: Outbox, transport: Transport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._declared = False
        self._in_doubt = False
        self.published = 0

    async def recover(self) -> None:
        """Take up again what a former process was sending."""
        await self._outbox.reopen()

    async def step(self, now: datetime) -> int:
        """Send one batch; returns how many signals were confirmed. Raises TransportUnavailable with nothing lost."""
        await self._declare_once()
        if self._in_doubt:
            # A batch was claimed and could not be settled: its signals are sent again, under the same signal_id.
            await self._outbox.reopen()
        self._in_doubt = True
        batch = await self._outbox.claim(now)
        if batch.expired:
            log.warning("signals_expired", count=batch.expired)
        if not batch.signals:
            self._in_doubt = False
            return 0
        outcomes = await self._publish(batch.signals)
        unroutable = sum(state == "unroutable" for state in outcomes.values())
        if unroutable:
            self._declared = False
            log.error("signals_unroutable", count=unroutable, queue=SIGNAL_QUEUE)
        await self._outbox.settle(outcomes, now)
        self._in_doubt = False
        confirmed = sum(state == "published" for state in outcomes.values())
        self.published += confirmed
        return confirmed

    async def _publish(self, signals: Sequence[TradingSignal]) -> dict[UUID, str]:
        try:
            answers = await self._transport.publish([_message(signal) for signal in signals])
        except TransportUnavailable:
            self._declared = False
            raise
        return {signal.signal_id: STATE_AFTER[answer] for signal, answer in zip(signals, answers, strict=True)}

    async def _declare_once(self) -> None:
        if not self._declared:
            await self._transport.declare_exchange_with_queue(SIGNAL_EXCHANGE, SIGNAL_QUEUE)
            self._declared = True


def _message(signal: TradingSignal) -> OutgoingMessage:
    return OutgoingMessage(
        exchange=SIGNAL_EXCHANGE,
        routing_key=SIGNAL_QUEUE,
        body=encode_signal(signal),
        message_id=str(signal.signal_id),
        headers={"trace_id": signal.trace_id},
        expires_at=signal.expires_at,
    )
