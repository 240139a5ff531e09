"""Fills and order states from the platform's table `orders`, and signals that have no order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from model_service.consumers.order_reconciliation import OrderReconciler, ReconciliationLimits
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus, Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.executions import ExecutionStore
from model_service.database.reconciliation import ReconciliationStore
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from tests.integration.test_stores import BUY_ID, SELL_ID, decided, increment
from tests.support.builders import NOON
from tests.support.platform_tables import BALANCES, ORDERS, POSITIONS, Platform, reading_role

SECOND = timedelta(seconds=1)
LIMITS = ReconciliationLimits(grace_seconds=5.0, sweep_seconds=300.0, lost_after_seconds=30.0)
AT_ONCE = replace(LIMITS, grace_seconds=0.0)


@dataclass
class Scene:
    """The platform's side, and the service's role, which may only read there."""

    platform: Platform
    service: Database

    def reconciler(self, limits: ReconciliationLimits = LIMITS) -> OrderReconciler:
        """As after a start: it remembers nothing."""
        tables = SharedTables(SharedSchema(self.service, "public", USES))
        return OrderReconciler(tables, ReconciliationStore(self.service), ExecutionStore(self.service), limits)

    async def record(self, *events: Observation) -> None:
        await ExecutionStore(self.service).record([(event, b"{}") for event in events], "queue", NOON)

    async def fills(self) -> list[tuple[Decimal, Decimal]]:
        rows = await self.service.fetch("SELECT quantity, price FROM model_service.fills ORDER BY fill_id")
        return [(row["quantity"], row["price"]) for row in rows]

    async def filled(self) -> Decimal:
        total = await self.service.fetchval("SELECT coalesce(sum(quantity), 0) FROM model_service.fills")
        assert isinstance(total, Decimal)
        return total

    async def state(self, signal_id: UUID = BUY_ID) -> str | None:
        state: str | None = await self.service.fetchval(
            "SELECT order_state FROM model_service.trading_signals WHERE signal_id = $1", signal_id
        )
        return state

    async def signals(self, *given: tuple[UUID, Side], **columns: Any) -> None:
        """Published signals, decided at NOON."""
        await PostgresDecisionStore(self.service).record([decided(*one) for one in given], (), ())
        await self.service.execute(
            "UPDATE model_service.trading_signals SET status = 'published', published_at = decided_at"
        )


@asynccontextmanager
async def scene_in(database: Database, **session: str) -> AsyncIterator[Scene]:
    await database.execute(ORDERS)
    await database.execute(POSITIONS)
    await database.execute(BALANCES)
    async with reading_role(database, **session) as service:
        yield Scene(Platform(database), service)


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    """Two signals were published: a buy and a sell."""
    async with scene_in(database) as made:
        await made.signals((BUY_ID, Side.BUY), (SELL_ID, Side.SELL))
        yield made


def nested(event_id: str, order_id: str, row_id: UUID, quantity: str, status: OrderStatus) -> Observation:
    seen = increment(event_id, str(BUY_ID), Side.BUY, quantity, "100")
    return replace(seen, kind=ObservationKind.CHECKPOINT, order_id=order_id, other_order_id=str(row_id), status=status)


async def test_a_fill_that_was_never_published_is_taken_from_the_table(scene: Scene) -> None:
    reconciler = scene.reconciler()
    await scene.platform.put("exchange-1", BUY_ID, "partially_filled", "2", price="101")
    await reconciler.step(NOON + SECOND)
    assert await scene.filled() == 0, "events come first"
    await reconciler.step(NOON + 6 * SECOND)
    assert await scene.fills() == [(Decimal(2), Decimal(101))]
    assert await scene.state() == "partially_filled"
    await scene.platform.put("exchange-1", BUY_ID, "filled", "3", price="102")
    await reconciler.step(NOON + 8 * SECOND)
    await reconciler.step(NOON + 13 * SECOND)
    assert await scene.fills() == [(Decimal(2), Decimal(101)), (Decimal(1), Decimal(104))]
    assert await scene.state() == "filled"
    source = await scene.service.fetchval("SELECT DISTINCT source FROM model_service.execution_events")
    assert source == "orders_table"


async def test_what_events_have_told_is_not_recorded_again(scene: Scene) -> None:
    reconciler = scene.reconciler()
    row_id = await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await reconciler.step(NOON + SECOND)
    await scene.record(nested("e1", "exchange-1", row_id, "2", OrderStatus.FILLED))
    for second in (6, 8, 400):
        await reconciler.step(NOON + second * SECOND)
    assert await scene.service.fetchval("SELECT count(*) FROM model_service.execution_events") == 1


@pytest.mark.parametrize("name", ["exchange", "internal"])
async def test_events_before_and_after_a_look_at_the_table_count_once(scene: Scene, name: str) -> None:
    reconciler = scene.reconciler(AT_ONCE)
    row_id = await scene.platform.put("exchange-1", BUY_ID, "partially_filled", "2")
    named = "exchange-1" if name == "exchange" else str(row_id)
    one, two, three = (replace(increment(f"e{n}", str(BUY_ID), Side.BUY, "1", "100"), order_id=named) for n in range(3))
    await scene.record(one)
    await reconciler.step(NOON + SECOND)
    await scene.record(one, two)
    await reconciler.step(NOON + 2 * SECOND)
    await scene.platform.put("exchange-1", BUY_ID, "filled", "4")
    await scene.record(three, two)
    await scene.reconciler(AT_ONCE).step(NOON + 3 * SECOND)
    await scene.record(one, two, three)
    assert await scene.filled() == 4
    assert await scene.service.fetchval("SELECT sum(remaining_quantity) FROM model_service.lots") == 4
    assert await scene.service.fetchval("SELECT count(*) FROM model_service.order_progress") == 1


@pytest.mark.parametrize("first_names", [("exchange", "internal"), ("exchange", "exchange"), ("internal", "internal")])
@pytest.mark.parametrize("late_name", ["exchange", "internal"])
async def test_a_look_at_the_table_joins_identifiers_although_no_fill_is_new(
    scene: Scene, first_names: tuple[str, str], late_name: str
) -> None:
    """Else a late total under one identifier would be held against the fills under that one alone."""
    names = {"exchange": "exchange-1", "internal": str(await scene.platform.put("exchange-1", BUY_ID, "filled", "2"))}
    one = increment("e0", str(BUY_ID), Side.BUY, "1", "100")
    await scene.record(*(replace(one, event_id=f"e{n}", order_id=names[name]) for n, name in enumerate(first_names)))
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    late = replace(one, event_id="late", kind=ObservationKind.CHECKPOINT, quantity=Decimal(2))
    await scene.record(replace(late, order_id=names[late_name]))
    assert await scene.filled() == 2
    assert await scene.service.fetchval("SELECT sum(remaining_quantity) FROM model_service.lots") == 2
    orders = await scene.service.fetch("SELECT order_id, other_order_id FROM model_service.order_progress")
    assert [set(order) for order in orders] == [set(names.values())]


async def test_identifiers_are_taken_from_the_table_once(scene: Scene) -> None:
    await scene.platform.put("exchange-1", BUY_ID, "filled", "1")
    await scene.record(replace(increment("e1", str(BUY_ID), Side.BUY, "1", "100"), order_id="exchange-1"))
    with capture_logs() as logs:
        for second in (1, 2, 400):
            await scene.reconciler(AT_ONCE).step(NOON + second * SECOND)
    assert [entry["fills"] for entry in logs if entry["event"] == "orders_reconciled"] == [0]
    assert await scene.fills() == [(Decimal(1), Decimal(100))]


async def test_a_start_takes_up_what_happened_meanwhile_once(scene: Scene) -> None:
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    later = NOON + timedelta(hours=23)
    for _ in range(3):
        reconciler = scene.reconciler()
        await reconciler.step(later)
        await reconciler.step(later + 5 * SECOND)
    assert await scene.fills() == [(Decimal(2), Decimal(100))]


async def test_two_processes_that_look_at_once_take_a_fill_once(scene: Scene) -> None:
    import asyncio

    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await asyncio.gather(*(scene.reconciler(AT_ONCE).step(NOON + SECOND) for _ in range(4)))
    assert await scene.filled() == 2


async def test_old_signals_are_looked_at_again_in_a_sweep(scene: Scene) -> None:
    reconciler = scene.reconciler()
    await reconciler.step(NOON + timedelta(hours=1))
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await reconciler.step(NOON + timedelta(hours=1, seconds=299))
    await reconciler.step(NOON + timedelta(hours=1, seconds=310))
    await reconciler.step(NOON + timedelta(hours=1, seconds=316))
    assert await scene.filled() == 2


async def test_a_cancelled_order_keeps_what_it_filled(scene: Scene) -> None:
    await scene.platform.put("exchange-1", BUY_ID, "cancelled", "1.5", fees="-0.25")
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    row = await scene.service.fetchrow("SELECT quantity, fees FROM model_service.fills")
    assert row is not None
    assert tuple(row) == (Decimal("1.5"), Decimal("-0.25"))
    assert await scene.state() == "cancelled"


async def test_a_dry_run_tells_the_state_and_no_fill(scene: Scene) -> None:
    await scene.platform.put("DRY-RUN-1", BUY_ID, "dry_run", is_dry_run=True)
    await scene.platform.put("DRY-RUN-2", SELL_ID, "filled", "2", is_dry_run=True, side="SELL")
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    assert await scene.filled() == 0
    assert [await scene.state(), await scene.state(SELL_ID)] == ["dry_run", "dry_run"]


async def test_a_rejection_and_the_second_order_of_its_signal(scene: Scene) -> None:
    """order-manager processes a rejected signal again when it comes again, and makes a second order of it."""
    reconciler = scene.reconciler(AT_ONCE)
    await scene.platform.put(f"REJECTED-{BUY_ID}", BUY_ID, "rejected")
    await reconciler.step(NOON + SECOND)
    assert await scene.state() == "rejected"
    await scene.platform.put("exchange-1", BUY_ID, "filled", "1")
    await scene.platform.put("exchange-2", BUY_ID, "partially_filled", "2")
    await reconciler.step(NOON + 2 * SECOND)
    assert (await scene.filled(), await scene.state()) == (Decimal(3), "partially_filled")
    await scene.platform.put("exchange-2", BUY_ID, "cancelled", "2")
    await reconciler.step(NOON + 3 * SECOND)
    assert (await scene.filled(), await scene.state()) == (Decimal(3), "filled")


async def test_orders_of_other_services_are_not_ours(scene: Scene) -> None:
    await scene.platform.put("exchange-1", UUID(int=77), "filled", "2")
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    assert await scene.service.fetchval("SELECT count(*) FROM model_service.execution_events") == 0


async def test_a_sell_in_capitals_closes_what_the_buy_opened(scene: Scene) -> None:
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await scene.platform.put("exchange-2", SELL_ID, "filled", "2", side="SELL", price="110")
    await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    assert await scene.service.fetchval("SELECT sum(realized_pnl) FROM model_service.lot_closures") == Decimal(19)


async def test_times_are_utc_whatever_the_sessions_zone(database: Database) -> None:
    async with scene_in(database, timezone="Europe/Moscow") as scene:
        await scene.signals((BUY_ID, Side.BUY), (SELL_ID, Side.SELL))
        executed = NOON + 3 * SECOND
        await scene.platform.put("exchange-1", BUY_ID, "filled", "2", executed_at=executed.replace(tzinfo=None))
        await scene.platform.put("exchange-2", SELL_ID, "partially_filled", "1", side="SELL")
        await scene.reconciler(AT_ONCE).step(NOON + 4 * SECOND)
        assert await scene.service.fetchval("SHOW timezone") == "Europe/Moscow"
        rows = await scene.service.fetch("SELECT executed_at FROM model_service.fills ORDER BY fill_id")
        assert [row["executed_at"].astimezone(UTC) for row in rows] == [executed, NOON + 4 * SECOND]


@pytest.mark.parametrize("hours_off", [-5, 3])
async def test_a_local_created_at_moves_no_fill_out_of_the_orders_life(scene: Scene, hours_off: int) -> None:
    """`DEFAULT now()` writes the local time of order-manager's session."""
    local = (NOON + timedelta(hours=hours_off)).replace(tzinfo=None)
    await scene.platform.put("exchange-1", BUY_ID, "partially_filled", "2", created_at=local)
    await scene.reconciler(AT_ONCE).step(NOON + 4 * SECOND)
    executed_at: datetime = await scene.service.fetchval("SELECT executed_at FROM model_service.fills")
    assert NOON <= executed_at <= NOON + 4 * SECOND


