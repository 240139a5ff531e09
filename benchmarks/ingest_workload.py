"""A trading day in small: signals of several strategies, and the flat execution events of their orders."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.policies.base import ActionProbabilities
from model_service.services.ports import DecidedSignal

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
STRATEGIES = [f"strategy_{number}" for number in range(5)]
PRICES = {"BTCUSDT": 50_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0, "XRPUSDT": 0.5}
FILLS_PER_ORDER = ([1, 2, 3], [50, 30, 20])
FEE_RATE = 0.00055
INTERLEAVING = 12
"""Orders are open side by side: an event stands at most about this many places from where its order began."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Signals, and the bodies of the fills of their orders in the order of their arrival."""

    signals: Sequence[DecidedSignal]
    events: Sequence[bytes]


def make_workload(events: int, seed: int) -> Workload:
    """At least `events` fills of known signals; sides alternate in each book, so that lots open, shrink and close."""
    rng = random.Random(seed)
    signals: list[DecidedSignal] = []
    bodies: list[tuple[float, bytes]] = []
    sides: dict[tuple[str, str], Side] = {}
    while len(bodies) < events:
        book = rng.choice(STRATEGIES), rng.choice(list(PRICES))
        sides[book] = side = sides.get(book, Side.SELL).opposite
        signal = _signal(rng, book, side, START + timedelta(milliseconds=200 * len(signals)))
        signals.append(signal)
        for fill, body in enumerate(_fills(rng, signal)):
            bodies.append((len(bodies) - fill + rng.uniform(0, INTERLEAVING) * (fill + 1), body))
    return Workload(signals, [body for _, body in sorted(bodies)])


def _signal(rng: random.Random, book: tuple[str, str], side: Side, at: datetime) -> DecidedSignal:
    price = round(PRICES[book[1]] * rng.uniform(0.98, 1.02), 4)
    message = TradingSignal(
        signal_id=UUID(int=rng.getrandbits(128), version=4),
        side=side,
        asset=book[1],
        amount=Decimal(rng.randrange(10_000, 100_000)) / 100,
        confidence=0.6,
        timestamp=at,
        expires_at=at + timedelta(seconds=30),
        strategy_id=book[0],
        model_version="v1",
        is_warmup=False,
        market_data_snapshot={"price": price, "spread": 0.02},
        metadata={"reasoning": "benchmark"},
        trace_id=f"{rng.getrandbits(64):016x}",
    )
    return DecidedSignal(
        signal=message,
        intent="open",
        price=Decimal(str(price)),
        policy="model",
        seed="1",
        features=bytes(4 * len(FEATURE_NAMES)),
        feature_set=FEATURE_SET,
        probabilities=ActionProbabilities(0.3, 0.2),
        horizon_seconds=300,
        take_profit_percent=3.0,
        stop_loss_percent=2.0,
        fee_rate=FEE_RATE,
        minimum_net_return=0.0,
    )


def _fills(rng: random.Random, decided: DecidedSignal) -> Iterator[bytes]:
    signal = decided.signal
    (count,) = rng.choices(*FILLS_PER_ORDER)
    order_id = str(UUID(int=rng.getrandbits(128), version=4))
    for part in range(1, count + 1):
        price = round(float(decided.price) * rng.uniform(0.9995, 1.0005), 4)
        quantity = round(float(signal.amount) / price / count, 6)
        moment = signal.timestamp + timedelta(milliseconds=137 * part)
        event = {
            "event_id": str(UUID(int=rng.getrandbits(128), version=4)),
            "order_id": order_id,
            "signal_id": str(signal.signal_id),
            "strategy_id": signal.strategy_id,
            "asset": signal.asset,
            "side": signal.side.value,
            "execution_price": price,
            "execution_quantity": quantity,
            "execution_fees": round(price * quantity * FEE_RATE, 6),
            "executed_at": moment.isoformat().replace("+00:00", "Z"),
            "signal_price": float(decided.price),
            "signal_timestamp": signal.timestamp.isoformat().replace("+00:00", "Z"),
            "market_conditions": {"spread": 1.0, "volume_24h": 1_000_000.0, "volatility": 0.02},
            "trace_id": signal.trace_id,
        }
        if signal.side is Side.SELL:
            event["performance"] = {
                "slippage": round(price - float(decided.price), 4), "slippage_percent": 0.01,
                "realized_pnl": round(rng.uniform(-5, 5), 2), "return_percent": round(rng.uniform(-0.02, 0.02), 4),
            }  # fmt: skip
        yield json.dumps(event).encode()
