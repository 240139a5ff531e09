"""Observations into the position book: order progress, fills as rises, FIFO lots and their closures, signal states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from model_service.contracts.executions import Observation
from model_service.database.book_rows import (
    WRITE,
    BookRows,
    Row,
    closure_row,
    columns,
    fill_row,
    lot_row,
    progress_from,
    progress_row,
    signal_row,
)
from model_service.database.connection import Connection, Database
from model_service.database.decisions import lot_from
from model_service.trades.fills import FillRise, OrderProgress
from model_service.trades.ledger import Fill, Lot, apply_fill
from model_service.trades.orders import KnownOrders

log = structlog.get_logger()

PROGRESS = """
    SELECT * FROM model_service.order_progress
    WHERE order_id = ANY($1::text[]) OR other_order_id = ANY($1::text[]) OR signal_id = ANY($2::text[])
"""
JOIN_FILLS = "UPDATE model_service.fills SET order_id = $2 WHERE order_id = $1 AND signal_id = $3"
DELETE_PROGRESS = "DELETE FROM model_service.order_progress WHERE order_id = $1"
RESERVE_IDS = """
    WITH sequences AS MATERIALIZED (
        SELECT pg_get_serial_sequence('model_service.fills', 'fill_id')::regclass AS fills,
               pg_get_serial_sequence('model_service.lots', 'lot_id')::regclass AS lots)
    SELECT nextval(fills) AS fill_id, nextval(lots) AS lot_id FROM sequences, generate_series(1, $1::int)
"""
OPEN_LOTS = """
    SELECT lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity,
           entry_fees, coalesce(position_id, lot_id) AS position_id
    FROM model_service.lots JOIN unnest($1::text[], $2::text[]) AS wanted (strategy_id, asset)
         USING (strategy_id, asset)
    WHERE remaining_quantity > 0 ORDER BY lot_id
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

        Raises:
            ValueError, ArithmeticError: they do not fit what is known. Nothing is written.
        """
        if not observations:
            return 0
        known = await self._known_orders(connection, observations, owners)
        fills = [fill for one in observations if (fill := _take(known, one, owners[one.signal_id])) is not None]
        rows = await self._fill_rows(connection, fills)
        rows.progress = [progress_row(progress, now) for _, progress in sorted(known.changed.items())]
        rows.signals = _signal_rows(known, {owners[one.signal_id].signal_id for one in observations}, fills)
        await connection.execute(self._database.sql(WRITE), *rows.arguments())
        await self._join_fills(connection, known)
        return len(fills)

    async def orders(self, connection: Connection, names: Iterable[str], signals: Iterable[str]) -> list[OrderProgress]:
        """What is known of orders under any of their `names`, and of all orders of `signals`."""
        rows = await connection.fetch(self._database.sql(PROGRESS), sorted(names), sorted(signals))
        return [progress_from(row) for row in rows]

    async def _known_orders(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, Owner]
    ) -> KnownOrders:
        """Orders under any name that is mentioned, and all of the signals that are."""
        names = {name for o in observations for name in (o.order_id, o.other_order_id) if name is not None}
        signals = {str(owners[observation.signal_id].signal_id) for observation in observations}
        return KnownOrders(await self.orders(connection, names, signals))

    async def _fill_rows(self, connection: Connection, fills: Sequence[_SourcedFill]) -> BookRows:
        """The rows of fills, lots and closures."""
        if not fills:
            return BookRows()
        ids = await connection.fetch(self._database.sql(RESERVE_IDS), len(fills))
        lots = _OpenLots(await self._open_lots(connection, fills))
        rows = BookRows()
        for sourced, reserved in zip(fills, ids, strict=True):
            fill_id = reserved["fill_id"]
            rows.fills.append(fill_row(fill_id, sourced.observation.event_id, sourced.order_id, sourced.fill))
            rows.closures += lots.apply(sourced.fill, fill_id, reserved["lot_id"])
        rows.opened = [lot_row(lot) for lot in lots.opened.values()]
        rows.reduced = [(lot_id, lot.remaining_quantity) for lot_id, lot in lots.reduced.items()]
        return rows

    async def _open_lots(self, connection: Connection, fills: Sequence[_SourcedFill]) -> list[Lot]:
        books = sorted({(sourced.fill.strategy_id, sourced.fill.asset) for sourced in fills})
        rows = await connection.fetch(self._database.sql(OPEN_LOTS), *columns(books, 2))
        return [lot_from(row) for row in rows]

    async def _join_fills(self, connection: Connection, known: KnownOrders) -> None:
        for gone, into in known.joined.items():
            signal_id = UUID(known.changed[into].signal_id)
            await connection.execute(self._database.sql(JOIN_FILLS), gone, into, signal_id)
            await connection.execute(self._database.sql(DELETE_PROGRESS), gone)


class _OpenLots:
    """The lots of some books while fills are applied to them one after another."""

    def __init__(self, lots: Iterable[Lot]) -> None:
        self._books: dict[tuple[str, str], list[Lot]] = {}
        self.opened: dict[int, Lot] = {}
        self.reduced: dict[int, Lot] = {}
        for lot in lots:
            self._books.setdefault((lot.strategy_id, lot.asset), []).append(lot)

    def apply(self, fill: Fill, fill_id: int, lot_id: int) -> list[Row]:
        """Close and open; a lot that is opened gets `lot_id`. Returns the closures. Raises as `apply_fill`."""
        book = self._books.setdefault((fill.strategy_id, fill.asset), [])
        change = apply_fill(book, fill)
        for lot in change.reduced:
            assert lot.lot_id is not None, "open lots come from the database or were opened with an identifier"
            (self.opened if lot.lot_id in self.opened else self.reduced)[lot.lot_id] = lot
        # Lots are closed oldest first: those that were reduced stand at the beginning of the book.
        book[: len(change.reduced)] = [lot for lot in change.reduced if lot.remaining_quantity > 0]
        if change.opened is not None:
            position_id = book[0].position_id if book else lot_id
            self.opened[lot_id] = opened = replace(change.opened, lot_id=lot_id, position_id=position_id)
            book.append(opened)
        return [closure_row(fill_id, closure) for closure in change.closures]


def _take(known: KnownOrders, observation: Observation, owner: Owner) -> _SourcedFill | None:
    # A signal's identifier may come in any spelling of a UUID; it is known by one.
    signal_id = str(owner.signal_id)
    same = observation.signal_id == signal_id
    order, rise = known.take(observation if same else replace(observation, signal_id=signal_id))
    if order.signal_id != signal_id:
        log.warning("order_of_two_signals", order_id=order.order_id, first=order.signal_id, second=signal_id)
    return None if rise is None else _SourcedFill(observation, order.order_id, _fill(observation, owner, rise))


def _signal_rows(known: KnownOrders, signals: Iterable[UUID], fills: Sequence[_SourcedFill]) -> list[Row]:
    first_fill: dict[UUID, datetime] = {}
    for fill in (sourced.fill for sourced in fills):
        first_fill[fill.signal_id] = min(first_fill.get(fill.signal_id, fill.executed_at), fill.executed_at)
    return [signal_row(one, known.state_of(str(one)), first_fill.get(one)) for one in sorted(signals)]


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
