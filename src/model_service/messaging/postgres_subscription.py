"""A consumer of one queue that is kept in PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence

import asyncpg

from model_service.config.clock import Clock
from model_service.database.connection import Database
from model_service.messaging.backoff import FIRST_SECONDS, Backoff
from model_service.messaging.postgres_session import ConsumerSession
from model_service.messaging.transport import Delivery, TransportUnavailable

LOOK_FOR_DEAD_SECONDS = 2.0

# The array makes the planner choose the rows once; a plain IN may be evaluated again and take more than the limit.
CLAIM = """
    WITH taken AS (
        UPDATE model_service.messages SET consumer_id = $2, deliveries = deliveries + 1
        WHERE message_seq = ANY (ARRAY(
            SELECT message_seq FROM model_service.messages
            WHERE queue = $1 AND consumer_id IS NULL ORDER BY message_seq LIMIT $3 FOR UPDATE SKIP LOCKED))
        RETURNING message_seq, message_id, headers, body, expires_at, deliveries)
    SELECT * FROM taken ORDER BY message_seq
"""
DELETE = "DELETE FROM model_service.messages WHERE message_seq = ANY ($1::bigint[]) AND consumer_id = $2"
RELEASE_DEAD = """
    UPDATE model_service.messages SET consumer_id = NULL
    WHERE queue = $1 AND consumer_id = ANY (ARRAY(
        SELECT consumer_id FROM model_service.messages WHERE queue = $1 AND consumer_id IS NOT NULL
        EXCEPT
        SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))
    RETURNING 1
"""


class PostgresSubscription:
    """Takes messages row by row; they stay taken for as long as this consumer's own connection lives.

    Args:
        on_state: told after each attempt whether PostgreSQL answered; the text is the reason when it did not.
    """

    def __init__(
        self,
        database: Database,
        queue: str,
        *,
        prefetch: int,
        declare: bool,
        clock: Clock,
        on_state: Callable[[str | None], None],
    ) -> None:
        self._database = database
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._clock = clock
        self._on_state = on_state
        self._session: ConsumerSession | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._last_reason = ""
        self._tags = itertools.count(1)
        self._held: dict[int, int] = {}
        self._ready: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._look_for_dead_at = 0.0
        self._is_closed = False

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._queue

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        """As the port says; with `wait_seconds` 0 it is one statement. Raises TransportUnavailable."""
        deadline = time.monotonic() + wait_seconds
        while True:
            self._news.clear()
            await self._take(limit, wait_seconds)
            if self._ready or not await self._wait_for_news(deadline):
                break
        if self._ready and wait_seconds > 0 and linger_seconds > 0 and len(self._ready) < limit:
            await asyncio.sleep(linger_seconds)
            await self._take(limit, wait_seconds)
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """As the port says."""
        if rows := self._let_go(deliveries):
            await self._delete(rows)

    async def close(self) -> None:
        """As the port says."""
        self._is_closed = True
        self._news.set()
        async with self._connecting:
            session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _take(self, limit: int, wait_seconds: float) -> None:
        """Have up to `limit` messages ready; they wait there for the next call if this one is cancelled."""
        session = await self._live_session(wait_seconds)
        try:
            await self._claim(session, limit)
            if not self._ready and await self._release_dead(session):
                await self._claim(session, limit)
        except TransportUnavailable as error:
            self._fail(str(error))
            raise

    async def _claim(self, session: ConsumerSession, limit: int) -> None:
        """Take what has not expired; expired messages are removed, and the next ones taken in their place."""
        while (room := min(limit - len(self._ready), self._prefetch - len(self._held))) > 0:
            rows = await session.fetch(CLAIM, self._queue, session.consumer_id, room)
            now = self._clock.now()
            expired = [row["message_seq"] for row in rows if row["expires_at"] is not None and row["expires_at"] <= now]
            gone = set(expired)
            self._ready.extend(self._deliver(row) for row in rows if row["message_seq"] not in gone)
            if not expired:
                return
            await session.fetch(DELETE, expired, session.consumer_id)

    def _deliver(self, row: asyncpg.Record) -> Delivery:
        tag = next(self._tags)
        self._held[tag] = row["message_seq"]
        return Delivery(tag, row["body"], row["headers"], row["message_id"], row["deliveries"] > 1)

    async def _release_dead(self, session: ConsumerSession) -> bool:
        """Free the messages of consumers that are gone; looked for at most every two seconds."""
        if time.monotonic() < self._look_for_dead_at:
            return False
        self._look_for_dead_at = time.monotonic() + LOOK_FOR_DEAD_SECONDS
        return bool(await session.fetch(RELEASE_DEAD, self._queue))

    async def _wait_for_news(self, deadline: float) -> bool:
        """Wait until something may have come or dead consumers are due; false when the time is up."""
        remaining = deadline - time.monotonic()
        if remaining <= 0 or self._is_closed:
            return False
        due = max(self._look_for_dead_at - time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(min(remaining, due)):
                await self._news.wait()
        except TimeoutError:
            return due < remaining
        return True

    async def _live_session(self, wait_seconds: float) -> ConsumerSession:
        if self._session is not None and self._session.is_open:
            return self._session
        async with self._connecting:
            if self._is_closed:
                raise TransportUnavailable(f"the subscription to {self._queue} is closed")
            if self._session is None or not self._session.is_open:
                self._session = await self._reconnect(wait_seconds)
            return self._session

    async def _reconnect(self, wait_seconds: float) -> ConsumerSession:
        self._held.clear()
        self._ready.clear()
        self._session = None
        pause = self._retry_at - time.monotonic()
        patience = max(wait_seconds, FIRST_SECONDS)
        await asyncio.sleep(max(0.0, min(pause, patience)))
        if pause > patience:
            raise TransportUnavailable(self._last_reason)
        try:
            session = await ConsumerSession.open(
                self._database, self._queue, declare=self._declare, on_message=self._wake
            )
        except TransportUnavailable as error:
            self._fail(str(error))
            raise
        self._backoff.reset()
        self._look_for_dead_at = 0.0
        self._on_state(None)
        return session

    def _fail(self, reason: str) -> None:
        self._last_reason = reason
        self._retry_at = time.monotonic() + self._backoff.next_seconds()
        self._on_state(reason)

    def _wake(self) -> None:
        self._news.set()

    def _let_go(self, deliveries: Sequence[Delivery]) -> list[int]:
        """The rows behind these tags; tags of a lost session are not known any more."""
        if self._session is None or not self._session.is_open:
            self._held.clear()
        return [self._held.pop(delivery.tag) for delivery in deliveries if delivery.tag in self._held]

    async def _delete(self, rows: Sequence[int]) -> None:
        session = self._session
        if session is None:
            return
        try:
            await session.fetch(DELETE, rows, session.consumer_id)
        except TransportUnavailable as error:
            # The end of the session gives the messages back: they come again, as the port promises.
            self._fail(str(error))
        self._news.set()
