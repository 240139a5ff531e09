"""From the outbox to the broker: one holder of the role, each signal once, and none after its expiry.

A signal is published with confirmation and then marked. Whatever breaks in between ends the lease on the role, and the
next one begins by asking what the broker has accepted, before it sends the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog

from model_service.contracts.signals import SIGNAL_EXCHANGE, SIGNAL_QUEUE, TradingSignal, encode_signal
from model_service.database.outbox import Outbox
from model_service.messaging.transport import (
    OutgoingMessage,
    PublishingLease,
    PublishingRoute,
    PublishOutcome,
    RoleTaken,
    Transport,
)

log = structlog.get_logger()

PUBLISHER_ROLE = "model-service.publisher"
ROUTE = PublishingRoute(PUBLISHER_ROLE, SIGNAL_EXCHANGE, SIGNAL_QUEUE)
STATE_AFTER = {PublishOutcome.CONFIRMED: "published", PublishOutcome.UNROUTABLE: "unroutable"}
"""After any other outcome a signal stays pending: it was not sent, or the lease has ended and the next one asks."""


class SignalPublisher:
    """Sends what lies in the outbox, oldest first, while it holds the role; else it stands by."""

    def __init__(self, outbox: Outbox, transport: Transport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._lease: PublishingLease | None = None
        self._unwritten: Mapping[UUID, str] = {}
        self._written: set[UUID] = set()
        """Marked by this lease, and not seen in its echo yet."""
        self._stands_by = False
        self.published = 0

    async def step(self, now: datetime) -> int:
        """Send one batch; returns how many signals were confirmed. Raises TransportUnavailable, DatabaseUnavailable."""
        try:
            lease = await self._held_lease(now)
        except RoleTaken:
            self._note_standby(True)
            return 0
        self._note_standby(False)
        await self._write_outcomes(now)
        batch = await self._outbox.next_batch(now)
        if batch.expired:
            log.warning("signals_expired", count=batch.expired)
        if batch.stopped:
            log.warning("signals_withdrawn", count=batch.stopped)
        return await self._send(lease, batch.signals, now)

    async def close(self) -> None:
        """Give the role to whoever waits for it; what could not be written down is found by the next holder."""
        if self._lease is not None:
            await self._lease.release()
            self._lease = None

    # Holding the role

    async def _held_lease(self, now: datetime) -> PublishingLease:
        if self._lease is not None and self._lease.is_held:
            return self._lease
        await self.close()
        lease = await self._transport.lease_publishing(ROUTE)
        try:
            self._written.clear()
            await self._outbox.take(now)
            # First what this process knows itself: the echo also has what no queue took.
            await self._write_outcomes(now)
            await self._record_accepted(lease, now, complete=True)
            await self._outbox.mark_ordered(now)
        except BaseException:
            await lease.release()
            raise
        self._lease = lease
        return lease

    async def _record_accepted(self, lease: PublishingLease, now: datetime, *, complete: bool) -> None:
        async for message_ids in lease.accepted(complete=complete):
            signal_ids = set(_signal_ids(message_ids))
            await self._outbox.mark_accepted(sorted(signal_ids - self._written), now)
            self._written -= signal_ids

    def _note_standby(self, stands_by: bool) -> None:
        if stands_by != self._stands_by:
            log.info("publisher_stands_by" if stands_by else "publisher_active", role=PUBLISHER_ROLE)
        self._stands_by = stands_by

    # Sending

    async def _send(self, lease: PublishingLease, signals: Sequence[TradingSignal], now: datetime) -> int:
        self._unwritten = await self._publish(lease, signals)
        confirmed = sum(state == "published" for state in self._unwritten.values())
        await self._write_outcomes(now)
        self.published += confirmed
        if lease.is_held:
            await self._clear_echo(lease, now)
        return confirmed

    async def _publish(self, lease: PublishingLease, signals: Sequence[TradingSignal]) -> dict[UUID, str]:
        """The states after sending. Raises TransportUnavailable when nothing was sent."""
        if not signals:
            return {}
        await lease.renew_route()
        # The last thing before they are sent: whatever was awaited since the batch was read, a stop may have answered
        # meanwhile that it took them back.
        kept = await self._outbox.still_to_be_sent(signals)
        if len(kept) < len(signals):
            log.warning("signals_withdrawn", count=len(signals) - len(kept))
        if not kept:
            return {}
        signals = kept
        answers = await lease.publish([_message(signal) for signal in signals])
        if unroutable := answers.count(PublishOutcome.UNROUTABLE):
            log.error("signals_unroutable", count=unroutable, queue=SIGNAL_QUEUE)
        settled = zip(signals, answers, strict=True)
        return {signal.signal_id: STATE_AFTER[answer] for signal, answer in settled if answer in STATE_AFTER}

    async def _write_outcomes(self, now: datetime) -> None:
        """What the broker has said, kept until the database has it."""
        await self._outbox.settle(self._unwritten, now)
        self._written |= self._unwritten.keys()
        self._unwritten = {}

    async def _clear_echo(self, lease: PublishingLease, now: datetime) -> None:
        """Normally it names only what is written down already."""
        try:
            await self._record_accepted(lease, now, complete=False)
        except BaseException:
            await self.close()
            raise


def _signal_ids(message_ids: Sequence[str]) -> list[UUID]:
    found = []
    for message_id in message_ids:
        with suppress(ValueError):  # nobody but us publishes there, but anybody could
            found.append(UUID(message_id))
    return found


def _message(signal: TradingSignal) -> OutgoingMessage:
    return OutgoingMessage(
        exchange=SIGNAL_EXCHANGE,
        routing_key=SIGNAL_QUEUE,
        body=encode_signal(signal),
        message_id=str(signal.signal_id),
        headers={"trace_id": signal.trace_id},
        expires_at=signal.expires_at,
    )
