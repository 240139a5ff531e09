"""Executions into the database: observations once each, fills as rises, FIFO lots; one transaction a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from model_service.contracts.executions import Observation
from model_service.contracts.types import OrderStatus
from model_service.database.connection import Connection, Database, TransactionConflict
from model_service.database.decisions import lot_from
from model_service.database.sqlstate import is_content
from model_service.trades.fills import FillRise, OrderProgress
from model_service.trades.ledger import Fill, Lot, LotClosure, apply_fill
from model_service.trades.orders import KnownOrders

LOCK = """
    SELECT pg_advisory_xact_lock(hashtextextended('model-service:' || name, 0))
    FROM (SELECT unnest($1::text[]) AS name ORDER BY 1) AS names
"""
SIGNALS = """
    SELECT signal_id, strategy_id, asset FROM model_service.trading_signals WHERE signal_id = ANY($1::uuid[])
"""
INSERT_EVENTS = """
    INSERT INTO model_service.execution_events (
        event_id, source, kind, order_id, signal_id, asset, side, status, quantity, price, fees, executed_at,
        reported_return, is_dry_run, is_orphan, trace_id, body, received_at)
    SELECT event_id, $16, kind, order_id, signal_id, asset, side, status, quantity, price, fees, executed_at,
           reported_return, is_dry_run, is_orphan, trace_id, body, $17
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::numeric[],
                $9::numeric[], $10::numeric[], $11::timestamptz[], $12::numeric[], $13::bool[], $14::bool[],
                $15::text[], $18::bytea[])
         AS given (event_id, kind, order_id, signal_id, asset, side, status, quantity, price, fees, executed_at,
                   reported_return, is_dry_run, is_orphan, trace_id, body)
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
"""
PROGRESS = """
    SELECT * FROM model_service.order_progress
    WHERE order_id = ANY($1::text[]) OR other_order_id = ANY($1::text[]) OR signal_id = ANY($2::text[])
