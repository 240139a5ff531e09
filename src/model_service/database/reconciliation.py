"""Which of our signals the table `orders` is asked about, and which of them are lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from model_service.database.connection import Database

# Whatever the outbox says of a signal: one that counts as expired may have reached order-manager all the same.
WATCHED = """
    SELECT signal_id, decided_at FROM model_service.trading_signals WHERE decided_at > $1
    UNION SELECT signal_id, decided_at FROM model_service.trading_signals
    WHERE order_state IN ('pending', 'partially_filled') AND decided_at > $2
    UNION SELECT signal_id, decided_at FROM model_service.trading_signals
    WHERE signal_id = ANY($3::uuid[]) AND decided_at > $2
    ORDER BY decided_at, signal_id
"""
# Any report about a signal gives it an order state, once it has entered the book.
UNANSWERED = """
    SELECT signal_id, strategy_id, asset, coalesce(published_at, decided_at) AS published_at
    FROM model_service.trading_signals
    WHERE status = 'published' AND order_state IS NULL AND decided_at > $1 AND coalesce(published_at, decided_at) <= $2
    ORDER BY decided_at, signal_id
"""
MARK_LOST = """
    UPDATE model_service.trading_signals AS signals SET order_state = 'lost'
    WHERE signal_id = ANY($1::uuid[]) AND status = 'published' AND order_state IS NULL
      AND NOT EXISTS (
        SELECT FROM model_service.execution_events AS events WHERE events.signal_id = signals.signal_id::text)
    RETURNING signal_id
"""


@dataclass(frozen=True, slots=True)
class UnansweredSignal:
    """A published signal of which no order and no execution is known."""

    signal_id: UUID
    strategy_id: str
    asset: str
    published_at: datetime


class ReconciliationStore:
    """Our own side of the reconciliation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def watched(self, since: datetime, open_since: datetime, also: Iterable[UUID]) -> dict[UUID, datetime]:
        """When each was decided: signals after `since`, with an open order after `open_since`, and `also` these."""
        rows = await self._database.fetch(WATCHED, since, open_since, sorted(also))
        return {row["signal_id"]: row["decided_at"] for row in rows}

    async def unanswered(self, since: datetime, published_before: datetime) -> list[UnansweredSignal]:
        """Published until `published_before`, decided after `since`, oldest first."""
        rows = await self._database.fetch(UNANSWERED, since, published_before)
        return [UnansweredSignal(**row) for row in rows]

    async def mark_lost(self, signal_ids: Sequence[UUID]) -> set[UUID]:
        """Set the state of those that are unanswered still, also by an event that waits to be derived; returns them."""
        return {row["signal_id"] for row in await self._database.fetch(MARK_LOST, list(signal_ids))}
