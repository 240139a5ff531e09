"""Limits of openings over all processes: read, asked and written in the transaction that records the openings.

One lock makes them one after the other. Whoever cannot have it within half a second opens nothing this time: exits of
the same pass must not wait for a process that hangs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg

from model_service.contracts.types import Side
from model_service.database.connection import Connection, Database
from model_service.database.halts import OPEN, halt_from
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.ports import DecidedSignal, PositionKey
from model_service.services.rate_limit import Bucket
from model_service.services.shared_limits import (
    Admission,
    Held,
    RecentOpening,
    SharedLimits,
    SharedState,
    admit,
    refuse_all,
)

LOCK_SECONDS = 0.5
LOCK_AGAIN_SECONDS = 0.01
BUCKET = "openings"

# A statement of its own: what the next one reads has to be of a time after the lock was had.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('model-service/openings', 0))"

STATE = """
    SELECT (
        SELECT coalesce(jsonb_agg(to_jsonb(halts) - '{ended_at,ended_by,ended_reason}'::text[] ORDER BY halt_id), '[]')
        FROM model_service.trading_halts AS halts WHERE ended_at IS NULL
    ) AS halts, (
        SELECT coalesce(jsonb_agg(positions), '[]') FROM (
            SELECT strategy_id, asset, sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * remaining_quantity) AS quantity,
                   sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * remaining_quantity * entry_price) AS cost
            FROM model_service.lots WHERE $1 AND remaining_quantity > 0 GROUP BY 1, 2
        ) AS positions
    ) AS positions, (
        SELECT coalesce(jsonb_agg(under_way), '[]') FROM (
            SELECT strategy_id, asset, side, sum(greatest(0, amount - coalesce((
                       SELECT sum(quantity * price) FROM model_service.fills
                       WHERE fills.signal_id = signals.signal_id), 0))) AS amount
            FROM model_service.trading_signals AS signals
            WHERE $1 AND intent <> 'exit' AND status IN ('pending', 'sending', 'published')
              AND (order_state IS NULL OR order_state IN ('pending', 'partially_filled')) AND decided_at > $2
            GROUP BY 1, 2, 3
        ) AS under_way
    ) AS under_way, (
        SELECT coalesce(jsonb_agg(recent), '[]') FROM (
            SELECT strategy_id, asset, side, decided_at FROM model_service.trading_signals
            WHERE decided_at > $3 AND intent <> 'exit' AND status IN ('pending', 'sending', 'published')
              AND asset = ANY ($4::text[])
        ) AS recent
    ) AS recent, (
        SELECT to_jsonb(buckets) FROM model_service.signal_buckets AS buckets WHERE name = $5
    ) AS bucket
"""
KEEP_BUCKET = """
    INSERT INTO model_service.signal_buckets (name, tokens, refilled_at) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET tokens = excluded.tokens, refilled_at = excluded.refilled_at
"""


async def admit_openings(
    database: Database,
    connection: Connection,
    openings: Sequence[DecidedSignal],
    limits: SharedLimits,
    prices: Mapping[str, float],
    *,
    order_timeout: timedelta,
) -> Admission:
    """What of `openings`, all decided at one moment, may be recorded in the transaction that `connection` is in.

    Without limits only halts are looked at, and nobody waits for the lock.

    Args:
        prices: by asset, to value positions at; where one is missing its lots count at their entry.
        order_timeout: after so long without a word an opening is no longer under way.
    """
    now = openings[0].signal.timestamp
    if not limits.exist:
        halts = [halt_from(row) for row in await connection.fetch(database.sql(OPEN))]
        return admit(SharedState(halts), openings, limits, now)
    if not await _locked(database, connection):
        return refuse_all(openings, Reason(ReasonCode.LIMITS_BUSY, LOCK_SECONDS, LOCK_SECONDS))
    row = await connection.fetchrow(
        database.sql(STATE),
        math.isfinite(limits.maximum_exposure),
        now - order_timeout,
        now - timedelta(seconds=limits.conflict_window_seconds),
        sorted({one.signal.asset for one in openings}),
        BUCKET,
    )
    assert row is not None, "a SELECT of scalars has one row"
    admission = admit(_state(row, prices), openings, limits, now)
    if admission.bucket is not None:
        bucket = admission.bucket
        await connection.execute(database.sql(KEEP_BUCKET), BUCKET, bucket.tokens, bucket.refilled_at)
    return admission


async def _locked(database: Database, connection: Connection) -> bool:
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    while not await connection.fetchval(database.sql(LOCK)):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(LOCK_AGAIN_SECONDS)
    return True


def _state(row: asyncpg.Record, prices: Mapping[str, float]) -> SharedState:
    held: dict[PositionKey, Held] = {}
    for one in row["positions"]:
        price = prices.get(one["asset"], math.nan)
        value = one["quantity"] * price if math.isfinite(price) else one["cost"]
        held[one["strategy_id"], one["asset"]] = Held(float(value))
    for one in row["under_way"]:
        key = one["strategy_id"], one["asset"]
        held[key] = held.get(key, Held()).with_opening(Side(one["side"]), float(one["amount"]))
    bucket = row["bucket"]
    return SharedState(
        halts=[halt_from({**one, "started_at": _moment(one["started_at"])}) for one in row["halts"]],
        held=held,
        recent=[
            RecentOpening(one["strategy_id"], one["asset"], Side(one["side"]), _moment(one["decided_at"]))
            for one in row["recent"]
        ],
        bucket=None if bucket is None else Bucket(bucket["tokens"], _moment(bucket["refilled_at"])),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
