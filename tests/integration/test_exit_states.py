"""What the exit policy remembers, in the database: under the number of the position, and never over a newer one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.migrations import apply_migrations, load_migrations, revert_migrations
from model_service.policies.exit_state import ExitCause, ExitGoal, ExitState
from tests.integration.test_stores import BUY_ID, SELL_ID, decided, increment, record, with_signals
from tests.support.builders import NOON

BOOK = ("momentum_v1", "BTCUSDT")
BLANK = ExitState(7)
FULL = ExitState(
    position_id=7,
    best_price=Decimal("50123.4"),
    stop_price=Decimal("49622.166000000000000000001"),
    parted_lot_ids=(7, 9),
    goal=ExitGoal(ExitCause.TAKE_PROFIT, Decimal("0.005"), 9, Decimal("0.0012"), (7, 9)),
    attempted_at=NOON,
    attempted_cause=ExitCause.TRAILING_STOP,
)


async def positions(database: Database) -> list[tuple[int, int]]:
    """Lot and position of all lots, open or not, counted from the first."""
    rows = await database.fetch("SELECT lot_id, position_id FROM model_service.lots ORDER BY lot_id")
    known = sorted({row["lot_id"] for row in rows})
    return [(known.index(row["lot_id"]), known.index(row["position_id"])) for row in rows]


@pytest.mark.parametrize("together", [True, False])
async def test_a_position_lasts_until_it_is_flat_or_flips(database: Database, together: bool) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY), decided(SELL_ID, Side.SELL))
    trades = [(Side.BUY, "2"), (Side.BUY, "1"), (Side.SELL, "2"), (Side.BUY, "1"), (Side.SELL, "2"), (Side.BUY, "1"),
              (Side.SELL, "3"), (Side.SELL, "1")]  # fmt: skip
    fills = [
        increment(f"e{number}", str(BUY_ID if side is Side.BUY else SELL_ID), side, quantity, "100")
        for number, (side, quantity) in enumerate(trades)
    ]
    for batch in [fills] if together else [[fill] for fill in fills]:
        await record(database, *batch)
    # Lots 0 to 2 overlap; then flat; lot 3 is long and is flipped by lot 4, to which lot 5 is added.
    assert await positions(database) == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 4), (5, 4)]
    lots = (await PostgresDecisionStore(database).open_lots())[BOOK]
    assert len({lot.position_id for lot in lots}) == 1


@pytest.mark.parametrize("state", [BLANK, FULL])
async def test_what_is_remembered_comes_back_as_it_was(database: Database, state: ExitState) -> None:
    store = PostgresDecisionStore(database)
    await store.record([], [], [], {BOOK: FULL, ("other", "ETHUSDT"): BLANK})
    await store.record([], [], [], {BOOK: state})
    assert await store.exit_states() == {BOOK: state, ("other", "ETHUSDT"): BLANK}


async def test_a_late_writer_changes_nothing_of_a_newer_position(database: Database) -> None:
    store = PostgresDecisionStore(database)
    newer = replace(BLANK, position_id=8)
    await store.record([], [], [], {BOOK: newer})
    await store.record([], [], [], {BOOK: FULL})
    assert await store.exit_states() == {BOOK: newer}


async def test_an_exit_order_says_what_it_may_still_close(database: Database) -> None:
    exiting = replace(decided(SELL_ID, Side.SELL), intent="exit")
    store = await with_signals(database, decided(BUY_ID, Side.BUY), exiting)
    (other, own) = sorted(await store.open_orders(NOON), key=lambda order: order.side.value)
    assert (own.quantity, other.quantity) == (Decimal(5), None)
    assert (own.amount, other.amount) == (Decimal(500), Decimal(500))
    partial = increment("e1", str(SELL_ID), Side.SELL, "2", "100")
    await record(database, partial)
    await database.execute("UPDATE model_service.trading_signals SET order_state = 'partially_filled'")
    assert [order.quantity for order in await store.open_orders(NOON) if order.intent == "exit"] == [3]
    assert [order.amount for order in await store.open_orders(NOON) if order.intent == "exit"] == [300]


async def test_open_lots_from_before_get_the_number_of_the_oldest(empty_database: Database) -> None:
    await apply_migrations(empty_database)
    labels = [migration.label for migration in load_migrations()]
    await revert_migrations(empty_database, len(labels) - labels.index("0008_exits"))
    for asset, remaining in (("BTCUSDT", 0), ("BTCUSDT", 1), ("ETHUSDT", 1), ("BTCUSDT", 1)):
        await empty_database.execute(
            "INSERT INTO model_service.lots (strategy_id, asset, side, signal_id, opened_at, entry_price, quantity,"
            " remaining_quantity, entry_fees) VALUES ('a', $1, 'buy', $2, $3, 1, 1, $4, 0)",
            asset, UUID(int=1), NOON, Decimal(remaining),
        )  # fmt: skip
    await apply_migrations(empty_database)
    rows = await empty_database.fetch("SELECT lot_id, position_id FROM model_service.lots ORDER BY lot_id")
    assert [tuple(row) for row in rows] == [(1, None), (2, 2), (3, 3), (4, 2)]
