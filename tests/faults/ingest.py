"""A service that takes execution events under load, and how such a scenario ends: everything counted, or said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.faults.arena import EXECUTIONS, Arena
from tests.faults.book import Verdict, check_book, read, until_counted
from tests.faults.feeder import Feeder
from tests.faults.ledger import Ledger, make_ledger
from tests.faults.service import ServiceProcess

SETTLE_SECONDS = 60.0
TERMINATE_SECONDS = 10.0
RECORDED = "SELECT count(*) FROM model_service.execution_events WHERE received_at > $1"


@dataclass
class Ingest:
    """One run: what is sent, who takes it, and how to wait for it."""

    arena: Arena
    ledger: Ledger
    feeder: Feeder
    service: ServiceProcess
    queue: str = EXECUTIONS
    poison: list[bytes] = field(default_factory=list)

    async def until_recorded(self, seconds: float) -> float:
        """Until an event is recorded that came after now; returns how long, or `seconds` when none came."""
        began, since = time.monotonic(), datetime.now(UTC)
        while not (await read(self.arena.address, RECORDED, since))[0]["count"]:
            if time.monotonic() - began > seconds:
                return seconds
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def settle(self, *, foreign: int = 0, seconds: float = SETTLE_SECONDS) -> Verdict:
        """Send no more, wait until all is counted and acknowledged, end the service in order, and judge."""
        await self.feeder.stop()
        await until_counted(self.arena.address, lambda rows: rows >= len(self.feeder.confirmed) + foreign, seconds)
        await self._until_empty(seconds)
        verdict = Verdict()
        for service in self.arena.services:
            await _end(service, verdict)
        # What was counted and not acknowledged would come back to the queue now.
        if left := await self.arena.depth(self.queue):
            verdict.unexpected.append(f"{left} messages left in {self.queue}")
        verdict.unexpected += [error for service in self.arena.services for error in service.errors()]
        book = await check_book(self.arena.address, self.feeder.confirmed, poison=self.poison, foreign=foreign)
        return book + verdict

    async def _until_empty(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while await self.arena.depth(self.queue) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)


async def _end(service: ServiceProcess, verdict: Verdict) -> None:
    if not service.is_running:
        if service.has_ended:
            verdict.unexpected.append(f"the service ended by itself: {service.tail()[-500:]}")
        return
    try:
        await service.terminate(TERMINATE_SECONDS)
    except AssertionError as error:
        verdict.unexpected.append(str(error)[-800:])


@asynccontextmanager
async def ingest(
    arena: Arena,
    *,
    orders: int = 2_000,
    per_second: float = 200.0,
    seed: int = 1,
    program: Sequence[str] | None = None,
    **settings: object,
) -> AsyncIterator[Ingest]:
    """A ready service that takes events of `orders` orders, which are being sent already."""
    ledger = make_ledger(seed, orders, datetime.now(UTC))
    async with arena.database() as database:
        await ledger.seed(database)
    await arena.declare_queue(EXECUTIONS)
    feeder = Feeder(arena.amqp_url, EXECUTIONS, ledger.events, per_second=per_second)
    run = Ingest(arena, ledger, feeder, arena.service(program, **settings))
    run.service.start()
    try:
        await run.service.until_ready()
        feeder.start()
        await run.until_recorded(20.0)
        yield run
    finally:
        await feeder.abandon()