async def test_the_table_is_only_read(scene: Scene) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await scene.service.execute("UPDATE public.orders SET trace_id = 'x'")
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    before = await scene.platform.database.fetch("SELECT xmin, xmax, ctid, * FROM public.orders")
    with capture_logs() as logs:
        await scene.reconciler(AT_ONCE).step(NOON + SECOND)
    assert [entry["event"] for entry in logs] == ["orders_reconciled"]
    assert await scene.platform.database.fetch("SELECT xmin, xmax, ctid, * FROM public.orders") == before


async def test_the_rows_are_found_by_their_index(scene: Scene) -> None:
    from model_service.database.shared_tables import ORDERS_OF_SIGNALS

    await scene.platform.database.execute(
        "INSERT INTO public.orders (order_id, signal_id, asset, side, order_type, quantity, status)"
        " SELECT 'o' || n, gen_random_uuid(), 'BTCUSDT', 'Buy', 'Market', 1, 'filled' FROM generate_series(1, 5000) n"
    )
    await scene.platform.database.execute("ANALYZE public.orders")
    plan = await scene.service.fetch(f"EXPLAIN {ORDERS_OF_SIGNALS.statement.replace('{schema}', 'public')}", [BUY_ID])
    text = "\n".join(row[0] for row in plan)
    assert "idx_orders_signal_id" in text
    assert "updated_at" not in ORDERS_OF_SIGNALS.statement


