"""Stored execution events into the position book, right after they were acknowledged."""

from __future__ import annotations

from datetime import datetime

from model_service.database.executions import ExecutionStore

BATCHES_BEFORE_START = 10


class FillDeriver:
    """Takes what waits in the database, whoever has stored it, and however the process ended that did."""

    def __init__(self, store: ExecutionStore) -> None:
        self._store = store
        self.fills = 0

    async def recover(self, now: datetime) -> None:
        """At the start: take up orphans whose signals have turned up, and what a killed process has left.

        What it usually leaves is in the book before the first decision; a long queue does not hold up the start.
        Raises DatabaseUnavailable.
        """
        await self._store.recover()
        for _ in range(BATCHES_BEFORE_START):
            if not await self.step(now):
                return

    async def catch_up(self, now: datetime) -> None:
        """Take until nothing waits. Raises DatabaseUnavailable."""
        while await self.step(now):
            pass

    async def step(self, now: datetime) -> int:
        """Take one batch; returns how many events it had, 0 when none waits. Raises DatabaseUnavailable."""
        derived = await self._store.derive(now)
        self.fills += derived.fills
        return derived.new_events
