"""Observations into the position book: order progress, fills as rises, FIFO lots and their closures, signal states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from model_service.contracts.executions import Observation
from model_service.contracts.types import OrderStatus
from model_service.database.connection import Connection, Database
from model_service.database.decisions import lot_from
from model_service.trades.fills import FillRise, OrderProgress
from model_service.trades.ledger import Fill, Lot, LotClosure, apply_fill
from model_service.trades.orders import KnownOrders

log = structlog.get_logger()

# Each statement writes the rows of a whole batch, given column by column.
PROGRESS = """
    SELECT * FROM model_service.order_progress
    WHERE order_id = ANY($1::text[]) OR other_order_id = ANY($1::text[]) OR signal_id = ANY($2::text[])
"""
UPSERT_PROGRESS = """
    INSERT INTO model_service.order_progress (
        order_id, signal_id, status, increment_quantity, increment_notional, increment_fees, checkpoint_quantity,
        checkpoint_notional, checkpoint_fees, filled_quantity, filled_notional, filled_fees, other_order_id, updated_at)
    SELECT *, $14 FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::text[])
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
    WITH sequences AS MATERIALIZED (
        SELECT pg_get_serial_sequence('model_service.fills', 'fill_id')::regclass AS fills,
               pg_get_serial_sequence('model_service.lots', 'lot_id')::regclass AS lots)
    SELECT nextval(fills) AS fill_id, nextval(lots) AS lot_id FROM sequences, generate_series(1, $1::int)
"""
INSERT_FILLS = """
    INSERT INTO model_service.fills (
        fill_id, event_id, order_id, signal_id, strategy_id, asset, side, quantity, price, fees, executed_at)
    OVERRIDING SYSTEM VALUE SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::numeric[],
        $9::numeric[], $10::numeric[], $11::timestamptz[])
"""
OPEN_LOTS = """
    SELECT lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity, entry_fees
    FROM model_service.lots JOIN unnest($1::text[], $2::text[]) AS wanted (strategy_id, asset)
         USING (strategy_id, asset)
    WHERE remaining_quantity > 0 ORDER BY lot_id
"""
INSERT_LOTS = """
    INSERT INTO model_service.lots (
        lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity, entry_fees)
    OVERRIDING SYSTEM VALUE SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::numeric[])
"""
REDUCE_LOTS = """
    UPDATE model_service.lots SET remaining_quantity = reduced.remaining_quantity
    FROM unnest($1::bigint[], $2::numeric[]) AS reduced (lot_id, remaining_quantity)
    WHERE lots.lot_id = reduced.lot_id
"""
INSERT_CLOSURES = """
    INSERT INTO model_service.lot_closures (
        lot_id, fill_id, strategy_id, asset, quantity, entry_price, exit_price, fees, realized_pnl, closed_at)
    SELECT * FROM unnest(
        $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
        $9::numeric[], $10::timestamptz[])
"""
UPDATE_SIGNALS = """
    UPDATE model_service.trading_signals AS signals
    SET order_state = known.order_state, first_filled_at = least(signals.first_filled_at, known.first_filled_at),
        labelled_at = CASE WHEN known.first_filled_at IS NULL THEN signals.labelled_at END
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS known (signal_id, order_state, first_filled_at)
    WHERE signals.signal_id = known.signal_id
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """The signal that an order was made from."""

    signal_id: UUID
    strategy_id: str
    asset: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class _SourcedFill:
    """A fill, the observation that raised it, and the identifier that its order went by then."""

    observation: Observation
    order_id: str
    fill: Fill


