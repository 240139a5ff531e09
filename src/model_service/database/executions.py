"""Executions into the database: each observation is stored once, and turned into fills exactly once.

The consumer of a busy queue stores, commits and acknowledges first (`append`), and what is stored becomes fills right
after (`derive`), from the stored rows alone: a process that is killed in between leaves them waiting in a queue of the
database. Whoever has few observations does both in one transaction (`record`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
import structlog

from model_service.contracts.executions import Observation
from model_service.database import execution_events
from model_service.database.connection import Connection, Database, TransactionConflict
from model_service.database.position_book import Owner, PositionBook
from model_service.database.sqlstate import is_content
from model_service.trades.fills import OrderProgress

LOCK = """
    SELECT pg_advisory_xact_lock(hashtextextended('model-service:' || name, 0))
    FROM (SELECT unnest($1::text[]) AS name ORDER BY 1) AS names
"""
SIGNALS = """
    SELECT signal_id, strategy_id, asset, decided_at FROM model_service.trading_signals
    WHERE signal_id = ANY($1::uuid[])
"""
MARK_ORPHANS = "UPDATE model_service.execution_events SET is_orphan = true WHERE event_id = ANY($1::text[])"
REFUSE = """
    INSERT INTO model_service.underived_executions (position, event_id, refusal) OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, $3)
"""
ACCEPT_REFUSED = "UPDATE model_service.underived_executions SET refusal = NULL WHERE refusal IS NOT NULL"
ADOPT_ORPHANS = """
    WITH adopted AS (
        UPDATE model_service.execution_events AS events SET is_orphan = false
        FROM model_service.trading_signals AS signals
        WHERE events.is_orphan
          AND signals.signal_id = CASE WHEN events.signal_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                                       THEN events.signal_id::uuid END
        RETURNING events.event_id, events.received_at)
    INSERT INTO model_service.underived_executions (event_id)
    SELECT event_id FROM adopted ORDER BY received_at, event_id
