"""Execution reports off the wire: order-manager's nested event and the documented flat one, decoded to one observation.

Neither shape carries a version or a type of message, so a body is recognised by its members: an object `order` makes it
nested, `execution_quantity` or `execution_price` make it flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from model_service.contracts.decoding import (
    decimal_value,
    load_object,
    object_value,
    refuse,
    refuse_future,
    required,
    side_value,
    text_value,
    utc_time,
)
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import InvalidMessage, OrderStatus

MAX_BODY_BYTES = 1_000_000
MAX_IDENTIFIER_LENGTH = 200
MAX_ASSET_LENGTH = 50
MAX_REASON_LENGTH = 1_000

REPORTED_STATES = (
    OrderStatus.PENDING,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.FILLED,
    OrderStatus.CANCELLED,
    OrderStatus.REJECTED,
)
FILLED_STATES = (OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED)


def decode_execution(body: bytes, now: datetime) -> Observation:
    """The observation in `body`, UTF-8 JSON in the flat or the nested shape.

    Orders are named by the exchange's identifier (`order.order_id`, `order_id`); `order.id` is order-manager's own,
    which a flat event may carry in its place. A flat event says nothing of the order's state: it counts as `filled`,
    see `trades.fills.advance`.

    Raises:
        InvalidMessage: whatever else the body is, and one that was executed more than five minutes after `now`;
            nothing else is raised.

    >>> from datetime import UTC
    >>> decode_execution(b'''{"event_id": "e1", "order_id": "o1", "signal_id": "s1", "asset": "btcusdt", "side": "BUY",
    ...     "execution_price": 50000.0, "execution_quantity": "0.1", "execution_fees": 5.0,
    ...     "executed_at": "2025-01-27T10:00:05Z"}''', datetime(2025, 1, 28, tzinfo=UTC)).asset
    'BTCUSDT'
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidMessage("too_large", "", f"The body has {len(body)} bytes; at most {MAX_BODY_BYTES} are read.")
    event = load_object(body)
    if isinstance(event.get("order"), dict):
        return _nested(event, event["order"], now)
    if "execution_quantity" in event or "execution_price" in event:
        return _flat(event, now)
    raise InvalidMessage(
        "unknown_shape", "", "Neither an object `order` nor `execution_quantity` and `execution_price` are in the body."
    )


def _flat(event: Mapping[str, Any], now: datetime) -> Observation:
    """Quantity, price and fees of one fill alone."""
    return Observation(
        event_id=_identifier(event, "event_id"),
        kind=ObservationKind.INCREMENT,
        order_id=_identifier(event, "order_id"),
        signal_id=_identifier(event, "signal_id"),
        asset=_asset(event, "asset"),
        side=side_value(required(event, "side", "side"), "side"),
        status=OrderStatus.FILLED,
        quantity=_positive(required(event, "execution_quantity", "execution_quantity"), "execution_quantity"),
        price=_positive(required(event, "execution_price", "execution_price"), "execution_price"),
        fees=_decimal(required(event, "execution_fees", "execution_fees"), "execution_fees"),
        executed_at=_past_time(required(event, "executed_at", "executed_at"), "executed_at", now),
        strategy_id=_optional_text(event, "strategy_id", "strategy_id"),
        signal_price=_optional_positive(event, "signal_price"),
        reported_return=_reported_return(event),
        is_dry_run=_flag(event, "is_dry_run", "is_dry_run"),
        trace_id=_optional_text(event, "trace_id", "trace_id"),
    )


def _nested(event: Mapping[str, Any], order: Mapping[str, Any], now: datetime) -> Observation:
    """Quantity, average price and fees of the whole order so far."""
    status = _reported_state(event)
    quantity, price, fees = _totals(order, status)
    return Observation(
        event_id=_identifier(event, "event_id"),
        kind=ObservationKind.CHECKPOINT,
        order_id=_identifier(order, "order_id", "order.order_id"),
        signal_id=_identifier(order, "signal_id", "order.signal_id"),
        asset=_asset(order, "order.asset"),
        side=side_value(required(order, "side", "order.side"), "order.side"),
        status=status,
        quantity=quantity,
        price=price,
        fees=fees,
        executed_at=_nested_time(event, order, now),
        strategy_id=_optional_text(_member(event, "signal"), "strategy_id", "signal.strategy_id"),
        reported_return=_reported_return(event),
        is_dry_run=_flag(order, "is_dry_run", "order.is_dry_run"),
        rejection_reason=_reason(event),
        trace_id=_optional_text(event, "trace_id", "trace_id"),
        other_order_id=_optional_text(order, "id", "order.id"),
    )


