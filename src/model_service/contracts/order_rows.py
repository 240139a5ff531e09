"""A row of order-manager's table `orders` as one observation: the totals of one order, as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from model_service.contracts.decoding import decimal_value, refuse, required, side_value, text_value
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus

ORDER_COLUMNS = (
    "id", "order_id", "signal_id", "asset", "side", "status", "filled_quantity", "average_price", "fees", "created_at",
    "executed_at", "is_dry_run",
)  # fmt: skip
"""What is read of the table. `updated_at` is not: it has no index, and is local time wherever a default wrote it."""

LONGEST_LIFE = timedelta(minutes=5)
"""order-manager cancels an order at this age."""

MAX_IDENTIFIER_LENGTH = 200
MAX_ASSET_LENGTH = 50


def order_row_event_id(row: Mapping[str, Any]) -> str:
    """The same for the same state of the same order, whenever it is read."""
    return f"orders:{row['id']}:{row['status']}:{row['filled_quantity']}"


def decode_order_row(row: Mapping[str, Any], *, decided_at: datetime, first_seen_at: datetime) -> Observation:
    """The observation in `row`, a mapping with ORDER_COLUMNS as the database's driver gives them.

    Its times are UTC without a zone. A dry run's row tells the state of the order and no fill. Only a filled order has
    a time of execution, which is moved between the decision and the first sighting where it is not. Any other quantity
    was filled before it was seen and within the order's life; of these bounds the earlier one is taken.

    Args:
        decided_at: when the signal of the order was decided: nothing can have been filled before.
        first_seen_at: when the order was first seen in this state.

    Raises:
        InvalidMessage: a value is none that order-manager is known to write.
    """
    is_dry_run = bool(row["is_dry_run"]) or row["status"] == OrderStatus.DRY_RUN
    quantity, price, fees = (Decimal(0), None, Decimal(0)) if is_dry_run else _totals(row)
    return Observation(
        event_id=order_row_event_id(row),
        kind=ObservationKind.CHECKPOINT,
        order_id=text_value(str(row["order_id"] or row["id"]), "order_id", MAX_IDENTIFIER_LENGTH),
        signal_id=str(row["signal_id"]),
        asset=text_value(row["asset"], "asset", MAX_ASSET_LENGTH).upper(),
        side=side_value(row["side"], "side"),
        status=OrderStatus.DRY_RUN if is_dry_run else _status(row),
        quantity=quantity,
        price=price,
        fees=fees,
        executed_at=_executed_at(row, decided_at, first_seen_at),
        is_dry_run=is_dry_run,
        other_order_id=str(row["id"]),
    )


def _status(row: Mapping[str, Any]) -> OrderStatus:
    found = row["status"]
    if found not in list(OrderStatus):
        refuse("status", found, ", ".join(OrderStatus))
    return OrderStatus(found)


def _totals(row: Mapping[str, Any]) -> tuple[Decimal, Decimal | None, Decimal]:
    """Filled quantity, average price and fees so far."""
    quantity = _number(row, "filled_quantity")
    if quantity < 0:
        refuse("filled_quantity", quantity, "a number of at least 0")
    return quantity, _average_price(row) if quantity else None, _number(row, "fees")


def _average_price(row: Mapping[str, Any]) -> Decimal:
    price = decimal_value(required(row, "average_price", "average_price"), "average_price")
    if price <= 0:
        refuse("average_price", price, "a number above 0 where something is filled")
    return price


def _number(row: Mapping[str, Any], column: str) -> Decimal:
    """NULL and any zero, whatever its exponent, are 0."""
    found = row[column]
    return decimal_value(found, column) or Decimal(0) if found is not None else Decimal(0)


def _executed_at(row: Mapping[str, Any], decided_at: datetime, first_seen_at: datetime) -> datetime:
    executed_at = _utc(row["executed_at"])
    if executed_at is not None:
        return max(decided_at, min(first_seen_at, executed_at))
    created_at = _utc(row["created_at"])
    latest = first_seen_at if created_at is None else min(first_seen_at, created_at + LONGEST_LIFE)
    return max(decided_at, latest)


def _utc(moment: datetime | None) -> datetime | None:
    """A column that was given a zone meanwhile is read right, too."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
