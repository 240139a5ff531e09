"""The trading signal: what the service sends to order-manager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from model_service.contracts.types import Side

SIGNAL_QUEUE = "model-service.trading_signals"
SIGNAL_EXCHANGE = "model-service.signals"


@dataclass(frozen=True, slots=True)
class TradingSignal:
    """One signal, complete: everything that order-manager checks and everything that we want back later.

    Attributes:
        amount: quote currency.
        confidence: calibrated probability of profit, 0 to 1; heuristic while `is_warmup`.
        market_data_snapshot: `price` > 0 and optional `spread` (percent of price), `volume_24h`, `volatility`, ...
        expires_at: after this moment the signal must not be delivered.
    """

    signal_id: UUID
    side: Side
    asset: str
    amount: Decimal
    confidence: float
    timestamp: datetime
    expires_at: datetime
    strategy_id: str
    model_version: str | None
    is_warmup: bool
    market_data_snapshot: Mapping[str, Any]
    metadata: Mapping[str, Any]
    trace_id: str


def format_utc(moment: datetime) -> str:
    """ISO 8601 with `Z`; order-manager silently drops `+00:00Z`."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def encode_signal(signal: TradingSignal) -> bytes:
    """The body of the message, UTF-8 JSON with the members of the platform's contract."""
    body = {
        "signal_id": str(signal.signal_id),
        "signal_type": signal.side.value,
        "asset": signal.asset,
        "amount": float(signal.amount),
        "confidence": signal.confidence,
        "timestamp": format_utc(signal.timestamp),
        "expires_at": format_utc(signal.expires_at),
        "strategy_id": signal.strategy_id,
        "model_version": signal.model_version,
        "is_warmup": signal.is_warmup,
        "market_data_snapshot": dict(signal.market_data_snapshot),
        "metadata": dict(signal.metadata),
        "trace_id": signal.trace_id,
    }
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