def _reported_state(event: Mapping[str, Any]) -> OrderStatus:
    found = required(event, "event_type", "event_type")
    status = next((state for state in REPORTED_STATES if found == state.value), None)
    if status is None:
        refuse("event_type", found, ", ".join(REPORTED_STATES))
    return status


def _totals(order: Mapping[str, Any], status: OrderStatus) -> tuple[Decimal, Decimal | None, Decimal]:
    """Filled quantity, average price and fees so far, which must agree with each other and with the state."""
    found = required(order, "filled_quantity", "order.filled_quantity")
    quantity = _decimal(found, "order.filled_quantity")
    if quantity < 0:
        refuse("order.filled_quantity", found, "a decimal number of at least 0")
    if quantity == 0 and status in FILLED_STATES:
        refuse("order.filled_quantity", found, f"a decimal number above 0 where event_type is {status.value}")
    fees = order.get("fees")
    return quantity, _average_price(order, quantity), Decimal(0) if fees is None else _decimal(fees, "order.fees")


def _average_price(order: Mapping[str, Any], quantity: Decimal) -> Decimal | None:
    if quantity == 0:
        return None
    return _positive(required(order, "average_price", "order.average_price"), "order.average_price")


def _nested_time(event: Mapping[str, Any], order: Mapping[str, Any], now: datetime) -> datetime:
    """`order.executed_at`, which is set for `filled` only; else the event's own time."""
    executed_at = order.get("executed_at")
    if executed_at is not None:
        return _past_time(executed_at, "order.executed_at", now)
    return _past_time(required(event, "timestamp", "timestamp"), "timestamp", now)


def _past_time(value: Any, path: str, now: datetime) -> datetime:
    # An entry in the future would get no label and never reach its horizon; an exit would outlast every other sample.
    moment = utc_time(value, path)
    refuse_future(moment, path, now, "the service's clock")
    return moment


def _reported_return(event: Mapping[str, Any]) -> Decimal | None:
    value = _member(event, "performance").get("return_percent")
    return None if value is None else _decimal(value, "performance.return_percent")


def _reason(event: Mapping[str, Any]) -> str | None:
    """The rejection's reason, cut short rather than refused: it is only shown."""
    reason = event.get("rejection_reason")
    if isinstance(reason, str):
        reason = reason[:MAX_REASON_LENGTH]
    return None if reason in (None, "") else text_value(reason, "rejection_reason", MAX_REASON_LENGTH)


def _member(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An optional object; empty where it is absent or null."""
    value = event.get(key)
    return {} if value is None else object_value(value, key)


def _identifier(obj: Mapping[str, Any], key: str, path: str | None = None) -> str:
    return text_value(required(obj, key, path or key), path or key, MAX_IDENTIFIER_LENGTH)


def _optional_text(obj: Mapping[str, Any], key: str, path: str) -> str | None:
    value = obj.get(key)
    return None if value in (None, "") else text_value(value, path, MAX_IDENTIFIER_LENGTH)


def _asset(obj: Mapping[str, Any], path: str) -> str:
    return text_value(required(obj, "asset", path), path, MAX_ASSET_LENGTH).upper()


def _flag(obj: Mapping[str, Any], key: str, path: str) -> bool:
    value = obj.get(key, False)
    if not isinstance(value, bool):
        refuse(path, value, "true or false")
    return value


def _optional_positive(obj: Mapping[str, Any], key: str) -> Decimal | None:
    value = obj.get(key)
    return None if value is None else _positive(value, key)


def _positive(value: Any, path: str) -> Decimal:
    number = _decimal(value, path)
    if number <= 0:
        refuse(path, value, "a decimal number above 0")
    return number


def _decimal(value: Any, path: str) -> Decimal:
    number = decimal_value(value, path)
    # A zero may carry any exponent (`0E-8`, or `0E-99999`, which no numeric column takes) and a sign.
    return number if number else Decimal(0)