async def test_a_row_that_cannot_be_understood_is_said_once_and_stops_no_other(scene: Scene) -> None:
    owner = scene.platform.database
    await owner.execute("ALTER TABLE public.orders DROP CONSTRAINT orders_status_check")
    await scene.platform.put("exchange-1", BUY_ID, "Deactivated", "1")
    await scene.platform.put("exchange-2", SELL_ID, "filled", "2", side="SELL")
    reconciler = scene.reconciler(AT_ONCE)
    with capture_logs() as logs:
        for second in (1, 2, 400):
            await reconciler.step(NOON + second * SECOND)
    assert [entry["event"] for entry in logs] == ["order_row_refused", "orders_reconciled"]
    assert "Deactivated" in logs[0]["reason"]
    assert await scene.filled() == 2


async def test_a_signal_without_an_order_is_lost_once(scene: Scene) -> None:
    await scene.platform.put("exchange-1", SELL_ID, "pending", side="SELL")
    reconciler = scene.reconciler()
    with capture_logs() as logs:
        await reconciler.step(NOON + 29 * SECOND)
        assert await scene.state() is None
        await reconciler.step(NOON + 31 * SECOND)
        await reconciler.step(NOON + 35 * SECOND)
        await scene.reconciler().step(NOON + 40 * SECOND)
    lost = [entry for entry in logs if entry["event"] == "signal_lost"]
    assert lost == [
        {
            "event": "signal_lost",
            "log_level": "error",
            "signal_id": str(BUY_ID),
            "strategy": "momentum_v1",
            "asset": "BTCUSDT",
            "age_seconds": 31.0,
        }
    ]
    assert [await scene.state(), await scene.state(SELL_ID)] == ["lost", "pending"]