class PositionBook:
    """Writes what observations mean, on a connection whose transaction holds the locks of orders and positions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enter(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, Owner], now: datetime
    ) -> int:
        """Take observations of known signals, in their order; returns how many fills came of them.

        Args:
            owners: by the signal_id of the observations, as they have it.
        """
        if not observations:
            return 0
        known = await self._known_orders(connection, observations, owners)
        fills: list[_SourcedFill] = []
        for observation in observations:
            owner = owners[observation.signal_id]
            order, rise = known.take(_under(observation, str(owner.signal_id)))
            if order.signal_id != str(owner.signal_id):
                log.warning(
                    "order_of_two_signals", order_id=order.order_id, first=order.signal_id, second=str(owner.signal_id)
                )
            if rise is not None:
                fills.append(_SourcedFill(observation, order.order_id, _fill(observation, owner, rise)))
        await self._write_progress(connection, known, now)
        await self._write_fills(connection, fills)
        await self._join_fills(connection, known)
        await self._update_signals(connection, observations, known, owners, fills)
        return len(fills)

    async def orders(self, connection: Connection, names: Iterable[str], signals: Iterable[str]) -> list[OrderProgress]:
        """What is known of orders under any of their `names`, and of all orders of `signals`."""
        rows = await connection.fetch(self._database.sql(PROGRESS), sorted(names), sorted(signals))
        return [_progress(row) for row in rows]

    async def _known_orders(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, Owner]
    ) -> KnownOrders:
        """Orders under any name that is mentioned, and all of the signals that are."""
        names = {name for o in observations for name in (o.order_id, o.other_order_id) if name is not None}
        signals = {str(owners[observation.signal_id].signal_id) for observation in observations}
        return KnownOrders(await self.orders(connection, names, signals))

    async def _write_progress(self, connection: Connection, known: KnownOrders, now: datetime) -> None:
        rows = [_progress_row(progress) for _, progress in sorted(known.changed.items())]
        await self._write(connection, UPSERT_PROGRESS, rows, now)

    async def _join_fills(self, connection: Connection, known: KnownOrders) -> None:
        for gone, into in known.joined.items():
            signal_id = UUID(known.changed[into].signal_id)
            await connection.execute(self._database.sql(JOIN_FILLS), gone, into, signal_id)
            await connection.execute(self._database.sql(DELETE_PROGRESS), gone)

    async def _write_fills(self, connection: Connection, fills: Sequence[_SourcedFill]) -> None:
        if not fills:
            return
        ids = await connection.fetch(self._database.sql(RESERVE_IDS), len(fills))
        rows = [_fill_row(row["fill_id"], sourced) for sourced, row in zip(fills, ids, strict=True)]
        await self._write(connection, INSERT_FILLS, rows)
        await self._write_lots(connection, [sourced.fill for sourced in fills], ids)

    async def _write_lots(self, connection: Connection, fills: Sequence[Fill], ids: Sequence[asyncpg.Record]) -> None:
        lots = _OpenLots(await self._open_lots(connection, fills))
        for fill, reserved in zip(fills, ids, strict=True):
            lots.apply(fill, reserved["fill_id"], reserved["lot_id"])
        await self._write(connection, INSERT_LOTS, [_lot_row(lot) for lot in lots.opened.values()])
        reduced = [(lot_id, lot.remaining_quantity) for lot_id, lot in lots.reduced.items()]
        await self._write(connection, REDUCE_LOTS, reduced)
        await self._write(connection, INSERT_CLOSURES, lots.closures)

    async def _open_lots(self, connection: Connection, fills: Sequence[Fill]) -> list[Lot]:
        books = sorted({(fill.strategy_id, fill.asset) for fill in fills})
        rows = await connection.fetch(self._database.sql(OPEN_LOTS), *_columns(books))
        return [lot_from(row) for row in rows]

    async def _update_signals(
        self,
        connection: Connection,
        observations: Sequence[Observation],
        known: KnownOrders,
        owners: Mapping[str, Owner],
        fills: Sequence[_SourcedFill],
    ) -> None:
        first_fill: dict[UUID, datetime] = {}
        for fill in (sourced.fill for sourced in fills):
            first_fill[fill.signal_id] = min(first_fill.get(fill.signal_id, fill.executed_at), fill.executed_at)
        signals = sorted({owners[observation.signal_id].signal_id for observation in observations})
        rows = [(one, known.state_of(str(one)).value, first_fill.get(one)) for one in signals]
        await self._write(connection, UPDATE_SIGNALS, rows)

    async def _write(
        self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]], *arguments: object
    ) -> None:
        if rows:
            await connection.execute(self._database.sql(statement), *_columns(rows), *arguments)


class _OpenLots:
    """The lots of some books while fills are applied to them one after another."""

    def __init__(self, lots: Iterable[Lot]) -> None:
        self._books: dict[tuple[str, str], list[Lot]] = {}
        self.opened: dict[int, Lot] = {}
        self.reduced: dict[int, Lot] = {}
        self.closures: list[tuple[Any, ...]] = []
        for lot in lots:
            self._books.setdefault((lot.strategy_id, lot.asset), []).append(lot)

    def apply(self, fill: Fill, fill_id: int, lot_id: int) -> None:
        """Close and open; a lot that is opened gets `lot_id`. Raises ValueError as `apply_fill`."""
        book = self._books.setdefault((fill.strategy_id, fill.asset), [])
        change = apply_fill(book, fill)
        for lot in change.reduced:
            assert lot.lot_id is not None, "open lots come from the database or were opened with an identifier"
            (self.opened if lot.lot_id in self.opened else self.reduced)[lot.lot_id] = lot
        # Lots are closed oldest first: those that were reduced stand at the beginning of the book.
        book[: len(change.reduced)] = [lot for lot in change.reduced if lot.remaining_quantity > 0]
        if change.opened is not None:
            self.opened[lot_id] = opened = replace(change.opened, lot_id=lot_id)
            book.append(opened)
        self.closures += [_closure_row(fill_id, closure) for closure in change.closures]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _under(observation: Observation, signal_id: str) -> Observation:
    """A signal's identifier may come in any spelling of a UUID; it is known by one."""
    return observation if observation.signal_id == signal_id else replace(observation, signal_id=signal_id)


def _fill(observation: Observation, owner: Owner, rise: FillRise) -> Fill:
    return Fill(
        signal_id=owner.signal_id,
        strategy_id=owner.strategy_id,
        asset=owner.asset,
        side=observation.side,
        quantity=rise.quantity,
        price=rise.price,
        fees=rise.fees,
        # Nothing of a signal was filled before it: an older time would label a path that the signal never saw.
        executed_at=max(observation.executed_at, owner.decided_at),
    )


def _progress(row: asyncpg.Record) -> OrderProgress:
    values = {name: row[name] for name in OrderProgress.__dataclass_fields__}
    return OrderProgress(**{**values, "status": OrderStatus(row["status"])})


def _progress_row(progress: OrderProgress) -> tuple[Any, ...]:
    return (
        progress.order_id, progress.signal_id, progress.status.value, progress.increment_quantity,
        progress.increment_notional, progress.increment_fees, progress.checkpoint_quantity,
        progress.checkpoint_notional, progress.checkpoint_fees, progress.filled_quantity, progress.filled_notional,
        progress.filled_fees, progress.other_order_id,
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
