"""What order-manager does with a signal before it makes an order of it, written anew from its contract.

Nothing here is shared with the service: a signal that it would drop without a word has to be found by these rules.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any
from uuid import UUID

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
OPTIONAL_NUMBERS = ("spread", "volume_24h", "volatility")


class Dropped(Exception):
    """order-manager would discard the signal: no order, no event, no dead letter."""


def accept(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """The signal as it is taken. Raises Dropped with the rule that it breaks."""
    signal: dict[str, Any] = json.loads(body, parse_constant=_no_constant)
    _identity(signal)
    _require(str(signal["signal_type"]).lower() in ("buy", "sell"), "signal_type")
    _require(re.fullmatch(r"[A-Z0-9]{4,20}", signal["asset"].upper()) is not None, "asset")
    _require(_number(signal["amount"], "amount") >= 0.01, "amount")
    _require(0 <= _number(signal["confidence"], "confidence") <= 1, "confidence")
    _moment(signal["timestamp"])
    version = signal.get("model_version")
    _require(version is None or len(version) <= 50, "model_version")
    _require(isinstance(signal.get("is_warmup", False), bool), "is_warmup")
    _require(signal.get("metadata") is None or isinstance(signal["metadata"], dict), "metadata")
    _snapshot(signal["market_data_snapshot"])
    _require(0 < len(headers["trace_id"]) <= 100, "header trace_id")
    return signal


def _identity(signal: dict[str, Any]) -> None:
    try:
        UUID(signal["signal_id"])
    except ValueError:
        raise Dropped("signal_id") from None
    _require(1 <= len(signal["strategy_id"]) <= 100, "strategy_id")
    _require(len(signal.get("trace_id") or "") <= 100, "trace_id")


def _snapshot(snapshot: Any) -> None:
    _require(isinstance(snapshot, dict), "market_data_snapshot")
    _require(_number(snapshot.get("price"), "price") > 0, "price")
    for name in OPTIONAL_NUMBERS:
        if snapshot.get(name) is not None:
            _require(_number(snapshot[name], name) >= 0, name)
    for name in ("orderbook_depth", "technical_indicators"):
        _require(snapshot.get(name) is None or isinstance(snapshot[name], dict), name)


def _moment(text: Any) -> None:
    # What ends in +00:00Z is refused there, and so is anything that fromisoformat does not read.
    _require(
        isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text) is not None, "time"
    )
    datetime.fromisoformat(text)


def _number(value: Any, name: str) -> float:
    _require(isinstance(value, int | float | str) and not isinstance(value, bool), name)
    number = float(value)
    _require(math.isfinite(number), name)
    return number


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise Dropped(name)


def _no_constant(text: str) -> Any:
    raise Dropped(f"not JSON: {text}")