async def test_a_lost_signal_holds_no_opening_back_and_is_found_again(scene: Scene) -> None:
    decisions = PostgresDecisionStore(scene.service)
    now = NOON + 31 * SECOND
    assert len(await decisions.open_orders(now)) == 2
    reconciler = scene.reconciler(AT_ONCE)
    await reconciler.step(now)
    assert await decisions.open_orders(now) == []
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await reconciler.step(now + SECOND)
    assert (await scene.state(), await scene.filled()) == ("filled", Decimal(2))


@pytest.mark.parametrize("status", ["pending", "sending", "expired", "unroutable"])
async def test_only_a_published_signal_can_be_lost(scene: Scene, status: str) -> None:
    await scene.service.execute("UPDATE model_service.trading_signals SET status = $1", status)
    await scene.reconciler().step(NOON + 60 * SECOND)
    assert await scene.state() is None


async def test_a_signal_with_an_execution_and_no_row_is_not_lost(scene: Scene) -> None:
    await scene.record(increment("e1", str(BUY_ID), Side.BUY, "1", "100"))
    await scene.reconciler().step(NOON + 60 * SECOND)
    assert await scene.state() == "filled"


async def test_a_stored_event_that_has_not_entered_the_book_yet_is_a_sign_of_life(scene: Scene) -> None:
    await scene.record(increment("e1", str(BUY_ID), Side.BUY, "1", "100"))
    await scene.service.execute("UPDATE model_service.trading_signals SET order_state = NULL")
    await scene.reconciler().step(NOON + 60 * SECOND)
    assert [await scene.state(), await scene.state(SELL_ID)] == [None, "lost"]


async def test_an_order_of_a_signal_that_counts_as_expired_is_seen(scene: Scene) -> None:
    """A message whose confirmation was lost may have arrived."""
    await scene.service.execute("UPDATE model_service.trading_signals SET status = 'expired'")
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await scene.reconciler(AT_ONCE).step(NOON + 60 * SECOND)
    assert await scene.filled() == 2


async def test_a_database_that_is_away_is_the_loops_matter(scene: Scene) -> None:
    reconciler = scene.reconciler(AT_ONCE)
    await scene.platform.put("exchange-1", BUY_ID, "filled", "2")
    await scene.service.close()
    with pytest.raises(DatabaseUnavailable):
        await reconciler.step(NOON + SECOND)
    await scene.service.open()
    await reconciler.step(NOON + 2 * SECOND)
    assert await scene.filled() == 2
