"""The siblings change their tables: what needs a missing column is switched off and says so, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from tests.integration.test_order_reconciliation import AT_ONCE, SECOND, Scene, scene_in
from tests.integration.test_stores import BUY_ID, SELL_ID
from tests.support.builders import NOON

MINUTE = timedelta(minutes=1)
RECONCILIATION = "reconciliation with the table orders"
LOST = "the search for lost signals"
OPEN_ORDERS = "the guard against other services' open orders"
POSITION_LIMIT = "the guard of the platform's position limit"
FOREIGN = (
    "INSERT INTO public.orders (order_id, signal_id, asset, side, order_type, quantity, status, created_at) "
    "VALUES ('foreign', gen_random_uuid(), 'BTCUSDT', 'Buy', 'Market', 1, 'pending', now() AT TIME ZONE 'UTC')"
)
Logs = Sequence[Mapping[str, Any]]


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with scene_in(database) as made:
        await made.signals((BUY_ID, Side.BUY), (SELL_ID, Side.SELL))
        await made.platform.put("exchange-1", BUY_ID, "filled", "2")
        await made.platform.database.execute(FOREIGN)
        await made.platform.database.execute(
            "INSERT INTO public.positions (asset, mode, size) VALUES ('BTCUSDT', 'hedge', 3)"
        )
        yield made


def disabled(logs: Logs) -> list[tuple[str, tuple[str, ...]]]:
    return [(entry["disabled"], tuple(entry["columns"])) for entry in logs if entry["event"] == "shared_table_unusable"]


def enabled(logs: Logs) -> list[str]:
    return [entry["enabled"] for entry in logs if entry["event"] == "shared_table_usable"]


@pytest.mark.parametrize(
    ("column", "switched_off"),
    [
        ("fees", [RECONCILIATION]),
        ("average_price", [RECONCILIATION]),
        ("executed_at", [RECONCILIATION]),
        ("status", [RECONCILIATION, OPEN_ORDERS]),
        ("created_at", [RECONCILIATION, OPEN_ORDERS]),
        ("signal_id", [RECONCILIATION, LOST, OPEN_ORDERS]),
        ("updated_at", []),
        ("trace_id", []),
        ("price", []),
    ],
)
async def test_a_missing_column_switches_off_what_needs_it(scene: Scene, column: str, switched_off: list[str]) -> None:
    await scene.platform.database.execute(f"ALTER TABLE public.orders DROP COLUMN {column} CASCADE")
    reconciler = scene.reconciler(AT_ONCE)
    with capture_logs() as logs:
        await reconciler.step(NOON + 31 * SECOND)
    assert disabled(logs) == [(use, (column,)) for use in switched_off]
    assert all(entry["log_level"] == "error" for entry in logs if entry["event"] == "shared_table_unusable")
    assert await scene.filled() == (0 if RECONCILIATION in switched_off else 2)
    assert (await scene.state(SELL_ID) == "lost") is (LOST not in switched_off)
    assert len(reconciler.notices) == len(switched_off)
    assert all(f"public.orders has no column {column}" in notice for notice in reconciler.notices)


async def test_it_is_said_once_and_comes_back_by_itself(scene: Scene) -> None:
    owner, reconciler = scene.platform.database, scene.reconciler(AT_ONCE)
    await reconciler.step(NOON)
    assert await scene.filled() == 2
    with capture_logs() as logs:
        await owner.execute("ALTER TABLE public.orders DROP COLUMN fees")
        for second in (2, 4, 6, 61, 63, 122):
            await reconciler.step(NOON + second * SECOND)
        assert disabled(logs) == [(RECONCILIATION, ("fees",))]
        await owner.execute("ALTER TABLE public.orders ADD COLUMN fees numeric(20, 8), DROP COLUMN status")
        await reconciler.step(NOON + 183 * SECOND)
        assert disabled(logs)[1:] == [(RECONCILIATION, ("status",)), (OPEN_ORDERS, ("status",))]
        await owner.execute("ALTER TABLE public.orders ADD COLUMN status varchar(20)")
        await owner.execute(
            "UPDATE public.orders SET status = 'filled', filled_quantity = 3 WHERE order_id = 'exchange-1'"
        )
        await reconciler.step(NOON + 184 * SECOND)
        assert await scene.filled() == 2, "it is looked at again about every minute"
        await reconciler.step(NOON + 244 * SECOND)
    assert enabled(logs) == [RECONCILIATION, OPEN_ORDERS]
    assert await scene.filled() == 3
    assert reconciler.notices == ()


async def test_a_column_of_another_type_is_a_missing_one(scene: Scene) -> None:
    owner, reconciler = scene.platform.database, scene.reconciler(AT_ONCE)
    await owner.execute("ALTER TABLE public.orders ALTER COLUMN signal_id TYPE text")
    with capture_logs() as logs:
        for second in (1, 3, 62, 123):
            await reconciler.step(NOON + second * SECOND)
    assert [use for use, _ in disabled(logs)] == [RECONCILIATION, LOST, OPEN_ORDERS]
    assert enabled(logs) == []
    await owner.execute("ALTER TABLE public.orders ALTER COLUMN signal_id TYPE uuid USING signal_id::uuid")
    await reconciler.step(NOON + 184 * SECOND)
    assert await scene.filled() == 2


async def test_wider_columns_and_times_with_a_zone_are_read_on(scene: Scene) -> None:
    await scene.platform.database.execute(
        "ALTER TABLE public.orders ALTER COLUMN filled_quantity TYPE numeric(38, 18), ALTER COLUMN side TYPE text,"
        " ALTER COLUMN executed_at TYPE timestamptz USING executed_at AT TIME ZONE 'UTC'"
    )
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    rows = await scene.service.fetch("SELECT quantity, executed_at FROM model_service.fills")
    assert [tuple(row) for row in rows] == [(2, NOON)]


async def test_a_table_that_is_renamed_away_and_back(scene: Scene) -> None:
    owner, reconciler = scene.platform.database, scene.reconciler(AT_ONCE)
    await owner.execute("ALTER TABLE public.orders RENAME TO orders_old")
    with capture_logs() as logs:
        await reconciler.step(NOON + 31 * SECOND)
        await reconciler.step(NOON + 33 * SECOND)
    assert [use for use, _ in disabled(logs)] == [RECONCILIATION, LOST, OPEN_ORDERS]
    assert {entry["reason"] for entry in logs} == {"there is no table public.orders"}
    assert "TRADING_ORDER_LOOKUP_ENABLED" in logs[0]["hint"]
    assert await scene.state(SELL_ID) is None, "who cannot look cannot say that a signal is lost"
    await owner.execute("ALTER TABLE public.orders_old RENAME TO orders")
    await reconciler.step(NOON + 92 * SECOND)
    assert (await scene.filled(), await scene.state(SELL_ID)) == (Decimal(2), "lost")


async def test_a_right_that_was_taken_away_is_named(scene: Scene) -> None:
    owner, role = scene.platform.database, scene.service.address.user
    await owner.execute(f"REVOKE SELECT ON public.orders FROM {role}")
    await owner.execute(f"GRANT SELECT (id, signal_id, asset, side, status, created_at) ON public.orders TO {role}")
    reconciler = scene.reconciler(AT_ONCE)
    with capture_logs() as logs:
        await reconciler.step(NOON + SECOND)
    assert [use for use, _ in disabled(logs)] == [RECONCILIATION]
    assert "may not read columns order_id, filled_quantity" in logs[0]["reason"]
    assert "GRANT SELECT ON public.orders" in logs[0]["hint"]
    assert role not in reconciler.notices[0]
    await owner.execute(f"GRANT SELECT ON public.orders TO {role}")
    await reconciler.step(NOON + 2 * MINUTE)
    assert await scene.filled() == 2


async def test_guards_use_what_can_be_read(scene: Scene) -> None:
    owner = scene.platform.database
    decisions = PostgresDecisionStore(scene.service, SharedTables(SharedSchema(scene.service, "public", USES)))
    foreign = [order.asset for order in await decisions.foreign_orders()]
    assert (foreign, await decisions.shared_positions()) == (["BTCUSDT"], {"BTCUSDT": 3.0})
    await owner.execute("ALTER TABLE public.positions RENAME COLUMN size TO amount")
    with capture_logs() as logs:
        assert await decisions.shared_positions() is None
        assert await decisions.shared_positions() is None
    assert disabled(logs) == [(POSITION_LIMIT, ("size",))]
    assert len(await decisions.foreign_orders()) == 1


async def test_a_side_that_is_none_does_not_stop_deciding(scene: Scene) -> None:
    owner = scene.platform.database
    await owner.execute("ALTER TABLE public.orders DROP CONSTRAINT orders_side_check")
    await owner.execute("UPDATE public.orders SET side = 'Hold' WHERE order_id = 'foreign'")
    assert await SharedTables(SharedSchema(scene.service, "public", USES)).open_orders() == []