"""
UPSERT_PROGRESS = """
    INSERT INTO model_service.order_progress (
        order_id, signal_id, status, increment_quantity, increment_notional, increment_fees, checkpoint_quantity,
        checkpoint_notional, checkpoint_fees, filled_quantity, filled_notional, filled_fees, other_order_id, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (order_id) DO UPDATE SET
        status = excluded.status, increment_quantity = excluded.increment_quantity,
        increment_notional = excluded.increment_notional, increment_fees = excluded.increment_fees,
        checkpoint_quantity = excluded.checkpoint_quantity, checkpoint_notional = excluded.checkpoint_notional,
        checkpoint_fees = excluded.checkpoint_fees, filled_quantity = excluded.filled_quantity,
        filled_notional = excluded.filled_notional, filled_fees = excluded.filled_fees,
        other_order_id = excluded.other_order_id, updated_at = excluded.updated_at
"""
JOIN_FILLS = "UPDATE model_service.fills SET order_id = $2 WHERE order_id = $1 AND signal_id = $3"
DELETE_PROGRESS = "DELETE FROM model_service.order_progress WHERE order_id = $1"
RESERVE_IDS = """
    SELECT nextval(pg_get_serial_sequence('model_service.fills', 'fill_id')) AS fill_id,
           nextval(pg_get_serial_sequence('model_service.lots', 'lot_id')) AS lot_id
    FROM generate_series(1, $1::int)
"""
INSERT_FILL = """
    INSERT INTO model_service.fills (
        fill_id, event_id, order_id, signal_id, strategy_id, asset, side, quantity, price, fees, executed_at)
    OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
OPEN_LOTS = """
    SELECT lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity, entry_fees
    FROM model_service.lots JOIN unnest($1::text[], $2::text[]) AS wanted (strategy_id, asset)
         USING (strategy_id, asset)
    WHERE remaining_quantity > 0 ORDER BY lot_id
"""
UPSERT_LOT = """
    INSERT INTO model_service.lots (
        lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity, entry_fees)
    OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (lot_id) DO UPDATE SET remaining_quantity = excluded.remaining_quantity
"""
INSERT_CLOSURE = """
    INSERT INTO model_service.lot_closures (
        lot_id, fill_id, strategy_id, asset, quantity, entry_price, exit_price, fees, realized_pnl, closed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
UPDATE_SIGNAL = """
    UPDATE model_service.trading_signals
    SET order_state = $2, first_filled_at = least(first_filled_at, $3),
        labelled_at = CASE WHEN $3::timestamptz IS NULL THEN labelled_at END
    WHERE signal_id = $1
"""


RETRIES_AT_CONFLICTS = 3
MAX_CAUSE_LENGTH = 500


class NotStorable(Exception):  # noqa: N818 - what it says of the values, and what a dead letter says of its message
    """PostgreSQL refused the values of a batch; the text says why. Nothing of the batch is recorded."""


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """What a batch came to: events that were new, how many of them were orphans, and the fills derived."""

    new_events: int
    orphans: int
    fills: int


@dataclass(frozen=True, slots=True)
class _Owner:
    """The signal that an order was made from."""

    signal_id: UUID
    strategy_id: str
    asset: str


@dataclass(frozen=True, slots=True)
class _SourcedFill:
    """A fill, the observation that raised it, and the identifier that its order went by then."""

    observation: Observation
    order_id: str
    fill: Fill


class ExecutionStore:
    """Records observations idempotently; whoever calls may acknowledge its messages when `record` returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self, observations: Sequence[tuple[Observation, bytes]], source: str, now: datetime
    ) -> RecordedBatch:
        """All of a batch, in its order, in one transaction; what was recorded before is passed over.

        Raises:
            NotStorable: PostgreSQL refused the values of one of them. Nothing is recorded.
            DatabaseUnavailable: wait and try again. Mostly nothing is recorded, and it does no harm when it is.
        """
        first: dict[str, tuple[Observation, bytes]] = {}
        for observation, body in observations:
            first.setdefault(observation.event_id, (observation, body))
        ordered = list(first.values())
        for _ in range(RETRIES_AT_CONFLICTS):
            try:
                return await self._record_once(ordered, source, now)
            except TransactionConflict:
                continue
        return await self._record_once(ordered, source, now)

    async def orders_named(self, names: Iterable[str]) -> list[OrderProgress]:
        """What is known of the orders under any of these identifiers. Raises DatabaseUnavailable."""
        async with self._database.acquire() as connection:
            return await _orders(connection, self._database.sql(PROGRESS), names, ())

    async def _record_once(
        self, ordered: Sequence[tuple[Observation, bytes]], source: str, now: datetime
    ) -> RecordedBatch:
        try:
            async with self._database.transaction() as connection:
                owners = await self._owners(connection, [observation for observation, _ in ordered])
                await self._lock(connection, [observation for observation, _ in ordered], owners)
                new_ids = await self._insert_events(connection, ordered, owners, source, now)
                new = [observation for observation, _ in ordered if observation.event_id in new_ids]
                known = [observation for observation in new if observation.signal_id in owners]
                fills = await self._derive(connection, known, owners, now)
        except asyncpg.PostgresError as error:
            if is_content(error):
                raise NotStorable(_in_words(error)) from error
            raise
        return RecordedBatch(len(new), len(new) - len(known), fills)

    async def _owners(self, connection: Connection, observations: Sequence[Observation]) -> dict[str, _Owner]:
        identifiers = {text: parsed for o in observations if (parsed := _uuid(text := o.signal_id)) is not None}
        rows = await connection.fetch(self._database.sql(SIGNALS), list(set(identifiers.values())))
        by_id = {row["signal_id"]: _Owner(row["signal_id"], row["strategy_id"], row["asset"]) for row in rows}
        return {text: by_id[parsed] for text, parsed in identifiers.items() if parsed in by_id}

    async def _lock(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, _Owner]
    ) -> None:
        # Orders and positions are locked by name in one sorted sweep: writers of any number cannot deadlock. The
        # position's lock also holds what reports an order under its other identifier.
        names = {f"order:{observation.order_id}" for observation in observations}
        names |= {f"position:{owner.strategy_id}:{owner.asset}" for owner in owners.values()}
        await connection.execute(self._database.sql(LOCK), sorted(names))

    async def _insert_events(
        self,
        connection: Connection,
        batch: Sequence[tuple[Observation, bytes]],
        owners: Mapping[str, _Owner],
        source: str,
        now: datetime,
    ) -> set[str]:
        rows = [
            (
                o.event_id, o.kind.value, o.order_id, o.signal_id, o.asset, o.side.value, o.status.value, o.quantity,
                o.price, o.fees, o.executed_at, o.reported_return, o.is_dry_run, o.signal_id not in owners, o.trace_id,
            )
            for o, _ in batch
        ]  # fmt: skip
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(15)]
        bodies = [body for _, body in batch]
        inserted = await connection.fetch(self._database.sql(INSERT_EVENTS), *columns, source, now, bodies)
        return {row["event_id"] for row in inserted}

    async def _derive(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, _Owner], now: datetime
    ) -> int:
        if not observations:
            return 0
        known = await self._known_orders(connection, observations, owners)
        fills: list[_SourcedFill] = []
        for observation in observations:
            owner = owners[observation.signal_id]
            order, rise = known.take(replace(observation, signal_id=str(owner.signal_id)))
            if rise is not None:
                fills.append(_SourcedFill(observation, order.order_id, _fill(observation, owner, rise)))
        await self._write_progress(connection, known, now)
        await self._write_fills(connection, fills)
        await self._join_fills(connection, known)
        await self._update_signals(connection, observations, known, owners, fills)
        return len(fills)

    async def _known_orders(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, _Owner]
    ) -> KnownOrders:
        """Orders under any name that is mentioned, and all of the signals that are."""
        names = {name for o in observations for name in (o.order_id, o.other_order_id) if name is not None}
        signals = {str(owners[observation.signal_id].signal_id) for observation in observations}
        return KnownOrders(await _orders(connection, self._database.sql(PROGRESS), names, signals))

    async def _write_progress(self, connection: Connection, known: KnownOrders, now: datetime) -> None:
        rows = [_progress_row(progress, now) for _, progress in sorted(known.changed.items())]
        await connection.executemany(self._database.sql(UPSERT_PROGRESS), rows)

    async def _join_fills(self, connection: Connection, known: KnownOrders) -> None:
        for gone, into in known.joined.items():
            signal_id = UUID(known.changed[into].signal_id)
            await connection.execute(self._database.sql(JOIN_FILLS), gone, into, signal_id)
            await connection.execute(self._database.sql(DELETE_PROGRESS), gone)

    async def _write_fills(self, connection: Connection, fills: Sequence[_SourcedFill]) -> None:
        if not fills:
            return
        ids = await connection.fetch(self._database.sql(RESERVE_IDS), len(fills))
        fill_rows = [_fill_row(row["fill_id"], sourced) for sourced, row in zip(fills, ids, strict=True)]
        await connection.executemany(self._database.sql(INSERT_FILL), fill_rows)
        lot_rows, closure_rows = await self._book(connection, [sourced.fill for sourced in fills], ids)
        await connection.executemany(self._database.sql(UPSERT_LOT), lot_rows)
        await connection.executemany(self._database.sql(INSERT_CLOSURE), closure_rows)

    async def _book(
        self, connection: Connection, fills: Sequence[Fill], ids: Sequence[asyncpg.Record]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        keys = sorted({(fill.strategy_id, fill.asset) for fill in fills})
        rows = await connection.fetch(self._database.sql(OPEN_LOTS), [key[0] for key in keys], [key[1] for key in keys])
        lots: dict[int, Lot] = {row["lot_id"]: lot_from(row) for row in rows}
        touched: dict[int, Lot] = {}
        closures: list[tuple[Any, ...]] = []
        for fill, reserved in zip(fills, ids, strict=True):
            key = (fill.strategy_id, fill.asset)
            book = [lot for lot in lots.values() if (lot.strategy_id, lot.asset) == key and lot.remaining_quantity > 0]
            change = apply_fill(book, fill)
            opened = () if change.opened is None else (replace(change.opened, lot_id=reserved["lot_id"]),)
            for lot in (*change.reduced, *opened):
                assert lot.lot_id is not None, "open lots come from the database or have a reserved identifier"
                lots[lot.lot_id] = touched[lot.lot_id] = lot
            closures += [_closure_row(reserved["fill_id"], closure) for closure in change.closures]
        return [_lot_row(lot) for lot in touched.values()], closures

    async def _update_signals(
        self,
        connection: Connection,
        observations: Sequence[Observation],
        known: KnownOrders,
        owners: Mapping[str, _Owner],
        fills: Sequence[_SourcedFill],
    ) -> None:
        first_fill: dict[UUID, datetime] = {}
        for fill in (sourced.fill for sourced in fills):
            first_fill[fill.signal_id] = min(first_fill.get(fill.signal_id, fill.executed_at), fill.executed_at)
        signals = sorted({owners[observation.signal_id].signal_id for observation in observations})
        rows = [(one, known.state_of(str(one)).value, first_fill.get(one)) for one in signals]
        await connection.executemany(self._database.sql(UPDATE_SIGNAL), rows)


async def _orders(
    connection: Connection, statement: str, names: Iterable[str], signals: Iterable[str]
) -> list[OrderProgress]:
    """What is known of orders under any of their `names`, and of all orders of `signals`."""
    return [_progress(row) for row in await connection.fetch(statement, sorted(names), sorted(signals))]


def _fill(observation: Observation, owner: _Owner, rise: FillRise) -> Fill:
    return Fill(
        signal_id=owner.signal_id,
        strategy_id=owner.strategy_id,
        asset=owner.asset,
        side=observation.side,
        quantity=rise.quantity,
        price=rise.price,
        fees=rise.fees,
        executed_at=observation.executed_at,
    )


def _in_words(error: asyncpg.PostgresError) -> str:
    """The driver repeats values of any length and any characters."""
    return f"{error.sqlstate}: {error}".encode("utf-8", errors="replace").decode("utf-8")[:MAX_CAUSE_LENGTH]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _progress(row: asyncpg.Record) -> OrderProgress:
    values = {name: row[name] for name in OrderProgress.__dataclass_fields__}
    return OrderProgress(**{**values, "status": OrderStatus(row["status"])})


def _progress_row(progress: OrderProgress, now: datetime) -> tuple[Any, ...]:
    return (
        progress.order_id, progress.signal_id, progress.status.value, progress.increment_quantity,
        progress.increment_notional, progress.increment_fees, progress.checkpoint_quantity,
        progress.checkpoint_notional, progress.checkpoint_fees, progress.filled_quantity, progress.filled_notional,
        progress.filled_fees, progress.other_order_id, now,
    )  # fmt: skip


def _fill_row(fill_id: int, sourced: _SourcedFill) -> tuple[Any, ...]:
    fill = sourced.fill
    return (
        fill_id, sourced.observation.event_id, sourced.order_id, fill.signal_id, fill.strategy_id,
        fill.asset, fill.side.value, fill.quantity, fill.price, fill.fees, fill.executed_at,
    )  # fmt: skip


def _lot_row(lot: Lot) -> tuple[Any, ...]:
    return (
        lot.lot_id, lot.strategy_id, lot.asset, lot.side.value, lot.signal_id, lot.opened_at, lot.entry_price,
        lot.quantity, lot.remaining_quantity, lot.entry_fees,
    )  # fmt: skip


def _closure_row(fill_id: int, closure: LotClosure) -> tuple[Any, ...]:
    return (
        closure.lot_id, fill_id, closure.strategy_id, closure.asset, closure.quantity, closure.entry_price,
        closure.exit_price, closure.fees, closure.realized_pnl, closure.closed_at,
    )  # fmt: skip
