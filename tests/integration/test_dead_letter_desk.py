"""Requeue and drop: through our own decoder, once, and with a row of the audit log for every decision."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from model_service.consumers.dead_letter_desk import DeadLetterDesk, DropOutcome, RequeueOutcome
from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database
from model_service.database.dead_letter_cases import DeadLetterCases
from model_service.database.dead_letters import DeadLetters
from model_service.database.executions import ExecutionStore
from tests.support.builders import NOON

EXECUTIONS, TICKER = "order-manager.execution_events", "ws-gateway.ticker"
REASON = InvalidMessage("unknown_shape", "", "neither shape")
BROKEN = b'{"event_id": "broken"}'


def event(event_id: str, **changes: object) -> bytes:
    """An execution event as a decoder of today understands it."""
    body = {
        "event_id": event_id, "order_id": "o", "signal_id": "s", "asset": "BTCUSDT", "side": "buy",
        "execution_price": 1, "execution_quantity": 1, "execution_fees": 0, "executed_at": "2026-03-02T12:00:00Z",
    }  # fmt: skip
    return json.dumps({**body, **changes}).encode()


@pytest.fixture
def desk(database: Database) -> DeadLetterDesk:
    return DeadLetterDesk(DeadLetterCases(database), ExecutionStore(database), execution_queue=EXECUTIONS)


async def letter(database: Database, body: bytes, source: str = EXECUTIONS) -> int:
    """Kept as by a decoder that did not understand it yet."""
    await DeadLetters(database).keep(source, [(body, REASON)], NOON)
    number = await database.fetchval("SELECT max(dead_letter_id) FROM model_service.dead_letters")
    return int(number)


async def row(database: Database, number: int) -> Any:
    return await database.fetchrow("SELECT * FROM model_service.dead_letters WHERE dead_letter_id = $1", number)


async def audit(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.fetch("SELECT * FROM model_service.audit_log ORDER BY audit_id")
    return [(row["actor"], row["action"], row["subject"], row["details"].get("outcome")) for row in rows]


async def events(database: Database) -> int:
    return int(await database.fetchval("SELECT count(*) FROM model_service.execution_events"))


async def test_a_letter_that_is_understood_now_is_recorded_and_resolved(
    database: Database, desk: DeadLetterDesk
) -> None:
    number = await letter(database, event("e-1"))
    result = await desk.requeue(number, actor="anna", now=NOON)
    assert (result.outcome, result.reason) == (RequeueOutcome.RECORDED, None)
    stored = await database.fetchrow("SELECT event_id, source, body FROM model_service.execution_events")
    assert stored is not None
    assert tuple(stored) == ("e-1", EXECUTIONS, event("e-1"))
    resolved = await row(database, number)
    assert (resolved["requeued_at"], resolved["requeue_attempts"]) == (NOON, 1)
    assert await desk.requeueable(None) == []
    assert await audit(database) == [("anna", "requeue_dead_letter", str(number), "recorded")]


async def test_an_event_that_came_by_itself_meanwhile_counts_once(database: Database, desk: DeadLetterDesk) -> None:
    first = await letter(database, event("e-1"))
    second = await letter(database, event("e-1", note="the same event in other bytes"))
    outcomes = [(await desk.requeue(number, actor="anna", now=NOON)).outcome for number in (first, second, first)]
    assert outcomes == [RequeueOutcome.RECORDED, RequeueOutcome.DUPLICATE, RequeueOutcome.DUPLICATE]
    assert await events(database) == 1
    assert (await row(database, second))["requeued_at"] == NOON
    assert [entry[3] for entry in await audit(database)] == ["recorded", "duplicate", "duplicate"]


async def test_people_who_requeue_the_same_letter_at_once_count_it_once(
    database: Database, desk: DeadLetterDesk
) -> None:
    number = await letter(database, event("e-1"))
    results = await asyncio.gather(*(desk.requeue(number, actor=f"p{n}", now=NOON) for n in range(8)))
    assert sorted(result.outcome for result in results) == ["duplicate"] * 7 + ["recorded"]
    assert await events(database) == 1
    assert len(await audit(database)) == 8


async def test_a_letter_that_is_still_refused_stays_open_with_the_new_reason(
    database: Database, desk: DeadLetterDesk
) -> None:
    number = await letter(database, event("e-1", side="hold"))
    for attempt in (1, 2):
        result = await desk.requeue(number, actor="anna", now=NOON)
        assert result.outcome is RequeueOutcome.STILL_REFUSED
        assert result.reason is not None
        assert "side" in result.reason
        kept = await row(database, number)
        assert (kept["reason_code"], kept["requeued_at"], kept["requeue_attempts"]) == ("invalid_value", None, attempt)
        assert kept["reason"].startswith("side: ")
    assert await desk.requeueable(None) == [number]
    assert [entry[3] for entry in await audit(database)] == ["still_refused"] * 2
    first = await database.fetchval("SELECT details FROM model_service.audit_log ORDER BY audit_id LIMIT 1")
    assert (first["reason_code"], first["new_reason_code"]) == ("unknown_shape", "invalid_value")


async def test_what_postgresql_refuses_is_still_refused(database: Database, desk: DeadLetterDesk) -> None:
    # Whatever the reason is why PostgreSQL refuses values that the decoder has passed.
    await database.execute("ALTER TABLE model_service.execution_events ADD CONSTRAINT small CHECK (quantity < 1000)")
    number = await letter(database, event("e-1", execution_quantity=5000))
    result = await desk.requeue(number, actor="anna", now=NOON)
    assert result.outcome is RequeueOutcome.STILL_REFUSED
    assert (await row(database, number))["reason_code"] == "not_storable"


async def test_market_data_are_not_requeued(database: Database, desk: DeadLetterDesk) -> None:
    # Even if the body would be understood as an execution.
    number = await letter(database, event("e-1"), source=TICKER)
    result = await desk.requeue(number, actor="anna", now=NOON)
    assert result.outcome is RequeueOutcome.NOT_REQUEUEABLE
    assert result.reason is not None
    assert "late market data would be wrong data" in result.reason
    assert await events(database) == 0
    kept = await row(database, number)
    assert (kept["requeued_at"], kept["requeue_attempts"], kept["reason_code"]) == (None, 0, "unknown_shape")
    assert await desk.requeueable(None) == []
    assert await audit(database) == [("anna", "requeue_dead_letter", str(number), "not_requeueable")]


async def test_an_event_of_a_renamed_queue_is_not_called_market_data(database: Database, desk: DeadLetterDesk) -> None:
    former = "order-manager.executions_of_old"
    number = await letter(database, event("e-1"), source=former)
    result = await desk.requeue(number, actor="anna", now=NOON)
    assert result.outcome is RequeueOutcome.NOT_REQUEUEABLE
    assert result.reason is not None
    assert "market data" not in result.reason
    assert f"EXECUTION_QUEUE={EXECUTIONS}" in result.reason
    assert f"EXECUTION_QUEUE={former}" in result.reason
    renamed = DeadLetterDesk(DeadLetterCases(database), ExecutionStore(database), execution_queue=former)
    assert (await renamed.requeue(number, actor="anna", now=NOON)).outcome is RequeueOutcome.RECORDED


async def test_a_number_that_is_none_is_not_found_and_not_audited(database: Database, desk: DeadLetterDesk) -> None:
    assert (await desk.requeue(7, actor="anna", now=NOON)).outcome is RequeueOutcome.NOT_FOUND
    assert await desk.drop(7, actor="anna", why="x", now=NOON) is DropOutcome.NOT_FOUND
    assert await audit(database) == []


async def test_a_dropped_letter_is_closed_once_and_stays(database: Database, desk: DeadLetterDesk) -> None:
    number = await letter(database, BROKEN)
    assert await desk.drop(number, actor="anna", why="a test of theirs", now=NOON) is DropOutcome.DROPPED
    assert await desk.drop(number, actor="bert", why="again", now=NOON) is DropOutcome.ALREADY_CLOSED
    kept = await row(database, number)
    assert (kept["dropped_at"], kept["body"]) == (NOON, BROKEN)
    assert await desk.droppable(None, None) == []
    assert await audit(database) == [("anna", "drop_dead_letter", str(number), None)]
    details = await database.fetchval("SELECT details FROM model_service.audit_log")
    assert (details["why"], details["source"]) == ("a test of theirs", EXECUTIONS)


async def test_a_resolved_letter_cannot_be_dropped(database: Database, desk: DeadLetterDesk) -> None:
    number = await letter(database, event("e-1"))
    await desk.requeue(number, actor="anna", now=NOON)
    assert await desk.drop(number, actor="anna", why="x", now=NOON) is DropOutcome.ALREADY_CLOSED


async def test_filters_choose_by_source_and_reason(database: Database, desk: DeadLetterDesk) -> None:
    execution, ticker = await letter(database, b"1"), await letter(database, b"2", TICKER)
    await DeadLetters(database).keep(EXECUTIONS, [(b"3", InvalidMessage("invalid_json", "", "no"))], NOON)
    other = ticker + 1
    assert await desk.droppable(None, None) == [execution, ticker, other]
    assert await desk.droppable(TICKER, None) == [ticker]
    assert await desk.droppable(None, "invalid_json") == [other]
    assert await desk.requeueable("unknown_shape") == [execution]
