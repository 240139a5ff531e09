"""Stored events into the position book: after a crash, side by side, late, and around one that cannot be entered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from model_service.consumers import fills as fills_module
from model_service.consumers.fills import FillDeriver
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.execution_events import TAKE_QUEUED, observation_from
from model_service.database.executions import ExecutionStore
from model_service.services.ports import DecidedSignal
from tests.integration.test_stores import BUY_ID, SELL_ID, decided, increment, with_signals
from tests.support.builders import NOON


def buy(event_id: str, quantity: str = "1", price: str = "100") -> Observation:
    return increment(event_id, str(BUY_ID), Side.BUY, quantity, price)


async def append(database: Database, *observations: Observation) -> int:
    return await ExecutionStore(database).append([(one, b"{}") for one in observations], "test", NOON)


async def fills(database: Database) -> list[str]:
    rows = await database.fetch("SELECT event_id FROM model_service.fills ORDER BY fill_id")
    return [row["event_id"] for row in rows]


async def waiting(database: Database) -> list[str]:
    rows = await database.fetch("SELECT event_id FROM model_service.underived_executions ORDER BY position")
    return [row["event_id"] for row in rows]


async def break_fills(database: Database, code: str, when: str) -> None:
    """Let PostgreSQL refuse rows of fills with this SQLSTATE."""
    await database.execute(
        "CREATE FUNCTION model_service.refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END $$"
    )
    await database.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON model_service.fills FOR EACH ROW"
        f" WHEN ({when}) EXECUTE FUNCTION model_service.refuse()"
    )


async def mend(database: Database) -> None:
    await database.execute("DROP TRIGGER refuse ON model_service.fills")


async def test_an_event_waits_once_and_is_derived_once(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    assert await append(database, buy("a"), buy("a"), buy("b")) == 2
    assert await append(database, buy("b"), buy("c")) == 1
    assert await waiting(database) == ["a", "b", "c"]
    deriver = FillDeriver(ExecutionStore(database))
    await deriver.catch_up(NOON)
    assert (await fills(database), await waiting(database)) == (["a", "b", "c"], [])
    assert await append(database, buy("a")) == 0
    assert await deriver.step(NOON) == 0


async def test_what_a_killed_process_has_stored_is_derived_by_the_next(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await append(database, *(buy(str(number)) for number in range(450)))
    await FillDeriver(ExecutionStore(database)).recover(NOON)
    assert len(await fills(database)) == 450


async def test_a_long_queue_does_not_hold_up_the_start(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fills_module, "BATCHES_BEFORE_START", 1)
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await append(database, *(buy(str(number)) for number in range(250)))
    deriver = FillDeriver(ExecutionStore(database))
    await deriver.recover(NOON)
    assert len(await fills(database)) == 200
    assert await deriver.step(NOON) == 50


async def test_a_batch_whose_derivation_breaks_off_stays_where_it_was(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await append(database, buy("a"), buy("b"))
    await break_fills(database, "53100", "NEW.event_id = 'b'")
    deriver = FillDeriver(ExecutionStore(database))
    with pytest.raises(DatabaseUnavailable):
        await deriver.step(NOON)
    assert (await fills(database), await waiting(database)) == ([], ["a", "b"])
    await mend(database)
    await deriver.catch_up(NOON)
    assert await fills(database) == ["a", "b"]


async def test_derivers_side_by_side_enter_each_event_once_in_the_order_of_arrival(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await append(database, *(buy(f"{number:03}") for number in range(300)))
    store = ExecutionStore(database)
    batches = await asyncio.gather(*(store.derive(NOON, limit=50) for _ in range(8)))
    assert sorted(batch.fills for batch in batches) == [0, 0, 50, 50, 50, 50, 50, 50]
    assert await fills(database) == [f"{number:03}" for number in range(300)]


async def test_deriving_beside_a_writer_that_does_both_at_once(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY), decided(SELL_ID, Side.SELL))
    store = ExecutionStore(database)

    async def derive() -> None:
        while await store.derive(NOON, limit=3):
            if not await waiting(database):
                return

    async def record() -> None:
        for number in range(20):
            event = increment(f"sell{number}", str(SELL_ID), Side.SELL, "1", "110")
            await store.record([(event, b"{}")], "test", NOON)

    await append(database, *(buy(str(number)) for number in range(20)))
    await asyncio.gather(derive(), record())
    lots = await PostgresDecisionStore(database).open_lots()
    assert lots == {}, "twenty bought and twenty sold"
    assert await database.fetchval("SELECT sum(quantity) FROM model_service.lot_closures") == 20


async def test_one_that_cannot_be_entered_holds_up_no_other_and_is_tried_again_at_the_next_start(
    database: Database,
) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    names = [f"{number:02}" for number in range(20)]
    await append(database, *(buy(name) for name in names))
    await break_fills(database, "23514", "NEW.event_id IN ('07', '13')")
    deriver = FillDeriver(ExecutionStore(database))
    await deriver.catch_up(NOON)
    assert await fills(database) == [name for name in names if name not in ("07", "13")]
    reason = await database.fetch("SELECT event_id, refusal FROM model_service.underived_executions ORDER BY position")
    assert [tuple(row) for row in reason] == [("07", "23514: for the test"), ("13", "23514: for the test")]
    await mend(database)
    assert await deriver.step(NOON) == 0
    await deriver.recover(NOON)
    assert (await fills(database))[-2:] == ["07", "13"]
    assert await waiting(database) == []


async def test_a_book_that_does_not_add_up_is_no_reason_to_stop(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY), of_ether(decided(SELL_ID, Side.SELL)))
    await database.execute(
        "INSERT INTO model_service.lots (strategy_id, asset, side, signal_id, opened_at, entry_price, quantity,"
        " remaining_quantity, entry_fees) SELECT 'momentum_v1', 'BTCUSDT', side, $1, $2, 1, 1, 1, 0"
        " FROM unnest(ARRAY['buy', 'sell']) AS side",
        BUY_ID,
        NOON,
    )
    good = increment("good", str(SELL_ID), Side.SELL, "1", "100")
    await append(database, buy("bad"), good)
    await FillDeriver(ExecutionStore(database)).catch_up(NOON)
    assert (await fills(database), await waiting(database)) == (["good"], ["bad"])


def of_ether(decision: DecidedSignal) -> DecidedSignal:
    return replace(decision, signal=replace(decision.signal, asset="ETHUSDT"))


async def test_an_orphan_whose_signal_turns_up_is_derived_at_the_next_start(database: Database) -> None:
    stranger = increment("stranger", "no-uuid", Side.BUY, "1", "100")
    shouting = replace(buy("shouting"), signal_id=str(BUY_ID).upper(), order_id="other")
    await append(database, buy("early"), stranger, shouting)
    deriver = FillDeriver(ExecutionStore(database))
    await deriver.catch_up(NOON)
    assert await orphans(database) == ["early", "shouting", "stranger"]
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await deriver.recover(NOON)
    assert (await fills(database), await orphans(database)) == (["early", "shouting"], ["stranger"])
    await deriver.recover(NOON)
    assert await database.fetchval("SELECT sum(quantity) FROM model_service.fills") == Decimal(2)


async def orphans(database: Database) -> list[str]:
    rows = await database.fetch("SELECT event_id FROM model_service.execution_events WHERE is_orphan ORDER BY 1")
    return [row["event_id"] for row in rows]


async def test_a_row_gives_back_all_that_a_fill_depends_on(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    given = replace(
        buy("a", "0.12345678901234567890", "1E-7"),
        kind=ObservationKind.CHECKPOINT,
        other_order_id="other",
        reported_return=Decimal("0.01"),
        is_dry_run=True,
        trace_id="t",
    )
    bare = replace(given, event_id="b", price=None, quantity=Decimal(0), reported_return=None, trace_id=None)
    await append(database, given, replace(bare, other_order_id=None))
    rows = await database.fetch(TAKE_QUEUED, 10)
    assert [observation_from(row) for row in rows] == [given, replace(bare, other_order_id=None)]
