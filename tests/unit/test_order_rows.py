"""Rows of the table `orders` as the driver gives them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from model_service.assembly import shared_tables
from model_service.config.loading import load_settings
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.order_rows import ORDER_COLUMNS, decode_order_row, order_row_event_id
from model_service.contracts.types import InvalidMessage, OrderStatus, Side
from model_service.database.connection import Database, DatabaseAddress

DECIDED = datetime(2026, 11, 23, 15, 52, 30, tzinfo=UTC)
SEEN = DECIDED + timedelta(seconds=20)
ROW: dict[str, Any] = {
    "id": UUID(int=1),
    "order_id": "exchange-1",
    "signal_id": UUID(int=2),
    "asset": "btcusdt",
    "side": "SELL",
    "status": "filled",
    "filled_quantity": Decimal("0.00200000"),
    "average_price": Decimal("50002.25000000"),
    "fees": Decimal("-0.05500000"),
    "created_at": datetime.fromisoformat("2026-11-23T15:52:37.932988"),
    "executed_at": datetime.fromisoformat("2026-11-23T15:52:43.154594"),
    "is_dry_run": False,
}


def decode(**changes: object) -> Observation:
    return decode_order_row({**ROW, **changes}, decided_at=DECIDED, first_seen_at=SEEN)


def test_a_row_is_a_total() -> None:
    assert tuple(ROW) == ORDER_COLUMNS
    assert decode() == Observation(
        event_id="orders:00000000-0000-0000-0000-000000000001:filled:0.00200000",
        kind=ObservationKind.CHECKPOINT,
        order_id="exchange-1",
        signal_id="00000000-0000-0000-0000-000000000002",
        asset="BTCUSDT",
        side=Side.SELL,
        status=OrderStatus.FILLED,
        quantity=Decimal("0.002"),
        price=Decimal("50002.25"),
        fees=Decimal("-0.055"),
        executed_at=datetime(2026, 11, 23, 15, 52, 43, 154594, tzinfo=UTC),
        other_order_id="00000000-0000-0000-0000-000000000001",
    )


def test_nothing_filled_yet() -> None:
    seen = decode(
        status="pending", filled_quantity=Decimal("0E-8"), average_price=Decimal(0), fees=None, executed_at=None
    )
    assert (seen.quantity, seen.price, seen.fees) == (Decimal(0), None, Decimal(0))


def test_every_state_has_an_event_of_its_own() -> None:
    rows = [ROW, {**ROW, "status": "cancelled"}, {**ROW, "filled_quantity": Decimal("0.001")}, {**ROW, "id": 7}]
    assert len({order_row_event_id(row) for row in rows}) == 4


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        (DECIDED + timedelta(seconds=5), SEEN),
        (DECIDED - timedelta(minutes=4, seconds=50), DECIDED + timedelta(seconds=10)),
        (DECIDED - timedelta(hours=3), DECIDED),
        (DECIDED + timedelta(hours=3), SEEN),
        (None, SEEN),
    ],
)
def test_a_fill_without_a_time_lies_in_the_orders_life_and_before_it_was_seen(
    created_at: datetime | None, expected: datetime
) -> None:
    naive = None if created_at is None else created_at.replace(tzinfo=None)
    assert decode(status="partially_filled", executed_at=None, created_at=naive).executed_at == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (datetime(2199, 1, 1), SEEN),  # noqa: DTZ001 - as the column has it
        (datetime(1969, 1, 1), DECIDED),  # noqa: DTZ001
    ],
)
def test_a_time_that_cannot_be_is_moved_to_the_nearest_that_can(written: datetime, expected: datetime) -> None:
    assert decode(executed_at=written).executed_at == expected


def test_times_are_utc_whatever_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Moscow")
    time.tzset()
    try:
        assert decode().executed_at == datetime(2026, 11, 23, 15, 52, 43, 154594, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_column_that_was_given_a_zone_is_read_right() -> None:
    moscow = timezone(timedelta(hours=3))
    assert decode(executed_at=SEEN.astimezone(moscow)).executed_at == SEEN


@pytest.mark.parametrize("changes", [{"status": "dry_run"}, {"is_dry_run": True}])
def test_a_dry_run_is_a_state_and_no_fill(changes: dict[str, object]) -> None:
    seen = decode(**changes)
    assert (seen.status, seen.quantity, seen.price, seen.is_dry_run) == (OrderStatus.DRY_RUN, Decimal(0), None, True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"status": "Deactivated"}, "status"),
        ({"status": None}, "status"),
        ({"side": "hold"}, "side"),
        ({"filled_quantity": Decimal("NaN")}, "filled_quantity"),
        ({"filled_quantity": Decimal(-1)}, "filled_quantity"),
        ({"average_price": None}, "average_price"),
        ({"average_price": Decimal(0)}, "average_price"),
        ({"fees": Decimal("Infinity")}, "fees"),
        ({"asset": None}, "asset"),
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("environ", "are_read"),
    [
        ({}, False),
        ({"POSTGRES_HOST": "db"}, True),
        ({"POSTGRES_HOST": "db", "TRADING_ORDER_LOOKUP_ENABLED": "false"}, False),
    ],
)
def test_an_embedded_database_has_no_siblings_tables(environ: dict[str, str], are_read: bool) -> None:
    settings, _ = load_settings(environ)
    database = Database(DatabaseAddress("db", 5432, "trading", "trading"))
    assert (shared_tables(settings, database) is not None) is are_read
