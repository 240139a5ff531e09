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
PENDING = """
    SELECT signal_id, strategy_id, asset, side, amount, confidence, decided_at, expires_at, model_version, is_warmup,
           market_data_snapshot, metadata, trace_id, intent <> 'exit' AND EXISTS (
               SELECT FROM model_service.trading_halts AS halts
               WHERE halts.ended_at IS NULL AND coalesce(halts.strategy_id, s.strategy_id) = s.strategy_id
           ) AS is_stopped
    FROM model_service.trading_signals AS s
    WHERE status = 'pending' AND EXISTS (SELECT FROM model_service.leases WHERE role = $1 AND epoch = $2)
    ORDER BY decided_at, signal_id LIMIT $3
"""
STILL_TO_BE_SENT = """
    SELECT signal_id FROM model_service.trading_signals AS s
    WHERE signal_id = ANY ($3::uuid[]) AND status = 'pending'
      AND EXISTS (SELECT FROM model_service.leases WHERE role = $1 AND epoch = $2)
      AND (intent = 'exit' OR NOT EXISTS (
          SELECT FROM model_service.trading_halts AS halts
          WHERE halts.ended_at IS NULL AND coalesce(halts.strategy_id, s.strategy_id) = s.strategy_id
      ))
"""
SETTLE = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals AS s
    SET status = given.status, published_at = CASE WHEN given.status = 'published' THEN $5::timestamptz END
    FROM unnest($3::uuid[], $4::text[]) AS given (signal_id, status)
    WHERE EXISTS (SELECT FROM held) AND s.signal_id = given.signal_id
      AND (s.status IN ('pending', 'sending') OR (s.status = 'stopped' AND given.status = 'published'))
"""  # noqa: S608 - the pieces are constants
MARK_ACCEPTED = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals SET status = 'published', published_at = $4
    WHERE EXISTS (SELECT FROM held) AND signal_id = ANY ($3::uuid[]) AND status NOT IN ('published', 'unroutable')
"""  # noqa: S608 - the pieces are constants
# An order is proof of acceptance, whatever the broker remembers. `sending` was written by former versions.
MARK_ORDERED = f"""
    WITH {HOLDER}
    UPDATE model_service.trading_signals
    SET status = CASE WHEN order_state IS NULL OR order_state = 'lost' THEN 'pending' ELSE 'published' END,
        published_at = CASE WHEN order_state IS NULL OR order_state = 'lost' THEN published_at ELSE $3 END
    WHERE EXISTS (SELECT FROM held)
      AND (status = 'sending' OR (status = 'pending' AND order_state IS NOT NULL AND order_state <> 'lost'))
"""  # noqa: S608 - the pieces are constants


@dataclass(frozen=True, slots=True)
class OutboxBatch:
    """Signals to send now, and how many were found expired, or to be openings under a halt."""

    signals: Sequence[TradingSignal]
    expired: int
    stopped: int = 0


class Outbox:
    """Hands out pending signals and records what became of them.

    A signal is `pending` until its outcome is known; that it is being sent is written nowhere. Whoever takes the role
    marks what the broker has accepted before it sends the rest, so the broker is the one memory of that.

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

    async def next_batch(self, now: datetime, limit: int = 200) -> OutboxBatch:
        """Up to `limit` pending signals, oldest first; expired ones, and openings under a halt, are marked and end."""
        rows = await self._database.fetch(PENDING, self._role, self._epoch, limit)
        ended = {row["signal_id"]: state for row in rows if (state := _end(row, now)) is not None}
        await self.settle(ended, now)
        stopped = sum(state == "stopped" for state in ended.values())
        kept = [_signal(row) for row in rows if row["signal_id"] not in ended]
        return OutboxBatch(kept, len(ended) - stopped, stopped)

    async def still_to_be_sent(self, signals: Sequence[TradingSignal]) -> list[TradingSignal]:
        """Those of a batch that no stop, and no other halt, has taken back since it was read."""
        signal_ids = [signal.signal_id for signal in signals]
        rows = await self._database.fetch(STILL_TO_BE_SENT, self._role, self._epoch, signal_ids)
        kept = {row["signal_id"] for row in rows}
        return [signal for signal in signals if signal.signal_id in kept]

    async def settle(self, states: Mapping[UUID, str], now: datetime) -> None:
        """Record `published`, `unroutable`, `expired` or `stopped` for signals of a batch.

        What was with the broker when a stop took it back is published all the same, and recorded so.
        """
        if states:
            identifiers, statuses = list(states), list(states.values())
            await self._database.execute(SETTLE, self._role, self._epoch, identifiers, statuses, now)

    async def mark_accepted(self, signal_ids: Sequence[UUID], now: datetime) -> None:
        """The broker has these, whatever was known of them, except that it had no queue for them."""
        if signal_ids:
            await self._database.execute(MARK_ACCEPTED, self._role, self._epoch, signal_ids, now)

    async def mark_ordered(self, now: datetime) -> None:
        """Signals that have an order were accepted, even if nothing else says so."""
        await self._database.execute(MARK_ORDERED, self._role, self._epoch, now)


def _end(row: asyncpg.Record, now: datetime) -> str | None:
    """How a pending signal ends unsent; None when it is to be sent."""
    if row["is_stopped"]:
        return "stopped"
    return "expired" if row["expires_at"] <= now else None


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
