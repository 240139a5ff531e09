"""The outbox: signals on their way to the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.database.connection import Database

CLAIM = """
    UPDATE model_service.trading_signals SET status = CASE WHEN expires_at <= $1 THEN 'expired' ELSE 'sending' END
    WHERE signal_id IN (
        SELECT signal_id FROM model_service.trading_signals
        WHERE status = 'pending' ORDER BY decided_at, signal_id LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING signal_id, strategy_id, asset, side, amount, confidence, decided_at, expires_at, model_version, is_warmup,
              market_data_snapshot, metadata, trace_id, status
"""
SETTLE = """
    UPDATE model_service.trading_signals AS s
    SET status = given.status, published_at = CASE WHEN given.status = 'published' THEN $3::timestamptz END
    FROM unnest($1::uuid[], $2::text[]) AS given (signal_id, status)
    WHERE s.signal_id = given.signal_id AND s.status = 'sending'
"""
REOPEN = "UPDATE model_service.trading_signals SET status = 'pending' WHERE status = 'sending'"


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Signals to send now, and how many were found expired."""

    signals: Sequence[TradingSignal]
    expired: int


class Outbox:
    """Claims pending signals for sending and records what became of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime, limit: int = 200) -> ClaimedBatch:
        """Mark up to `limit` pending signals as being sent, oldest first; those past their expiry end here."""
        rows = await self._database.fetch(CLAIM, now, limit)
        rows.sort(key=lambda row: (row["decided_at"], row["signal_id"]))
        sendable = [_signal(row) for row in rows if row["status"] == "sending"]
        return ClaimedBatch(sendable, len(rows) - len(sendable))

    async def settle(self, states: Mapping[UUID, str], now: datetime) -> None:
        """Record `published`, `unroutable` or `pending` (to be tried again) for claimed signals."""
        if states:
            await self._database.execute(SETTLE, list(states), list(states.values()), now)

    async def reopen(self) -> None:
        """What was being sent when something broke is sent again, under the same signal_id."""
        await self._database.execute(REOPEN)


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