"""
DERIVING = ["executions being derived"]
"""The lock that one deriver at a time holds, so that fills enter the book in the order of arrival."""

RETRIES_AT_CONFLICTS = 3
MAX_CAUSE_LENGTH = 500

T = TypeVar("T")
log = structlog.get_logger()


class NotStorable(Exception):  # noqa: N818 - what it says of the values, and what a dead letter says of its message
    """PostgreSQL refused the values of a batch; the text says why. Nothing of the batch is recorded."""


UNDERIVABLE = (NotStorable, ValueError, ArithmeticError)
"""No fill can be made of one of a batch: its values, or a book that does not add up."""


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """What a batch came to: events that were new, how many of them were orphans, and the fills derived."""

    new_events: int
    orphans: int
    fills: int


class ExecutionStore:
    """Stores observations idempotently, by their `event_id`, and enters them into the position book.

    Raised by all that writes: DatabaseUnavailable, after which the same call may be made again, since what was done
    already is passed over.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._book = PositionBook(database)

    async def append(self, observations: Sequence[tuple[Observation, bytes]], source: str, now: datetime) -> int:
        """Store a batch, to be derived later; returns how many were new. Its messages may be acknowledged then.

        Raises:
            NotStorable: PostgreSQL refused the values of one of them. Nothing is stored.
        """
        arguments = execution_events.arguments_of(observations, source, now)
        with _refusals():
            tag = await _again(lambda: self._database.execute(execution_events.INSERT_AND_QUEUE, *arguments))
        return _rows_of(tag)

    async def derive(self, now: datetime, *, limit: int = 200) -> RecordedBatch:
        """Enter the oldest that wait into the position book; `new_events` says how many they were, 0 when none waits.

        One of which no fill can be made waits, with the reason, until the next `recover`, and holds up no other.
        """
        try:
            with _refusals():
                return await _again(lambda: self._derive(now, limit, self._enter))
        except UNDERIVABLE:
            return await _again(lambda: self._derive(now, limit, self._enter_by_halves))

    async def recover(self) -> int:
        """At the start: orphans whose signals have turned up wait again, and so does what was refused; returns both."""
        adopted = await self._database.execute(ADOPT_ORPHANS)
        accepted = await self._database.execute(ACCEPT_REFUSED)
        return _rows_of(adopted) + _rows_of(accepted)

    async def record(
        self, observations: Sequence[tuple[Observation, bytes]], source: str, now: datetime
    ) -> RecordedBatch:
        """Store and derive a batch, in its order, in one transaction.

        Raises:
            NotStorable: PostgreSQL refused the values of one of them. Nothing is recorded.
        """
        first: dict[str, tuple[Observation, bytes]] = {}
        for observation, body in observations:
            first.setdefault(observation.event_id, (observation, body))
        with _refusals():
            return await _again(lambda: self._record(list(first.values()), source, now))

    async def orders_named(self, names: Iterable[str]) -> list[OrderProgress]:
        """What is known of the orders under any of these identifiers. Raises DatabaseUnavailable."""
        async with self._database.acquire() as connection:
            return await self._book.orders(connection, names, ())

    async def _record(self, batch: Sequence[tuple[Observation, bytes]], source: str, now: datetime) -> RecordedBatch:
        arguments = execution_events.arguments_of(batch, source, now)
        async with self._database.transaction() as connection:
            owners = await self._owners(connection, [observation for observation, _ in batch])
            await self._lock(connection, [observation for observation, _ in batch], owners)
            stored = await connection.fetch(self._database.sql(execution_events.INSERT), *arguments)
            new_ids = {row["event_id"] for row in stored}
            new = [observation for observation, _ in batch if observation.event_id in new_ids]
            orphans = await self._mark_orphans(connection, new, owners)
            fills = await self._book.enter(connection, [one for one in new if one.signal_id in owners], owners, now)
        return RecordedBatch(len(new), orphans, fills)

    async def _derive(self, now: datetime, limit: int, enter: _Enter) -> RecordedBatch:
        async with self._database.transaction() as connection:
            await connection.execute(self._database.sql(LOCK), DERIVING)
            rows = await connection.fetch(self._database.sql(execution_events.TAKE_QUEUED), limit)
            if not rows:
                return RecordedBatch(0, 0, 0)
            waiting = [_Waiting(row["position"], execution_events.observation_from(row)) for row in rows]
            observations = [one.observation for one in waiting]
            owners = await self._owners(connection, observations)
            await self._lock(connection, observations, owners)
            orphans = await self._mark_orphans(connection, observations, owners)
            known = [one for one in waiting if one.observation.signal_id in owners]
            fills = await enter(connection, known, owners, now)
        return RecordedBatch(len(waiting), orphans, fills)

    async def _enter(
        self, connection: Connection, waiting: Sequence[_Waiting], owners: Mapping[str, Owner], now: datetime
    ) -> int:
        return await self._book.enter(connection, [one.observation for one in waiting], owners, now)

    async def _enter_by_halves(
        self, connection: Connection, waiting: Sequence[_Waiting], owners: Mapping[str, Owner], now: datetime
    ) -> int:
        """Enter all of which fills can be made, and pass over the others."""
        try:
            with _refusals():
                async with connection.transaction():
                    return await self._enter(connection, waiting, owners, now)
        except UNDERIVABLE as error:
            if len(waiting) == 1:
                await self._refuse(connection, waiting[0], error)
                return 0
        half = len(waiting) // 2
        first = await self._enter_by_halves(connection, waiting[:half], owners, now)
        return first + await self._enter_by_halves(connection, waiting[half:], owners, now)

    async def _refuse(self, connection: Connection, one: _Waiting, error: Exception) -> None:
        reason = str(error) if isinstance(error, NotStorable) else _in_words(error)
        log.error("execution_not_derived", event_id=one.observation.event_id, reason=reason)
        await connection.execute(self._database.sql(REFUSE), one.position, one.observation.event_id, reason)

    async def _owners(self, connection: Connection, observations: Sequence[Observation]) -> dict[str, Owner]:
        identifiers = {text: parsed for o in observations if (parsed := _uuid(text := o.signal_id)) is not None}
        rows = await connection.fetch(self._database.sql(SIGNALS), list(set(identifiers.values())))
        by_id = {row["signal_id"]: Owner(**row) for row in rows}
        return {text: by_id[parsed] for text, parsed in identifiers.items() if parsed in by_id}

    async def _lock(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, Owner]
    ) -> None:
        # Orders and positions are locked by name in one sorted sweep: writers of any number cannot deadlock. The
        # position's lock also holds what reports an order under its other identifier.
        names = {f"order:{observation.order_id}" for observation in observations}
        names |= {f"position:{owner.strategy_id}:{owner.asset}" for owner in owners.values()}
        await connection.execute(self._database.sql(LOCK), sorted(names))

    async def _mark_orphans(
        self, connection: Connection, observations: Sequence[Observation], owners: Mapping[str, Owner]
    ) -> int:
        orphans = [observation.event_id for observation in observations if observation.signal_id not in owners]
        if orphans:
            await connection.execute(self._database.sql(MARK_ORPHANS), orphans)
            log.info("execution_orphans", count=len(orphans))
        return len(orphans)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An observation and its place in the queue."""

    position: int
    observation: Observation


_Enter = Callable[[Connection, Sequence[_Waiting], Mapping[str, Owner], datetime], Awaitable[int]]


async def _again(work: Callable[[], Awaitable[T]]) -> T:
    """Do it; at once again when the transaction was given up in favour of others."""
    for _ in range(RETRIES_AT_CONFLICTS):
        try:
            return await work()
        except TransactionConflict:
            continue
    return await work()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns PostgreSQL's refusal of values into NotStorable."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if is_content(error):
            raise NotStorable(_in_words(error)) from error
        raise


def _in_words(error: Exception) -> str:
    """With the SQLSTATE, if any; the driver repeats values of any length and any characters."""
    state = f"{error.sqlstate}: " if isinstance(error, asyncpg.PostgresError) else ""
    return f"{state}{error}".replace("\x00", "\\0").encode("utf-8", "replace").decode("utf-8")[:MAX_CAUSE_LENGTH]


def _rows_of(command_tag: str) -> int:
    return int(command_tag.rsplit(" ", 1)[1])


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
