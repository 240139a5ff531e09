"""The truth of an ingest test: orders made from signals, what order-manager says of them, and what must come of it."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from model_service.contracts.types import Side
from model_service.database.connection import Database
from tests.faults.signals import decided_signal, record_published

STRATEGIES = ("momentum_v1", "reversion_v1")
ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
SIGNAL_AGE = timedelta(hours=1)
NESTED_SHARE = 0.4
INTERLEAVED_ORDERS = 20.0
"""About so many orders are under way at once, so that reports of one order lie between those of others."""

Position = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """An order made from one published signal."""

    signal_id: UUID
    order_id: str
    strategy_id: str
    asset: str
    side: Side


@dataclass(frozen=True, slots=True)
class Event:
    """One report about an order: of one fill alone (`is_increment`), or of all of the order so far."""

    event_id: str
    order: Order
    is_increment: bool
    quantity: Decimal
    fees: Decimal
    body: bytes


@dataclass(frozen=True, slots=True)
class Poison:
    """A body that means nothing: it must end as a dead letter, and nothing else."""

    event_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Truth:
    """What the book must say, exactly: base units and fees by order, signed base units by strategy and asset."""

    orders: Mapping[str, tuple[Decimal, Decimal]]
    positions: Mapping[Position, Decimal]


@dataclass
class Ledger:
    """Orders and their reports, the same from the same seed; `events` in the order in which they are sent."""

    orders: Sequence[Order]
    events: Sequence[Event] = field(repr=False)

    async def seed(self, database: Database, age: timedelta = SIGNAL_AGE) -> None:
        """Record the signals of all orders as published so long ago. Raises DatabaseUnavailable."""
        decided_at = datetime.now(UTC) - age
        await record_published(
            database,
            [decided_signal(o.signal_id, o.strategy_id, o.asset, o.side, decided_at, 30.0) for o in self.orders],
        )


def make_ledger(seed: int, orders: int, at: datetime) -> Ledger:
    """So many orders, filled at `at`, with one to three reports each, some flat and some nested, interleaved."""
    rng = random.Random(seed)
    made: list[Order] = []
    timed: list[tuple[float, Event]] = []
    for number in range(orders):
        order = _order(rng)
        made.append(order)
        reports = _nested(order, rng, at) if rng.random() < NESTED_SHARE else _flat(order, rng, at)
        moment = float(number)
        for event in reports:
            moment += rng.uniform(0.0, INTERLEAVED_ORDERS)
            timed.append((moment, event))
    timed.sort(key=lambda pair: pair[0])
    return Ledger(made, [event for _, event in timed])


def truth_of(events: Iterable[Event]) -> Truth:
    """What must come of these reports: increments add up, checkpoints replace each other."""
    orders: dict[str, tuple[Decimal, Decimal]] = {}
    positions: dict[Position, Decimal] = defaultdict(Decimal)
    for event in {event.event_id: event for event in events}.values():
        order = event.order
        quantity, fees = orders.get(order.order_id, (Decimal(0), Decimal(0)))
        if event.is_increment:
            after = (quantity + event.quantity, fees + event.fees)
        else:
            after = (event.quantity, event.fees) if event.quantity > quantity else (quantity, fees)
        orders[order.order_id] = after
        positions[order.strategy_id, order.asset] += order.side.sign * (after[0] - quantity)
    return Truth(orders, positions)


def _order(rng: random.Random) -> Order:
    signal_id = UUID(int=rng.getrandbits(128), version=4)
    return Order(
        signal_id, f"exchange-{signal_id.hex}", rng.choice(STRATEGIES), rng.choice(ASSETS), rng.choice(list(Side))
    )


def _flat(order: Order, rng: random.Random, at: datetime) -> list[Event]:
    """The documented event (CONTRACTS 1.2b): each tells one fill alone."""
    events = []
    for part in range(rng.randint(1, 3)):
        quantity, fees, price = _quantity(rng), _fees(rng), _price(rng)
        event_id = f"{order.signal_id}-flat-{part}"
        body = {
            "event_id": event_id,
            "order_id": order.order_id,
            "signal_id": str(order.signal_id),
            "strategy_id": order.strategy_id,
            "asset": order.asset,
            "side": order.side.value,
            "execution_price": float(price),
            "execution_quantity": float(quantity),
            "execution_fees": float(fees),
            "executed_at": at.isoformat().replace("+00:00", "Z"),
            "signal_price": 100.0,
            "signal_timestamp": at.isoformat().replace("+00:00", "Z"),
            "market_conditions": {"spread": 0.01},
            "trace_id": "trace",
        }
        events.append(Event(event_id, order, True, quantity, fees, json.dumps(body).encode()))
    return events


def _nested(order: Order, rng: random.Random, at: datetime) -> list[Event]:
    """What order-manager sends (CONTRACTS 1.2): each tells all of the order so far."""
    steps = [("pending", 0), *([("partially_filled", 1)] if rng.random() < 0.5 else []), ("filled", 2)]
    partial, partial_fees = _quantity(rng), _fees(rng)
    rest, rest_fees = _quantity(rng), _fees(rng)
    totals = [(Decimal(0), Decimal(0)), (partial, partial_fees), (partial + rest, partial_fees + rest_fees)]
    price = _price(rng)
    return [_checkpoint(order, state, *totals[step], price, at) for state, step in steps]


def _checkpoint(order: Order, state: str, quantity: Decimal, fees: Decimal, price: Decimal, at: datetime) -> Event:
    event_id = f"{order.signal_id}-{state}"
    moment = at.replace(tzinfo=None).isoformat()
    body: dict[str, Any] = {
        "event_id": event_id,
        "event_type": state,
        "timestamp": moment,
        "trace_id": "gateway-trace",
        "order": {
            "id": str(UUID(int=order.signal_id.int ^ 1)),
            "order_id": order.order_id,
            "signal_id": str(order.signal_id),
            "asset": order.asset,
            "side": "Buy" if order.side is Side.BUY else "SELL",
            "order_type": "Market",
            "quantity": "100.00000000",
            "price": None,
            "status": state,
            "filled_quantity": str(quantity) if quantity else "0E-8",
            "average_price": str(price) if quantity else None,
            "fees": str(fees) if quantity else None,
            "created_at": moment,
            "updated_at": moment,
            "executed_at": moment if state == "filled" else None,
            "is_dry_run": False,
        },
        "execution_details": {"execution_latency_seconds": 0.5, "fill_percentage": 0.0, "remaining_quantity": "0E-8"},
    }
    return Event(event_id, order, False, quantity, fees, json.dumps(body).encode())


def _quantity(rng: random.Random) -> Decimal:
    return Decimal(rng.randint(1, 5000)).scaleb(-3)


def _fees(rng: random.Random) -> Decimal:
    """A maker's rebate now and then."""
    return Decimal(rng.randint(-500, 5000)).scaleb(-4)


def _price(rng: random.Random) -> Decimal:
    return Decimal(rng.randint(9_000, 11_000)).scaleb(-2)
