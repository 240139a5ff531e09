"""Training runs as rows, and the slots of their schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from model_service.database.connection import Connection, Database
from model_service.services.ports import ScheduleSlot, SlotTaken, TrainingRun

COLUMNS = "run_id, strategy_id, training_type, trigger, state, requested_at, outcomes_seen"
LIVE = f"""
    SELECT {COLUMNS} FROM model_service.training_runs
    WHERE state IN ('requested', 'preparing', 'fitting', 'evaluating') ORDER BY requested_at, run_id
"""  # noqa: S608 - constants of this file
LAST = f"""
    SELECT {COLUMNS} FROM model_service.training_runs
    WHERE strategy_id = $1 AND state <> 'skipped'
      AND coalesce(error_code, '') NOT IN ('not_enough_data', 'no_parent', 'interrupted')
    ORDER BY requested_at DESC, run_id LIMIT 1
"""  # noqa: S608 - constants of this file
INSERT = """
    INSERT INTO model_service.training_runs
        (run_id, strategy_id, training_type, trigger, reason, state, requested_at, outcomes_seen, error_code,
         error_hint, finished_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $6 = 'refused' THEN $5 END,
            CASE WHEN $6 IN ('skipped', 'refused') THEN $7::timestamptz END)
"""
SUPERSEDE = """
    UPDATE model_service.training_runs SET state = 'superseded', superseded_by = $2, finished_at = $3
    WHERE run_id = $1 AND state IN ('requested', 'preparing', 'fitting', 'evaluating')
"""
PROGRESS = """
    UPDATE model_service.training_runs
    SET state = $2, progress = $3, progress_note = $4, started_at = coalesce(started_at, $5),
        dataset_report = coalesce($6, dataset_report)
    WHERE run_id = $1 AND state IN ('requested', 'preparing', 'fitting', 'evaluating')
"""
FINISH = """
    UPDATE model_service.training_runs
    SET state = $2, finished_at = $3, dataset_report = coalesce($4, dataset_report), gate = $5, error_code = $6,
        error_hint = $7, version = $8,
        progress = CASE WHEN $2 IN ('promoted', 'rejected') THEN 1 ELSE progress END
    WHERE run_id = $1 AND state IN ('requested', 'preparing', 'fitting', 'evaluating')
"""
SAMPLES = "SELECT count(*) FROM model_service.samples WHERE strategy_id = $1 AND revision = 1"
FIRE = """
    INSERT INTO model_service.schedule_slots (job, slot, fired_at) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING slot
"""
LAST_SLOT = "SELECT max(slot) FROM model_service.schedule_slots WHERE job = $1"


class PostgresTrainingStore:
    """Training runs in PostgreSQL; a unique index holds one live run per strategy."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self,
        run: TrainingRun,
        reason: str,
        *,
        previous: UUID | None,
        error_code: str | None = None,
        slot: ScheduleSlot | None = None,
    ) -> None:
        """Insert a run; a live one of the strategy, `previous`, becomes superseded by it in the same transaction.

        So is `slot` fired: apart from its run, a slot would be lost when the process dies or the database goes away in
        between. Raises SlotTaken, with nothing written, when it has been fired before.
        """
        async with self._database.transaction() as connection:
            if slot is not None:
                await self._fire(connection, slot, run.requested_at)
            if previous is not None:
                await connection.execute(self._database.sql(SUPERSEDE), previous, run.run_id, run.requested_at)
            await connection.execute(
                self._database.sql(INSERT), run.run_id, run.strategy_id, run.training_type, run.trigger, reason,
                run.state, run.requested_at, run.outcomes_seen, error_code,
            )  # fmt: skip

    async def live_runs(self) -> Sequence[TrainingRun]:
        """Runs that are requested or under way, oldest first."""
        return [_run(row) for row in await self._database.fetch(LIVE)]

    async def last_run(self, strategy_id: str) -> TrainingRun | None:
        """The newest run that has looked at data: not one that was skipped, interrupted or refused beforehand."""
        row = await self._database.fetchrow(LAST, strategy_id)
        return _run(row) if row is not None else None

    async def progress(
        self,
        run_id: UUID,
        state: str,
        fraction: float,
        note: str,
        now: datetime,
        *,
        dataset_report: Mapping[str, Any] | None = None,
    ) -> None:
        """Where a live run is, and the report on its rows once it is known; a finished one is left alone."""
        report = None if dataset_report is None else dict(dataset_report)
        await self._database.execute(PROGRESS, run_id, state, fraction, note, now, report)

    async def finish(self, run_id: UUID, state: str, now: datetime, **details: Any) -> None:
        """Close a live run: dataset_report, gate, error_code, error_hint, version."""
        await self._database.execute(
            FINISH, run_id, state, now, details.get("dataset_report"), details.get("gate"), details.get("error_code"),
            details.get("error_hint"), details.get("version"),
        )  # fmt: skip

    async def sample_count(self, strategy_id: str) -> int:
        """Samples of the strategy."""
        return int(await self._database.fetchval(SAMPLES, strategy_id))

    async def last_slot(self, job: str) -> datetime | None:
        """The newest slot that was fired."""
        slot: datetime | None = await self._database.fetchval(LAST_SLOT, job)
        return slot

    async def _fire(self, connection: Connection, slot: ScheduleSlot, now: datetime) -> None:
        if await connection.fetchval(self._database.sql(FIRE), slot.job, slot.at, now) is None:
            raise SlotTaken(f"{slot.job} at {slot.at.isoformat()}")


def _run(row: asyncpg.Record) -> TrainingRun:
    return TrainingRun(**{name: row[name] for name in TrainingRun.__dataclass_fields__})
