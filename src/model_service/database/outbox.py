"""The outbox: signals on their way to the broker, written only by the holder of the publishing role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.database.connection import Database

# Locked while a statement of the holder runs: a successor's epoch comes before it or after it, never in between.
HOLDER = "held AS (SELECT 1 FROM model_service.leases WHERE role = $1 AND epoch = $2 FOR SHARE)"

TAKE = """
    INSERT INTO model_service.leases AS lease (role, epoch, acquired_at) VALUES ($1, 1, $2)
    ON CONFLICT (role) DO UPDATE SET epoch = lease.epoch + 1, acquired_at = excluded.acquired_at
    RETURNING epoch
"""
CLAIM = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals SET status = CASE WHEN expires_at <= $3 THEN 'expired' ELSE 'sending' END
    WHERE EXISTS (SELECT FROM held) AND signal_id IN (
        SELECT signal_id FROM model_service.trading_signals
        WHERE status = 'pending' ORDER BY decided_at, signal_id LIMIT $4 FOR UPDATE SKIP LOCKED)
    RETURNING signal_id, strategy_id, asset, side, amount, confidence, decided_at, expires_at, model_version, is_warmup,
              market_data_snapshot, metadata, trace_id, status
"""  # noqa: S608 - the pieces are constants
SETTLE = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals AS s
    SET status = given.status, published_at = CASE WHEN given.status = 'published' THEN $5::timestamptz END
    FROM unnest($3::uuid[], $4::text[]) AS given (signal_id, status)
    WHERE EXISTS (SELECT FROM held) AND s.signal_id = given.signal_id AND s.status = 'sending'
"""  # noqa: S608 - the pieces are constants
MARK_ACCEPTED = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals SET status = 'published', published_at = $4
    WHERE EXISTS (SELECT FROM held) AND signal_id = ANY ($3::uuid[]) AND status <> 'published'
"""  # noqa: S608 - the pieces are constants
# An order is proof of acceptance, whatever the broker remembers.
REOPEN = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals
    SET status = CASE WHEN order_state IS NULL OR order_state = 'lost' THEN 'pending' ELSE 'published' END,
        published_at = CASE WHEN order_state IS NULL OR order_state = 'lost' THEN published_at ELSE $3 END
    WHERE EXISTS (SELECT FROM held) AND status = 'sending'
"""  # noqa: S608 - the pieces are constants


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Signals to send now, and how many were found expired."""

    signals: Sequence[TradingSignal]
    expired: int


class Outbox:
    """Claims pending signals for sending and records what became of them.

    Args:
        role: of the publisher. Whoever calls `take` is its holder from then on; a former holder's calls change nothing.
    """

    def __init__(self, database: Database, role: str) -> None:
        self._database = database
        self._role = role
        self._epoch = 0

    async def take(self, now: datetime) -> None:
        """Become the holder; from now on nobody else writes here."""
        self._epoch = await self._database.fetchval(TAKE, self._role, now)

    async def claim(self, now: datetime, limit: int = 200) -> ClaimedBatch:
        """Mark up to `limit` pending signals as being sent, oldest first; those past their expiry end here."""
        rows = await self._database.fetch(CLAIM, self._role, self._epoch, now, limit)
        rows.sort(key=lambda row: (row["decided_at"], row["signal_id"]))
        sendable = [_signal(row) for row in rows if row["status"] == "sending"]
        return ClaimedBatch(sendable, len(rows) - len(sendable))

    async def settle(self, states: Mapping[UUID, str], now: datetime) -> None:
        """Record `published`, `unroutable`, `expired` or `pending` (to be tried again) for claimed signals."""
        if states:
            identifiers, statuses = list(states), list(states.values())
            await self._database.execute(SETTLE, self._role, self._epoch, identifiers, statuses, now)

    async def mark_accepted(self, signal_ids: Sequence[UUID], now: datetime) -> None:
        """The broker has these, whatever was known of them."""
        if signal_ids:
            await self._database.execute(MARK_ACCEPTED, self._role, self._epoch, signal_ids, now)

    async def reopen(self, now: datetime) -> None:
        """What was being sent and is not known to be accepted is sent again, under the same signal_id."""
        await self._database.execute(REOPEN, self._role, self._epoch, now)


def _signal(row: asyncpg.Record) -> TradingSignal:
    return TradingSignal(
        signal_id=row["signal_id"],
        side=Side(row["side"]),
        asset=row["asset"],
        amount=row["amount"],
        confidence=row["confidence"],
        timestamp=row["decided_at"],
        expires_at=row["expires_at"],
        strategy_id=row["strategy_id"],
        model_version=row["model_version"],
        is_warmup=row["is_warmup"],
        market_data_snapshot=row["market_data_snapshot"],
        metadata=row["metadata"],
        trace_id=row["trace_id"],
    )
