"""One hash over all that a signal's row says of its decision, so that a later edit of any of it is found.

It stands in the same row: whoever may edit the row may write the hash that fits. It finds an edit, not a forgery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Real
from typing import Any

FROZEN = (
    "signal_id", "strategy_id", "asset", "side", "intent", "price", "amount", "confidence", "decided_at", "expires_at",
    "policy", "model_version", "is_warmup", "seed", "feature_set", "features", "probability_buy", "probability_sell",
    "probability_none", "horizon_seconds", "take_profit_percent", "stop_loss_percent", "fee_rate",
    "minimum_net_return", "market_data_snapshot", "metadata", "trace_id", "evidence",
)  # fmt: skip
"""Columns of a signal that no later event changes, in the order in which they are written."""


def decision_digest(row: Mapping[str, Any]) -> bytes:
    """sha256, 32 bytes, over the columns `FROZEN` of a row: the same before it is written and after it is read.

    Example:
        >>> row = dict.fromkeys(FROZEN) | {"amount": Decimal("100.00"), "evidence": {"a": 1.0, "b": [2]}}
        >>> read = row | {"amount": Decimal("1E+2"), "evidence": {"b": [2.0], "a": 1}}
        >>> decision_digest(row) == decision_digest(read), decision_digest(row) == decision_digest(row | {"seed": ""})
        (True, False)
    """
    text = json.dumps({name: _canonical(row[name]) for name in FROZEN}, sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def _canonical(value: Any) -> Any:
    """A value in the one form that PostgreSQL keeps: jsonb knows no order of names, and no 1.0 that is not 1."""
    match value:
        case None | bool():
            return value
        case Decimal() | Real():
            return f"n{_digits(value)}"
        case bytes():
            return f"b{value.hex()}"
        case datetime():
            return f"t{(value if value.tzinfo is None else value.astimezone(UTC)).isoformat()}"
        case Mapping():
            return {name: _canonical(item) for name, item in value.items()}
        case Sequence() if not isinstance(value, str):
            return [_canonical(item) for item in value]
        case _:
            return f"s{value}"


def _digits(value: Decimal | Real) -> str:
    number = value if isinstance(value, Decimal) else Decimal(value if isinstance(value, int) else repr(float(value)))
    if not number.is_finite():
        return str(number)
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
