"""Against PostgreSQL: a value that it refuses and a table that somebody has locked cost openings, and no exit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from model_service.services.ports import PlatformUnreadable, Unstorable
from tests.integration.test_order_reconciliation import scene_in
from tests.integration.test_stores import decided

STORED = "SELECT count(*) FROM model_service.trading_signals"


@pytest.mark.parametrize(
    "changes",
    [{"horizon_seconds": 3_000_000_000}, {"evidence": {"value": float("nan")}}, {"seed": "a\x00b"}],
    ids=["an integer that is too large", "no number of JSON", "a text that cannot be"],
)
async def test_a_value_that_cannot_be_stored_is_said_and_nothing_of_it_is_stored(
    database: Database, changes: dict[str, object]
) -> None:
    store = PostgresDecisionStore(database)
    good, bad = decided(uuid4(), Side.BUY), replace(decided(uuid4(), Side.SELL), **changes)  # type: ignore[arg-type]
    with pytest.raises(Unstorable):
        await store.record([good, bad], (), ())
    assert await database.fetchval(STORED) == 0
    await store.record([good], (), ())
    assert await database.fetchval(STORED) == 1


async def test_a_locked_table_of_the_platform_is_given_up_after_a_second(database: Database) -> None:
    async with scene_in(database) as scene:
        store = PostgresDecisionStore(scene.service, SharedTables(SharedSchema(scene.service, "public", USES)))
        assert await store.foreign_orders() == []
        connection = await scene.platform.database.connect()
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE public.orders, public.positions IN ACCESS EXCLUSIVE MODE")
                for reading in (store.foreign_orders, store.shared_positions):
                    with pytest.raises(PlatformUnreadable, match=r"within 1\.\d seconds"):
                        await asyncio.wait_for(reading(), 5)
        finally:
            await connection.close()
        assert await store.foreign_orders() == []
