"""The checks themselves: a book that is right is clean, and each way to be wrong is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from model_service.contracts.execution_decoder import decode_execution
from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.executions import ExecutionStore
from tests.faults.book import Verdict, check_book
from tests.faults.ledger import Ledger, make_ledger, truth_of
from tests.faults.order_manager import OrderManager, check_signals
from tests.faults.signals import decided_signal, record_published

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
WRONG = (
    "a_fill_is_missing",
    "all_is_missing",
    "a_fill_is_too_large",
    "a_fill_counts_twice",
    "fees_differ",
    "lots_differ",
    "nobody_sent_it",
    "good_in_dead_letters",
)
PUBLISHED = frozenset({"published"})


@pytest_asyncio.fixture
async def ledger(database: Database) -> Ledger:
    """Sixty orders, all of whose reports are in the book."""
    made = make_ledger(3, 60, NOW)
    await made.seed(database)
    batch = [(decode_execution(event.body, NOW), event.body) for event in made.events]
    await ExecutionStore(database).record(batch, "queue", NOW)
    return made


async def test_a_right_book_is_clean(database: Database, ledger: Ledger) -> None:
    verdict = await check_book(database.address, ledger.events)
    assert verdict.is_clean, str(verdict)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM model_service.fills WHERE fill_id = (SELECT min(fill_id) FROM model_service.fills)", "lost"),
        ("DELETE FROM model_service.fills; DELETE FROM model_service.execution_events", "lost"),
        ("UPDATE model_service.fills SET quantity = quantity + 0.001 WHERE fill_id = 1", "duplicated"),
        (
            "INSERT INTO model_service.fills (event_id, order_id, signal_id, strategy_id, asset, side, quantity, price,"
            " fees, executed_at) SELECT event_id, order_id, signal_id, strategy_id, asset, side, quantity, price, fees,"
            " executed_at FROM model_service.fills WHERE fill_id = 1",
            "duplicated",
        ),
        ("UPDATE model_service.fills SET fees = fees + 1 WHERE fill_id = 1", "unexpected"),
        ("UPDATE model_service.lots SET remaining_quantity = 0", "unexpected"),
        (
            "UPDATE model_service.execution_events SET event_id = 'x' || event_id WHERE event_id LIKE '%-pending'",
            "unexpected",
        ),
        (
            "INSERT INTO model_service.dead_letters (fingerprint, source, body, reason_code, reason, first_seen_at,"
            " last_seen_at) VALUES ('x', 'queue', 'good', 'invalid_json', '', now(), now())",
            "unexpected",
        ),
    ],
    ids=WRONG,
)
async def test_a_wrong_book_is_said(database: Database, ledger: Ledger, damage: str, found: str) -> None:
    await database.execute("ALTER TABLE model_service.fills DROP CONSTRAINT fills_event_id_fkey")
    await database.execute("ALTER TABLE model_service.lot_closures DROP CONSTRAINT lot_closures_fill_id_fkey")
    for statement in damage.split(";"):
        await database.execute(statement)
    assert getattr(await check_book(database.address, ledger.events), found)


async def test_a_poison_that_is_not_kept_is_lost(database: Database, ledger: Ledger) -> None:
    assert (await check_book(database.address, ledger.events, poison=[b"bad"])).lost


def test_repeated_reports_change_no_truth() -> None:
    events = make_ledger(4, 50, NOW).events
    assert truth_of([*events, *events]) == truth_of(events)


@pytest_asyncio.fixture
async def signal_id(database: Database) -> UUID:
    """A signal that is marked as published."""
    made = uuid4()
    await record_published(database, [decided_signal(made, "momentum_v1", "BTCUSDT", Side.BUY, NOW, 30.0)])
    return made


@pytest.mark.parametrize(
    ("deliveries", "late", "status", "found"),
    [
        (1, False, "published", ""),
        (0, False, "published", "lost"),
        (2, False, "published", "duplicated"),
        (1, True, "published", "unexpected"),
        (1, False, "expired", "unexpected"),
        (0, False, "expired", "unexpected"),
        (1, False, "pending", "unexpected"),
    ],
)
async def test_signals_are_judged_by_what_arrives(
    database: Database, signal_id: UUID, deliveries: int, late: bool, status: str, found: str
) -> None:
    await database.execute("UPDATE model_service.trading_signals SET status = $1", status)
    manager = OrderManager("amqp://nowhere/")
    expires_at = NOW + timedelta(seconds=30)
    for _ in range(deliveries):
        manager.take(str(signal_id), expires_at, NOW + timedelta(minutes=1 if late else 0), is_redelivery=False)
    verdict = await check_signals(database.address, manager, final=PUBLISHED)
    assert _said(verdict) == found


def _said(verdict: Verdict) -> str:
    return " ".join(name for name in ("lost", "duplicated", "unexpected") if getattr(verdict, name))
