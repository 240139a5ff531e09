"""Executions from order-manager's table `orders`: events are hints, the table is the total.

Fills that order-manager finds by itself, and partial fills after the first, are never published. The table has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import structlog

from model_service.contracts.executions import Observation
from model_service.contracts.order_rows import decode_order_row, order_row_event_id
from model_service.contracts.types import InvalidMessage
from model_service.database.executions import ExecutionStore, NotStorable
from model_service.database.reconciliation import ReconciliationStore, UnansweredSignal
from model_service.database.shared_tables import SharedTables
from model_service.trades.orders import KnownOrders

log = structlog.get_logger()

SOURCE = "orders_table"
CHUNK = 200
"""Signals asked about at once: small, since nothing else of the process runs while their rows are compared."""

LOOK_BACK = timedelta(hours=24)
RECENT = timedelta(minutes=10)
CHECK_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReconciliationLimits:
    """When what is done.

    Attributes:
        grace_seconds: a row is taken when it has told more than the events for this long: they know single fills.
        sweep_seconds: time between two looks at all signals of the last 24 hours.
        lost_after_seconds: a published signal of which nothing is known at this age is lost.
    """

    grace_seconds: float
    sweep_seconds: float
    lost_after_seconds: float


@dataclass(frozen=True, slots=True)
class _Told:
    """A row that tells more than is known, or that cannot be understood, and since when."""

    signal_id: UUID
    since: datetime


class OrderReconciler:
    """Reads the table, never writes it. What it holds in memory may be forgotten at any time."""

    def __init__(
        self,
        tables: SharedTables,
        signals: ReconciliationStore,
        executions: ExecutionStore,
        limits: ReconciliationLimits,
    ) -> None:
        self._tables = tables
        self._signals = signals
        self._executions = executions
        self._limits = limits
        self._told: dict[str, _Told] = {}
        self._refused: dict[str, UUID] = {}
        self._answered: set[UUID] = set()
        self._next_sweep: datetime | None = None
        self._next_check: datetime | None = None
        self.fills = 0

    @property
    def notices(self) -> tuple[str, ...]:
        """What of the siblings' tables cannot be used, and why."""
        return self._tables.schema.notices

    async def step(self, now: datetime) -> None:
        """Look once: at the tables' columns, at orders that tell more than is known, at signals without an order.

        Raises:
            DatabaseUnavailable: the next call takes up what this one has left.
        """
        if self._next_check is None or now >= self._next_check:
            await self._tables.schema.check()
            self._next_check = now + CHECK_EVERY
        await self._reconcile(now)
        await self._report_lost(now)

    async def _reconcile(self, now: datetime) -> None:
        sweep = self._next_sweep is None or now >= self._next_sweep
        waiting = {told.signal_id for told in self._told.values()} | set(self._refused.values())
        watched = await self._signals.watched(now - (LOOK_BACK if sweep else RECENT), now - LOOK_BACK, waiting)
        told: dict[str, _Told] = {}
        refused: dict[str, UUID] = {}
        for chunk in _chunks(watched):
            rows = await self._tables.orders_of(chunk)
            if rows is None:
                return
            ripe = await self._sort_out(rows, watched, now, told, refused)
            await self._record(ripe, refused, now)
        self._told, self._refused = told, refused
        if sweep:
            self._next_sweep = now + timedelta(seconds=self._limits.sweep_seconds)

    async def _sort_out(
        self,
        rows: Sequence[Mapping[str, Any]],
        decided: Mapping[UUID, datetime],
        now: datetime,
        told: dict[str, _Told],
        refused: dict[str, UUID],
    ) -> list[tuple[Observation, bytes]]:
        """Rows that are to be recorded; the others go into `told` or `refused`, or have nothing to tell."""
        names = {str(row[column]) for row in rows for column in ("id", "order_id")}
        known = KnownOrders(await self._executions.orders_named(names))
        ripe: list[tuple[Observation, bytes]] = []
        for row in rows:
            before = self._told.get(order_row_event_id(row))
            since = before.since if before is not None else now
            try:
                observation = decode_order_row(row, decided_at=decided[row["signal_id"]], first_seen_at=since)
            except InvalidMessage as reason:
                self._refuse(row["signal_id"], order_row_event_id(row), str(reason), refused)
                continue
            if not known.tells_more(observation):
                continue
            if now - since >= timedelta(seconds=self._limits.grace_seconds):
                ripe.append((observation, _body(row)))
            else:
                told[observation.event_id] = _Told(row["signal_id"], since)
        return ripe

    async def _record(self, ripe: Sequence[tuple[Observation, bytes]], refused: dict[str, UUID], now: datetime) -> None:
        try:
            if ripe:
                await self._record_batch(ripe, now)
        except NotStorable as error:
            if len(ripe) == 1:
                observation, _ = ripe[0]
                self._refuse(UUID(observation.signal_id), observation.event_id, str(error), refused)
                return
            for one in ripe:
                await self._record([one], refused, now)

    async def _record_batch(self, ripe: Sequence[tuple[Observation, bytes]], now: datetime) -> None:
        batch = await self._executions.record(ripe, SOURCE, now)
        self.fills += batch.fills
        log.info("orders_reconciled", orders=batch.new_events, fills=batch.fills)

    def _refuse(self, signal_id: UUID, row: str, reason: str, refused: dict[str, UUID]) -> None:
        if row not in self._refused:
            log.warning("order_row_refused", row=row, signal_id=str(signal_id), reason=reason)
        refused[row] = signal_id

    async def _report_lost(self, now: datetime) -> None:
        published_before = now - timedelta(seconds=self._limits.lost_after_seconds)
        candidates = await self._signals.unanswered(now - LOOK_BACK, published_before)
        self._answered &= {signal.signal_id for signal in candidates}
        unknown = {signal.signal_id: signal for signal in candidates if signal.signal_id not in self._answered}
        for chunk in _chunks(unknown):
            answered = await self._tables.with_orders(chunk)
            if answered is None:
                return
            self._answered |= answered
            lost = await self._signals.mark_lost([one for one in chunk if one not in answered])
            for signal_id in chunk:
                if signal_id in lost:
                    _log_lost(unknown[signal_id], now)


def _log_lost(signal: UnansweredSignal, now: datetime) -> None:
    log.error(
        "signal_lost",
        signal_id=str(signal.signal_id),
        strategy=signal.strategy_id,
        asset=signal.asset,
        age_seconds=round((now - signal.published_at).total_seconds(), 3),
    )


def _body(row: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(row), default=str).encode()


def _chunks(signals: Mapping[UUID, object]) -> Iterator[list[UUID]]:
    remaining = iter(signals)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
