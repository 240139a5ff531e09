"""Order events in order-manager's nested shape: cumulative, decimal strings, naive UTC times, sides in mixed case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from model_service.demo.gateway import naive_iso

EIGHT_PLACES = Decimal("1e-8")
ECHOED = ("signal_id", "signal_type", "asset", "amount", "confidence", "strategy_id", "model_version", "is_warmup")


@dataclass(frozen=True, slots=True)
class OrderState:
    """An order at one moment; `filled`, `average_price` and `fees` are totals so far."""

    row_id: str
    order_id: str
    signal_id: str
    asset: str
    buys: bool
    quantity: Decimal
    filled: Decimal
    average_price: Decimal | None
    fees: Decimal | None
    created_at: datetime


def order_event(event_type: str, order: OrderState, at: datetime) -> dict[str, Any]:
    """An event's body without identifiers; `event_type` is pending, partially_filled, filled, cancelled or rejected."""
    executed = event_type == "filled"
    average = float(order.average_price) if order.average_price is not None else None
    return {
        "event_type": event_type,
        "timestamp": naive_iso(at),
        "order": _order(event_type, order, at, executed),
        "execution_details": {
            "execution_latency_seconds": (at - order.created_at).total_seconds() if executed else None,
            "fill_percentage": float(order.filled / order.quantity * 100) if order.quantity else 0.0,
            "remaining_quantity": _decimal(order.quantity - order.filled),
        },
        "market_conditions": {"price": average, "timestamp": naive_iso(at)},
    }


def rejection_event(order: OrderState, reason: str, signal: Mapping[str, Any]) -> dict[str, Any]:
    """A rejection by order-manager's own checks: with the reason and what the signal said, and no exchange order."""
    body = order_event("rejected", order, order.created_at)
    body["order"]["order_id"] = f"REJECTED-{order.signal_id}"
    body["rejection_reason"] = reason
    body["market_conditions"] = _conditions(signal["market_data_snapshot"], order.created_at)
    body["signal"] = {name: signal.get(name) for name in ECHOED}
    return body


def _order(event_type: str, order: OrderState, at: datetime, executed: bool) -> dict[str, Any]:
    return {
        "id": order.row_id,
        "order_id": order.order_id,
        "signal_id": order.signal_id,
        "asset": order.asset,
        "side": "Buy" if order.buys else "SELL",
        "order_type": "Market",
        "quantity": _decimal(order.quantity),
        "price": None,
        "status": event_type,
        "filled_quantity": _decimal(order.filled),
        "average_price": None if order.average_price is None else _decimal(order.average_price),
        "fees": None if order.fees is None else _decimal(order.fees),
        "created_at": naive_iso(order.created_at),
        "updated_at": naive_iso(at),
        "executed_at": naive_iso(at) if executed else None,
        "is_dry_run": False,
    }


def _conditions(snapshot: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    numbers = {name: snapshot.get(name) for name in ("price", "spread", "volume_24h", "volatility")}
    return {**numbers, "timestamp": naive_iso(at) + "+00:00"}


def _decimal(value: Decimal) -> str:
    """Eight places, and zero as `0E-8`, as the platform's numeric columns come out."""
    return str(value.quantize(EIGHT_PLACES))
