"""Bodies that mean nothing, of every kind that has been seen or can be thought of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.ledger import Poison

MEGABYTE = 1_000_000


def poisons(round_number: int) -> Iterator[Poison]:
    """One of each kind; those of another round are other bodies."""
    for kind, make in KINDS.items():
        event_id = f"poison-{kind}-{round_number}"
        yield Poison(event_id, make(event_id))


def _flat(event_id: str, **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "event_id": event_id,
        "order_id": f"order-{event_id}",
        "signal_id": "9c0d3c0e-5a51-4e0e-8a5f-0f6f3a6b7f11",
        "strategy_id": "momentum_v1",
        "asset": "BTCUSDT",
        "side": "buy",
        "execution_price": 50000.0,
        "execution_quantity": 0.1,
        "execution_fees": 5.0,
        "executed_at": "2026-01-01T00:00:00Z",
    }
    return json.dumps({name: value for name, value in {**body, **changes}.items() if value is not ...}).encode()


def _nested(event_id: str, **changes: Any) -> bytes:
    order = {
        "order_id": f"order-{event_id}", "signal_id": "9c0d3c0e-5a51-4e0e-8a5f-0f6f3a6b7f11", "asset": "BTCUSDT",
        "side": "Buy", "filled_quantity": "0.1", "average_price": "50000", "fees": "0.1", "is_dry_run": False,
    }  # fmt: skip
    body = {"event_id": event_id, "event_type": "filled", "timestamp": "2026-01-01T00:00:00"}
    return json.dumps({**body, "order": {**order, **changes}}).encode()


KINDS: dict[str, Callable[[str], bytes]] = {
    "empty-object": lambda name: json.dumps({"event_id": name}).encode(),
    "not-json": lambda name: f"{name}: this is not JSON".encode(),
    "cut-json": lambda name: _flat(name)[:-7],
    "not-utf8": lambda name: b'{"event_id": "\xff\xfe' + name.encode() + b'"}',
    "a-list": lambda name: json.dumps([name]).encode(),
    "deep": lambda name: b"[" * 100_000 + name.encode(),
    "missing-field": lambda name: _flat(name, order_id=...),
    "wrong-type": lambda name: _flat(name, execution_quantity=["0.1"]),
    "wrong-side": lambda name: _flat(name, side="hold"),
    "negative": lambda name: _flat(name, execution_price=-1),
    "nan": lambda name: _flat(name, execution_quantity=float("nan")),
    "nan-in-text": lambda name: _nested(name, filled_quantity="NaN"),
    "infinite": lambda name: _flat(name, execution_price=float("inf")),
    "huge-exponent": lambda name: _flat(name, execution_quantity="1e999999"),
    "huge-integer": lambda name: (
        _flat(name, execution_quantity=...)[:-1] + b', "execution_quantity": 1' + b"0" * 9_000 + b"}"
    ),
    "year-9999": lambda name: _flat(name, executed_at="9999-12-31T23:59:59Z"),
    "nul-in-event-id": lambda name: _flat(name + "\x00"),
    "nul-in-order-id": lambda name: _nested(name, order_id=f"{name}\x00"),
    "half-a-surrogate": lambda name: _flat(name, signal_id=f"{name}\ud800"),
    "long-identifier": lambda name: _flat(name, order_id=name * 1_000),
    "unknown-shape": lambda name: json.dumps({"event_id": name, "event_type": "filled", "qty": 1}).encode(),
    "a-megabyte": lambda name: _flat(name, padding="x" * MEGABYTE),
}
