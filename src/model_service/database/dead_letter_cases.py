"""What people decide about dead letters; each decision is written down in the audit log in the same statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database
from model_service.database.dead_letters import in_words

CASE = """
    SELECT dead_letter_id, source, body, reason_code, reason
    FROM model_service.dead_letters WHERE dead_letter_id = $1
"""
OPEN = """
    SELECT dead_letter_id FROM model_service.dead_letters
    WHERE requeued_at IS NULL AND dropped_at IS NULL
      AND ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR reason_code = $2)
    ORDER BY dead_letter_id
"""
AUDITED = """
    WITH changed AS (
        UPDATE model_service.dead_letters SET {changes} WHERE dead_letter_id = $1 {condition} RETURNING dead_letter_id)
    INSERT INTO model_service.audit_log (actor, action, subject, details, occurred_at)
    SELECT $2, $3, dead_letter_id::text, $4, $5 FROM changed RETURNING true
"""
REQUEUED = AUDITED.format(
    changes="requeued_at = coalesce(requeued_at, $5), requeue_attempts = requeue_attempts + 1", condition=""
)
STILL_REFUSED = AUDITED.format(
    changes="requeue_attempts = requeue_attempts + 1, reason_code = $6, reason = $7", condition=""
)
NOT_TRIED = """
    INSERT INTO model_service.audit_log (actor, action, subject, details, occurred_at)
    VALUES ($2, $3, $1::bigint::text, $4, $5) RETURNING true
"""
DROPPED = AUDITED.format(changes="dropped_at = $5", condition="AND requeued_at IS NULL AND dropped_at IS NULL")


@dataclass(frozen=True, slots=True)
class Case:
    """A dead letter as it is judged."""

    dead_letter_id: int
    source: str
    body: bytes
    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided when, and what the audit log shall say of it."""

    actor: str
    now: datetime
    details: Mapping[str, Any]


class DeadLetterCases:
    """Reads letters and records decisions about them. Each method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, dead_letter_id: int) -> Case | None:
        """The letter, or None when there is no such one."""
        row = await self._database.fetchrow(CASE, dead_letter_id)
        return None if row is None else Case(**row)

    async def open_ids(self, source: str | None, reason_code: str | None) -> list[int]:
        """Letters that are neither requeued nor dropped, oldest first, of one source or reason or of all."""
        rows = await self._database.fetch(OPEN, source, reason_code)
        return [row["dead_letter_id"] for row in rows]

    async def requeued(self, dead_letter_id: int, decision: Decision) -> None:
        """It has been recorded, now or before."""
        await self._record(REQUEUED, "requeue_dead_letter", dead_letter_id, decision)

    async def still_refused(self, dead_letter_id: int, reason: InvalidMessage, decision: Decision) -> None:
        """It was tried again and refused, perhaps for another reason."""
        await self._record(
            STILL_REFUSED, "requeue_dead_letter", dead_letter_id, decision, reason.code, in_words(reason)
        )

    async def not_tried(self, dead_letter_id: int, decision: Decision) -> None:
        """Somebody asked to requeue what cannot be requeued."""
        await self._record(NOT_TRIED, "requeue_dead_letter", dead_letter_id, decision)

    async def dropped(self, dead_letter_id: int, decision: Decision) -> bool:
        """Close it; false when it was closed already, and then nothing is written."""
        return await self._record(DROPPED, "drop_dead_letter", dead_letter_id, decision)

    async def _record(
        self, statement: str, action: str, dead_letter_id: int, decision: Decision, *values: object
    ) -> bool:
        done = await self._database.fetchval(
            statement, dead_letter_id, decision.actor, action, dict(decision.details), decision.now, *values
        )
        return bool(done)
