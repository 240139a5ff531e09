"""The table of raw observations: rows in, observations out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus, Side

_INSERT = """
    INSERT INTO model_service.execution_events (
        event_id, source, kind, order_id, other_order_id, signal_id, asset, side, status, quantity, price, fees,
        executed_at, reported_return, is_dry_run, is_orphan, trace_id, body, received_at)
    SELECT event_id, $1, kind, order_id, other_order_id, signal_id, asset, side, status, quantity, price, fees,
           executed_at, reported_return, is_dry_run, false, trace_id, body, $2
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::numeric[], $12::numeric[], $13::numeric[], $14::timestamptz[], $15::numeric[], $16::bool[],
                $17::text[], $18::bytea[])
         AS given (event_id, kind, order_id, other_order_id, signal_id, asset, side, status, quantity, price, fees,
                   executed_at, reported_return, is_dry_run, trace_id, body)
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
"""
INSERT = _INSERT
"""Stores what is new; returns the `event_id` of each. Arguments: `arguments_of`."""

INSERT_AND_QUEUE = f"""
    WITH stored AS ({_INSERT})
    INSERT INTO model_service.underived_executions (event_id) SELECT event_id FROM stored
"""  # noqa: S608 - both parts are constants
"""The same, and each new one waits to be derived."""

TAKE_QUEUED = """
    WITH taken AS (
        DELETE FROM model_service.underived_executions
        WHERE position = ANY (ARRAY(
            SELECT position FROM model_service.underived_executions
            WHERE refusal IS NULL ORDER BY position LIMIT $1))
        RETURNING position, event_id)
    SELECT position, event_id, kind, order_id, other_order_id, signal_id, asset, side, status, quantity, price, fees,
           executed_at, reported_return, is_dry_run, trace_id
    FROM taken JOIN model_service.execution_events USING (event_id) ORDER BY position
"""
"""The oldest ones that wait, as rows for `observation_from`; they wait no more once the transaction is committed."""


def arguments_of(batch: Sequence[tuple[Observation, bytes]], source: str, now: datetime) -> list[Any]:
    """What INSERT takes, column by column. The first of several with one `event_id` is stored."""
    observations = [observation for observation, _ in batch]
    return [
        source,
        now,
        [one.event_id for one in observations],
        [one.kind.value for one in observations],
        [one.order_id for one in observations],
        [one.other_order_id for one in observations],
        [one.signal_id for one in observations],
        [one.asset for one in observations],
        [one.side.value for one in observations],
        [one.status.value for one in observations],
        [one.quantity for one in observations],
        [one.price for one in observations],
        [one.fees for one in observations],
        [one.executed_at for one in observations],
        [one.reported_return for one in observations],
        [one.is_dry_run for one in observations],
        [one.trace_id for one in observations],
        [body for _, body in batch],
    ]


def observation_from(row: asyncpg.Record) -> Observation:
    """The observation that a row was made from, less what no fill depends on."""
    return Observation(
        event_id=row["event_id"],
        kind=ObservationKind(row["kind"]),
        order_id=row["order_id"],
        other_order_id=row["other_order_id"],
        signal_id=row["signal_id"],
        asset=row["asset"],
        side=Side(row["side"]),
        status=OrderStatus(row["status"]),
        quantity=row["quantity"],
        price=row["price"],
        fees=row["fees"],
        executed_at=row["executed_at"],
        reported_return=row["reported_return"],
        is_dry_run=row["is_dry_run"],
        trace_id=row["trace_id"],
    )
