"""A service that takes execution events under load, and how such a scenario ends: everything counted, or said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.faults.arena import EXECUTIONS, Arena
from tests.faults.book import Verdict, check_book, count_of, read, until_counted
from tests.faults.feeder import Feeder, Message
from tests.faults.ledger import SIGNAL_AGE, Event, Ledger, Poison, make_ledger
from tests.faults.service import ServiceProcess

STALL_SECONDS = 30.0
"""Without one more event recorded for so long, the rest will not come."""
TERMINATE_SECONDS = 10.0
SEED = 1
RECORDED = "SELECT count(*) FROM model_service.execution_events WHERE received_at > $1"

COMMITTED = "SELECT event_id, pg_xact_commit_timestamp(xmin) AS committed_at FROM model_service.fills"


@dataclass
class Ingest:
    """One run: what is sent, who takes it, and how to wait for it."""

    arena: Arena
    ledger: Ledger
    feeders: list[Feeder]
    service: ServiceProcess
    queue: str = EXECUTIONS
    settled_seconds: float = 0.0
    """From the last event's confirmation until the book was right."""

    @property
    def sent(self) -> list[Event]:
        """Reports that the broker has confirmed; one may stand there more than once."""
        return [message for feeder in self.feeders for message in feeder.confirmed if isinstance(message, Event)]

    @property
    def poison(self) -> list[bytes]:
        """Bodies without meaning that the broker has confirmed."""
        return [m.body for feeder in self.feeders for m in feeder.confirmed if isinstance(m, Poison)]

    async def feed(self, messages: Iterable[Message], *, per_second: float = 200.0) -> None:
        """Send these beside all else, and return when they are confirmed."""
        feeder = Feeder(self.arena.amqp_url, self.queue, messages, per_second=per_second)
        self.feeders.append(feeder)
        feeder.start()
        await feeder.wait()

    async def until_all_counted(self, stall_seconds: float = STALL_SECONDS) -> bool:
        """Until the database has as many events as were confirmed and the queue is empty; False when it stalls."""
        wanted = len({event.event_id for event in self.sent})
        return await until_counted(self.arena.address, wanted, stall_seconds) and await self._until_empty(stall_seconds)

    async def until_recorded(self, seconds: float) -> float:
        """Until an event is recorded that came after now; returns how long, or `seconds` when none came."""
        began, since = time.monotonic(), datetime.now(UTC)
        while not await count_of(self.arena.address, RECORDED, since) > 0:
            if time.monotonic() - began > seconds:
                return seconds
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def settle(self, stall_seconds: float = STALL_SECONDS) -> Verdict:
        """Send no more, wait until all is counted and acknowledged, end the service in order, and judge."""
        for feeder in self.feeders:
            await feeder.stop()
        began = time.monotonic()
        await self.until_all_counted(stall_seconds)
        self.settled_seconds = time.monotonic() - began
        verdict = await end_services(self.arena)
        # What was counted and not acknowledged would come back to the queue now.
        if left := await self.arena.depth(self.queue):
            verdict.unexpected.append(f"{left} messages left in {self.queue}")
        return verdict + await check_book(self.arena.address, self.sent, poison=self.poison)

    async def _until_empty(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while left := await self.arena.depth(self.queue):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return not left


async def recording_delays(run: Ingest) -> list[float]:
    """Seconds from the first attempt to send an event until its fill was committed, sorted."""
    committed = {row["event_id"]: row["committed_at"].timestamp() for row in await read(run.arena.address, COMMITTED)}
    sent_at = {event_id: moment for feeder in run.feeders for event_id, moment in feeder.sent_at.items()}
    return sorted(moment - sent_at[event_id] for event_id, moment in committed.items())


async def end_services(arena: Arena, expected_errors: Sequence[str] = ()) -> Verdict:
    """End every replica in order; unexpected is one that ended before, does not end, or has logged an error.

    Args:
        expected_errors: events of the log that the scenario must cause.
    """
    verdict = Verdict()
    for service in arena.services:
        if service.has_ended:
            verdict.unexpected.append(f"the service ended by itself: {service.tail()[-500:]}")
        elif service.is_running:
            await _end(service, verdict)
        verdict.unexpected += service.errors(expected_errors)
    return verdict


async def _end(service: ServiceProcess, verdict: Verdict) -> None:
    try:
        await service.terminate(TERMINATE_SECONDS)
    except AssertionError as error:
        verdict.unexpected.append(str(error)[-800:])


@asynccontextmanager
async def prepared(
    arena: Arena,
    *,
    orders: int,
    age: timedelta = SIGNAL_AGE,
    program: Sequence[str] | None = None,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Ingest]:
    """A service that is starting, and a ledger of so many orders of which nothing is sent yet."""
    ledger = make_ledger(SEED, orders, datetime.now(UTC))
    async with arena.database() as database:
        await ledger.seed(database, age)
    run = Ingest(arena, ledger, [], arena.service(program, **(settings or {})))
    run.service.start()
    try:
        yield run
    finally:
        for feeder in run.feeders:
            await feeder.abandon()


@asynccontextmanager
async def ingest(
    arena: Arena, *, orders: int = 2_000, per_second: float = 200.0, program: Sequence[str] | None = None
) -> AsyncIterator[Ingest]:
    """A ready service that takes events of so many orders, which are being sent already."""
    await arena.declare_queue(EXECUTIONS)
    async with prepared(arena, orders=orders, program=program) as run:
        await run.service.until_ready()
        run.feeders.append(Feeder(arena.amqp_url, EXECUTIONS, run.ledger.events, per_second=per_second))
        run.feeders[0].start()
        await run.until_recorded(20.0)
        yield run
