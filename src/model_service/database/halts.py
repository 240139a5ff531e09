"""Halts in PostgreSQL: a stop or a loss limit holds for every process on the database, and survives each of them."""

# ruff: noqa: S608 - statements are put together from the constants of this file; values travel as parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from model_service.database.connection import Database
from model_service.services.halts import Halt, Resumed, Stopped

COLUMNS = "halt_id, strategy_id, kind, reason, actor, evidence, started_at"
OPEN = f"SELECT {COLUMNS} FROM model_service.trading_halts WHERE ended_at IS NULL ORDER BY halt_id"
BEGIN = f"""
    INSERT INTO model_service.trading_halts (strategy_id, kind, reason, actor, evidence, started_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (coalesce(strategy_id, ''), kind) WHERE ended_at IS NULL DO NOTHING
    RETURNING {COLUMNS}
"""
STOP_OF_ALL = f"""
    SELECT {COLUMNS} FROM model_service.trading_halts
    WHERE ended_at IS NULL AND strategy_id IS NULL AND kind = 'manual'
"""
WITHDRAW = """
    WITH taken AS (
        UPDATE model_service.trading_signals SET status = 'stopped'
        WHERE status IN ('pending', 'sending') AND intent <> 'exit' RETURNING 1
    ) SELECT count(*) FROM taken
"""
# In the same transaction as the end: what was decided before it must not go out because a person resumed quickly.
WITHDRAW_HALTED = """
    UPDATE model_service.trading_signals AS s SET status = 'stopped'
    WHERE status IN ('pending', 'sending') AND intent <> 'exit' AND EXISTS (
        SELECT FROM model_service.trading_halts AS halts
        WHERE ended_at IS NULL AND halts.strategy_id IS NOT DISTINCT FROM $1
          AND coalesce(halts.strategy_id, s.strategy_id) = s.strategy_id
    )
"""
# After the level that the loss was counted from, whatever the clock of this process says: what ended later than its
# level was taken is what a new level is taken by.
END = f"""
    UPDATE model_service.trading_halts AS halts SET ended_by = $3, ended_reason = $4, ended_at = greatest($2, (
        SELECT max(taken_at) + interval '1 microsecond' FROM model_service.result_levels AS levels
        WHERE halts.kind = 'loss_limit' AND levels.strategy_id IS NOT DISTINCT FROM halts.strategy_id
    ))
    WHERE ended_at IS NULL AND strategy_id IS NOT DISTINCT FROM $1 RETURNING {COLUMNS}
"""


class PostgresHaltStore:
    """Halts as rows; a unique index holds one of each kind for each strategy, and one for all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_halts(self) -> Sequence[Halt]:
        """Those that hold now, oldest first."""
        return [halt_from(row) for row in await self._database.fetch(OPEN)]

    async def begin_loss_halt(
        self, strategy_id: str | None, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> bool:
        """Halt for a loss; False when such a halt holds already."""
        row = await self._database.fetchrow(BEGIN, strategy_id, "loss_limit", reason, "service", evidence, now)
        return row is not None

    async def stop(self, actor: str, reason: str, now: datetime) -> Stopped:
        """Halt every strategy; what holds already stays as it is. Openings that wait to be sent are taken back.

        One that another process records at this very moment is taken back by the publisher, which looks at halts too.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(self._database.sql(BEGIN), None, "manual", reason, actor, {}, now)
            row = row or await connection.fetchrow(self._database.sql(STOP_OF_ALL))
            withdrawn = await connection.fetchval(self._database.sql(WITHDRAW))
        assert row is not None, "a stop that holds already is the only reason for not inserting one"
        return Stopped(halt_from(row), withdrawn)

    async def resume(self, strategy_id: str | None, actor: str, reason: str, now: datetime) -> Resumed:
        """End the halts of one strategy, or (None) all others; what waited under them is not sent."""
        async with self._database.transaction() as connection:
            await connection.execute(self._database.sql(WITHDRAW_HALTED), strategy_id)
            ended = await connection.fetch(self._database.sql(END), strategy_id, now, actor, reason)
        return Resumed([halt_from(row) for row in ended], await self.open_halts())


def halt_from(row: asyncpg.Record | Mapping[str, Any]) -> Halt:
    """A halt from its row."""
    return Halt(**dict(row))
