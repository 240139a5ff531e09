"""Only the answer is lost: what was done is done once, and what was not done is done again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from model_service.contracts.types import Side
from model_service.database import decisions
from model_service.database.bars import BarStore
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.outcomes import PostgresOutcomeStore
from model_service.database.training_runs import PostgresTrainingStore
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.labelling import Labeller
from model_service.services.ports import Intent, ScheduleSlot, SilentTick, SlotTaken, TrainingRun
from tests.integration.test_stores import BUY_ID, decided, increment, path, record, with_signals
from tests.support.black_hole import BlackHole, black_hole
from tests.support.builders import NOON

SILENCE = SilentTick("momentum_v1", "ETHUSDT", NOON, Reason(ReasonCode.PAUSED))
HORIZON_PASSED = NOON + timedelta(seconds=420)


@pytest_asyncio.fixture
async def hole(database: Database) -> AsyncIterator[BlackHole]:
    """A way to the test's own database."""
    async with black_hole(database.address) as made:
        yield made


@pytest_asyncio.fixture
async def distant(hole: BlackHole) -> AsyncIterator[Database]:
    """The database over that way."""
    made = Database(hole.address)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def count(database: Database, table: str) -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM model_service.{table}"))


# Words of the packet that does it, or of one before it. The single statement of an
# exit alone commits by itself, when its values come; an opening looks at halts in its transaction.
@pytest.mark.parametrize(
    ("words", "intent", "silent", "is_stored"),
    [
        (b"momentum_v1", "exit", [], True),
        (b"momentum_v1", "open", [], False),
        (b"COMMIT", "open", [], True),
        (b"COMMIT", "exit", [SILENCE], True),
        (b"INSERT INTO model_service.trading_signals", "exit", [], False),
        (b"INSERT INTO model_service.decision_counts", "open", [SILENCE], False),
    ],
)
async def test_a_pass_says_whether_it_took_effect(
    hole: BlackHole,
    distant: Database,
    database: Database,
    words: bytes,
    intent: Intent,
    silent: list[SilentTick],
    is_stored: bool,
) -> None:
    store = PostgresDecisionStore(distant)
    hole.lose_answer_to(words)
    with pytest.raises(DatabaseUnavailable):
        await store.record([replace(decided(BUY_ID, Side.BUY), intent=intent)], (), silent)
    assert hole.has_lost
    assert await store.took_effect() == (frozenset({BUY_ID}) if is_stored else frozenset())
    assert await count(database, "trading_signals") == int(is_stored), "asking changes nothing"


async def test_a_pass_that_is_still_under_way_is_waited_for(
    hole: BlackHole, distant: Database, database: Database
) -> None:
    store = PostgresDecisionStore(distant)
    hole.lose_answer_to(b"INSERT INTO model_service.trading_signals")
    with pytest.raises(DatabaseUnavailable):
        await store.record([decided(BUY_ID, Side.BUY)], (), ())
    async with database.transaction() as connection:
        # The former session goes on without its client.
        await connection.execute(decisions.INSERT_SIGNAL, *decisions._signal_row(decided(BUY_ID, Side.BUY)))
        asking = asyncio.create_task(store.took_effect())
        async with asyncio.timeout(10):
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.02)
        assert not asking.done()
    assert await asking


async def labeller_with_a_due_signal(distant: Database, database: Database) -> Labeller:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    await BarStore(database, 60).save(path([100] * 7))
    return Labeller(PostgresOutcomeStore(distant, BarStore(distant, 60)), 60)


@pytest.mark.parametrize("words", [b"COMMIT", b"INSERT INTO model_service.samples"])
async def test_an_outcome_and_its_sample_are_written_once(
    hole: BlackHole, distant: Database, database: Database, words: bytes
) -> None:
    labeller = await labeller_with_a_due_signal(distant, database)
    hole.lose_answer_to(words)
    with pytest.raises(DatabaseUnavailable):
        await labeller.step(HORIZON_PASSED)
    await labeller.step(HORIZON_PASSED)
    assert hole.has_lost
    assert (await count(database, "outcomes"), await count(database, "samples")) == (1, 1)


async def test_two_who_label_the_same_write_one_outcome(distant: Database, database: Database) -> None:
    await labeller_with_a_due_signal(distant, database)
    stores = [PostgresOutcomeStore(one, BarStore(one, 60)) for one in (database, distant)]
    labellers = [Labeller(store, 60) for store in stores]
    await asyncio.gather(*(one.step(HORIZON_PASSED) for one in labellers))
    assert await count(database, "outcomes") == 1
    assert sum(one.labelled for one in labellers) == 1


def requested(number: int) -> TrainingRun:
    return TrainingRun(UUID(int=number), "momentum_v1", "full", "schedule", "requested", NOON, 100)


async def test_a_slot_fires_with_its_run_or_not_at_all(hole: BlackHole, distant: Database, database: Database) -> None:
    store, slot = PostgresTrainingStore(distant), ScheduleSlot("train:momentum_v1", NOON)
    hole.lose_answer_to(b"INSERT INTO model_service.training_runs")
    with pytest.raises(DatabaseUnavailable):
        await store.request(requested(1), "test", previous=None, slot=slot)
    assert await store.last_slot(slot.job) is None
    await store.request(requested(2), "test", previous=None, slot=slot)
    with pytest.raises(SlotTaken):
        await store.request(requested(3), "test", previous=UUID(int=2), slot=slot)
    assert [run.run_id for run in await store.live_runs()] == [UUID(int=2)]


async def test_the_last_words_of_the_server_end_a_connection(
    hole: BlackHole, distant: Database, database: Database
) -> None:
    pid = await distant.fetchval("SELECT pg_backend_pid()")
    hole.hide_ends()
    await database.execute("SELECT pg_terminate_backend($1)", pid)
    await hole.has_hidden_end.wait()
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseUnavailable):
        await distant.fetchval("SELECT 1")
    assert await distant.fetchval("SELECT pg_backend_pid()") != pid
