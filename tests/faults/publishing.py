"""Signals that are decided at a steady rate while `model-service run` publishes them, and how such a scenario ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from model_service.contracts.types import Side
from model_service.database.connection import Database
from tests.faults.arena import Arena
from tests.faults.book import Verdict
from tests.faults.ingest import end_services
from tests.faults.order_manager import OrderManager, check_signals, count_states
from tests.faults.service import ServiceProcess
from tests.faults.signals import decided_signal, record_pending

TICK_SECONDS = 0.1
PUBLISHED = frozenset({"published"})
UNDER_WAY = ("pending", "sending")
STALL_SECONDS = 40.0


@dataclass
class Publishing:
    """One run: signals come into the outbox, the service sends them, order-manager takes them."""

    arena: Arena
    service: ServiceProcess
    manager: OrderManager
    lifetime_seconds: float
    decided: int = 0
    expected_errors: list[str] = field(default_factory=list)

    async def decide(self, count: int, *, per_second: float) -> None:
        """Record so many pending signals at this rate, past the proxy."""
        per_tick = max(1, round(per_second * TICK_SECONDS))
        async with self.arena.database() as database:
            while count > 0:
                began = time.monotonic()
                await self._record(database, min(per_tick, count))
                count -= per_tick
                await asyncio.sleep(max(0.0, TICK_SECONDS - (time.monotonic() - began)))

    async def until_arrived(self, seconds: float) -> float:
        """Until a signal arrives that is decided now; returns how long, or `seconds` when none did."""
        before, began = len(self.manager.seen), time.monotonic()
        while len(self.manager.seen) <= before:
            if time.monotonic() - began > seconds:
                return seconds
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def count_recorded(self) -> int:
        """Signals in the table: where a decision may fail, those that it has recorded."""
        return (await count_states(self.arena.address)).total()

    async def until_quiet(self) -> None:
        """Until all that was decided has been sent, and has arrived or ended otherwise."""
        await self._until_settled()

    async def settle(self, *, final: frozenset[str] = PUBLISHED) -> Verdict:
        """Wait until no signal is under way any more, end the service in order, and judge."""
        await self._until_settled()
        verdict = await end_services(self.arena, self.expected_errors)
        # What the broker had still to hand over is handed over by now, or never.
        await asyncio.sleep(1.0)
        await self.manager.stop()
        return verdict + await check_signals(self.arena.address, self.manager, final=final)

    async def _until_settled(self) -> None:
        last, since = (-1, -1), time.monotonic()
        while True:
            states = await count_states(self.arena.address)
            left = sum(states[state] for state in UNDER_WAY)
            arrived = len(self.manager.seen)
            if states.total() == self.decided and not left and arrived >= states["published"]:
                return
            if (left, arrived) != last:
                last, since = (left, arrived), time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS:
                return
            await asyncio.sleep(0.1)

    async def _record(self, database: Database, count: int) -> None:
        now = datetime.now(UTC)
        signals = [
            decided_signal(uuid4(), "momentum_v1", "BTCUSDT", Side.BUY, now, self.lifetime_seconds)
            for _ in range(count)
        ]
        await record_pending(database, signals)
        self.decided += count


@asynccontextmanager
async def publishing(
    arena: Arena, *, lifetime_seconds: float = 600.0, program: Sequence[str] | None = None, **settings: object
) -> AsyncIterator[Publishing]:
    """A ready service with an empty outbox, and an order-manager that waits for signals."""
    run = Publishing(arena, arena.service(program, **settings), OrderManager(arena.amqp_url), lifetime_seconds)
    await run.manager.start()
    run.service.start()
    try:
        await run.service.until_ready()
        yield run
    finally:
        await run.manager.stop()
