"""The rows of the position book, and the one statement that writes those of a whole batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from model_service.contracts.types import OrderStatus
from model_service.trades.fills import OrderProgress
from model_service.trades.ledger import Fill, Lot, LotClosure

Row = tuple[Any, ...]

_PROGRESS = """
    INSERT INTO model_service.order_progress (
        order_id, signal_id, status, increment_quantity, increment_notional, increment_fees, checkpoint_quantity,
        checkpoint_notional, checkpoint_fees, filled_quantity, filled_notional, filled_fees, other_order_id, updated_at)
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::text[], $14::timestamptz[])
    ON CONFLICT (order_id) DO UPDATE SET
        status = excluded.status, increment_quantity = excluded.increment_quantity,
        increment_notional = excluded.increment_notional, increment_fees = excluded.increment_fees,
        checkpoint_quantity = excluded.checkpoint_quantity, checkpoint_notional = excluded.checkpoint_notional,
        checkpoint_fees = excluded.checkpoint_fees, filled_quantity = excluded.filled_quantity,
        filled_notional = excluded.filled_notional, filled_fees = excluded.filled_fees,
        other_order_id = excluded.other_order_id, updated_at = excluded.updated_at
"""
_FILLS = """
    INSERT INTO model_service.fills (
        fill_id, event_id, order_id, signal_id, strategy_id, asset, side, quantity, price, fees, executed_at)
    OVERRIDING SYSTEM VALUE SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::numeric[],
        $9::numeric[], $10::numeric[], $11::timestamptz[])
"""
_OPENED = """
    INSERT INTO model_service.lots (
        lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity, entry_fees,
        position_id)
    OVERRIDING SYSTEM VALUE SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::numeric[], $11::bigint[])
"""
_REDUCED = """
    UPDATE model_service.lots SET remaining_quantity = reduced.remaining_quantity
    FROM unnest($1::bigint[], $2::numeric[]) AS reduced (lot_id, remaining_quantity)
    WHERE lots.lot_id = reduced.lot_id
"""
_CLOSURES = """
    INSERT INTO model_service.lot_closures (
        lot_id, fill_id, strategy_id, asset, quantity, entry_price, exit_price, fees, realized_pnl, closed_at)
    SELECT * FROM unnest(
        $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::timestamptz[])
"""
_SIGNALS = """
    UPDATE model_service.trading_signals AS signals
    SET order_state = known.order_state, first_filled_at = least(signals.first_filled_at, known.first_filled_at),
        labelled_at = CASE WHEN known.first_filled_at IS NULL THEN signals.labelled_at END
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS known (signal_id, order_state, first_filled_at)
    WHERE signals.signal_id = known.signal_id
"""


@dataclass(slots=True)
class BookRows:
    """What a batch changes, row by row in the order of the columns above; written together, so in one round trip."""

    progress: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    opened: list[Row] = field(default_factory=list)
    reduced: list[Row] = field(default_factory=list)
    closures: list[Row] = field(default_factory=list)
    signals: list[Row] = field(default_factory=list)

    def arguments(self) -> list[list[Any]]:
        """What WRITE takes, column by column."""
        tables = (self.progress, self.fills, self.opened, self.reduced, self.closures, self.signals)
        return [column for rows, width in zip(tables, _WIDTHS, strict=True) for column in columns(rows, width)]


def columns(rows: Sequence[Row], width: int) -> list[list[Any]]:
    """Rows of `width` values, turned."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def progress_from(row: asyncpg.Record) -> OrderProgress:
    """What is known of an order from its row."""
    values = {name: row[name] for name in OrderProgress.__dataclass_fields__}
    return OrderProgress(**{**values, "status": OrderStatus(row["status"])})


def progress_row(progress: OrderProgress, now: datetime) -> Row:
    """Of `order_progress`."""
    return (
        progress.order_id, progress.signal_id, progress.status.value, progress.increment_quantity,
        progress.increment_notional, progress.increment_fees, progress.checkpoint_quantity,
        progress.checkpoint_notional, progress.checkpoint_fees, progress.filled_quantity, progress.filled_notional,
        progress.filled_fees, progress.other_order_id, now,
    )  # fmt: skip


def fill_row(fill_id: int, event_id: str, order_id: str, fill: Fill) -> Row:
    """Of `fills`."""
    return (
        fill_id, event_id, order_id, fill.signal_id, fill.strategy_id, fill.asset, fill.side.value, fill.quantity,
        fill.price, fill.fees, fill.executed_at,
    )  # fmt: skip


def lot_row(lot: Lot) -> Row:
    """Of `lots`."""
    return (
        lot.lot_id, lot.strategy_id, lot.asset, lot.side.value, lot.signal_id, lot.opened_at, lot.entry_price,
        lot.quantity, lot.remaining_quantity, lot.entry_fees, lot.position_id,
    )  # fmt: skip


def closure_row(fill_id: int, closure: LotClosure) -> Row:
    """Of `lot_closures`."""
    return (
        closure.lot_id, fill_id, closure.strategy_id, closure.asset, closure.quantity, closure.entry_price,
        closure.exit_price, closure.fees, closure.realized_pnl, closure.closed_at,
    )  # fmt: skip


def signal_row(signal_id: UUID, state: OrderStatus, first_filled_at: datetime | None) -> Row:
    """Of `trading_signals`, what an execution changes in it."""
    return signal_id, state.value, first_filled_at


def _width(statement: str) -> int:
    return max(int(number) for number in re.findall(r"\$(\d+)", statement))


def _together(*statements: str) -> str:
    """All but the last as WITH queries of the last; each has its own arguments, numbered on from those before it."""
    widths = [_width(statement) for statement in statements]
    *parts, last = (_numbered_from(sum(widths[:place]), statement) for place, statement in enumerate(statements))
    return "WITH " + ", ".join(f"part_{number} AS ({part})" for number, part in enumerate(parts)) + last


def _numbered_from(before: int, statement: str) -> str:
    return re.sub(r"\$(\d+)", lambda found: f"${before + int(found[1])}", statement)


_STATEMENTS = (_PROGRESS, _FILLS, _OPENED, _REDUCED, _CLOSURES, _SIGNALS)
_WIDTHS = tuple(_width(statement) for statement in _STATEMENTS)
WRITE = _together(*_STATEMENTS)
"""Writes all rows of a BookRows."""
