"""What people do with dead letters: requeue them through our own decoder, or drop them. Nothing is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from model_service.contracts.execution_decoder import decode_execution
from model_service.contracts.types import InvalidMessage
from model_service.database.dead_letter_cases import Case, DeadLetterCases, Decision
from model_service.database.dead_letters import in_words
from model_service.database.executions import ExecutionStore, NotStorable

MARKET_DATA_PREFIX = "ws-gateway."
"""Queues whose messages are old as soon as the next one is there."""


class RequeueOutcome(StrEnum):
    """What became of one letter."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    """Its event was known already; nothing was counted twice, and the letter is resolved."""
    STILL_REFUSED = "still_refused"
    NOT_REQUEUEABLE = "not_requeueable"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class RequeueResult:
    """`reason` is a sentence where the letter was not recorded, else None."""

    dead_letter_id: int
    outcome: RequeueOutcome
    reason: str | None = None


class DropOutcome(StrEnum):
    """What became of one letter."""

    DROPPED = "dropped"
    ALREADY_CLOSED = "already_closed"
    """It had been requeued or dropped before; nothing was changed."""
    NOT_FOUND = "not_found"


class DeadLetterDesk:
    """Requeues and drops; every decision about a letter that exists is a row of the audit log.

    A requeued letter never goes back to a queue, where a sibling might take it: its body is decoded and recorded here
    as its source's consumer would.

    Args:
        execution_queue: the queue whose letters are decoded as execution events; letters of other queues are refused.
    """

    def __init__(self, cases: DeadLetterCases, executions: ExecutionStore, *, execution_queue: str) -> None:
        self._cases = cases
        self._executions = executions
        self._execution_queue = execution_queue

    async def requeueable(self, reason_code: str | None) -> list[int]:
        """Open letters that can be requeued, oldest first. Raises DatabaseUnavailable."""
        return await self._cases.open_ids(self._execution_queue, reason_code)

    async def droppable(self, source: str | None, reason_code: str | None) -> list[int]:
        """Open letters, oldest first. Raises DatabaseUnavailable."""
        return await self._cases.open_ids(source, reason_code)

    async def requeue(self, dead_letter_id: int, *, actor: str, now: datetime) -> RequeueResult:
        """Decode and record it again; the same event counts once, however often and by whomever this is asked.

        Raises DatabaseUnavailable; then it may be asked again.
        """
        case = await self._cases.get(dead_letter_id)
        if case is None:
            return RequeueResult(dead_letter_id, RequeueOutcome.NOT_FOUND, f"There is no dead letter {dead_letter_id}.")
        if case.source != self._execution_queue:
            return await self._refuse_source(case, actor, now)
        try:
            outcome = await self._record(case, now)
        except InvalidMessage as reason:
            return await self._still_refused(case, reason, actor, now)
        await self._cases.requeued(dead_letter_id, Decision(actor, now, _details(case, outcome)))
        return RequeueResult(dead_letter_id, outcome)

    async def drop(self, dead_letter_id: int, *, actor: str, why: str, now: datetime) -> DropOutcome:
        """Close it without using it; it stays in the table with its body. Raises DatabaseUnavailable."""
        case = await self._cases.get(dead_letter_id)
        if case is None:
            return DropOutcome.NOT_FOUND
        details = {"why": why, "source": case.source, "reason_code": case.reason_code, "reason": case.reason}
        changed = await self._cases.dropped(dead_letter_id, Decision(actor, now, details))
        return DropOutcome.DROPPED if changed else DropOutcome.ALREADY_CLOSED

    async def _record(self, case: Case, now: datetime) -> RequeueOutcome:
        observation = decode_execution(case.body, now)
        try:
            batch = await self._executions.record([(observation, case.body)], case.source, now)
        except NotStorable as refusal:
            raise InvalidMessage("not_storable", "", str(refusal)) from refusal
        return RequeueOutcome.RECORDED if batch.new_events else RequeueOutcome.DUPLICATE

    async def _still_refused(self, case: Case, reason: InvalidMessage, actor: str, now: datetime) -> RequeueResult:
        words = in_words(reason)
        details = {**_details(case, RequeueOutcome.STILL_REFUSED), "new_reason_code": reason.code, "new_reason": words}
        await self._cases.still_refused(case.dead_letter_id, reason, Decision(actor, now, details))
        return RequeueResult(case.dead_letter_id, RequeueOutcome.STILL_REFUSED, f"{reason.code}: {words}")

    async def _refuse_source(self, case: Case, actor: str, now: datetime) -> RequeueResult:
        reason = _not_ours(case.source, self._execution_queue)
        details = _details(case, RequeueOutcome.NOT_REQUEUEABLE)
        await self._cases.not_tried(case.dead_letter_id, Decision(actor, now, details))
        return RequeueResult(case.dead_letter_id, RequeueOutcome.NOT_REQUEUEABLE, reason)


def _not_ours(source: str, execution_queue: str) -> str:
    if source.startswith(MARKET_DATA_PREFIX):
        return f"It came from {source}: late market data would be wrong data. Drop it."
    return (
        f"It came from {source}, and only letters of EXECUTION_QUEUE={execution_queue} are decoded now. "
        f"If {source} is the former name of that queue, run this again with EXECUTION_QUEUE={source}."
    )


def _details(case: Case, outcome: RequeueOutcome) -> dict[str, str]:
    return {"outcome": outcome, "source": case.source, "reason_code": case.reason_code, "reason": case.reason}
