"""The answer with all that is known of one signal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from pydantic import Field

from model_service.api.schemas import Body, Number, Object, Signal, SignalOutcome
from model_service.database.signal_detail import StoredSignal
from model_service.services.guard_readings import MEASURES


class FeatureValue(Body):
    """One input of the decision as it was stored."""

    feature: str
    value: Number = Field(description="null: not known at the decision.")


class GuardValue(Body):
    """What one guard read when it let the signal pass."""

    guard: str
    measure: str
    value: Number
    comparison: Literal["at_most", "at_least", "above"] | None
    threshold: Number = Field(description="null: the guard was not to be asked.")


class DecidingModel(Body):
    """The version that decided; all but `version` are null when its row is gone."""

    version: str
    model_type: str | None
    trained_at: datetime | None
    gate_passed: bool | None
    is_active: bool | None


class SignalOrder(Body):
    """What is known of one order of the signal. Money and quantities are decimal strings."""

    order_id: str
    other_order_id: str | None
    status: str
    filled_quantity: Decimal
    filled_notional: Decimal
    filled_fees: Decimal
    updated_at: datetime


class SignalFill(Body):
    """One fill: base units, price in quote currency per base unit, fees in quote currency."""

    order_id: str
    quantity: Decimal
    price: Decimal
    fees: Decimal
    executed_at: datetime


class OutcomeRevision(Body):
    """One revision of the outcome; the last one holds. Returns are fractions of the entry, after costs."""

    revision: int
    label: int
    net_return: Number
    opposite_net_return: Number = Field(description="What the other side would have earned; null where unknown.")
    exit_rule: str
    entry_at: datetime
    exit_at: datetime
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    available_at: datetime


class SignalDetail(Signal):
    """A signal with what it was decided from and what became of it. What was not recorded is null."""

    market_data_snapshot: Object
    metadata: Object
    horizon_seconds: int
    take_profit_percent: Number
    stop_loss_percent: Number
    fee_rate: Number
    minimum_net_return: Number
    seed: str = Field(description="Of the draws of amount and side.")
    feature_set: str
    features: list[FeatureValue] | None = Field(description="null: nobody knows what the bytes of this set mean.")
    guards: list[GuardValue] | None = Field(description="In their order; null for exits, which pass no guards.")
    settings: Object | None = Field(description="Of the strategy when it decided, as far as they move a decision.")
    model: DecidingModel | None = Field(description="null: no model decided.")
    orders: list[SignalOrder]
    fills: list[SignalFill]
    outcomes: list[OutcomeRevision]


def answer(stored: StoredSignal) -> SignalDetail:
    """The body for a stored signal."""
    row = stored.row
    evidence = row["evidence"] or {}
    members = {
        **row,
        "outcome": SignalOutcome.model_validate(stored.outcomes[-1]) if stored.outcomes else None,
        "features": _features(row["features"], stored.feature_names),
        "guards": [_guard(one) for one in evidence["guards"]] if "guards" in evidence else None,
        "settings": evidence.get("settings"),
        "model": _model(row),
        "orders": stored.orders,
        "fills": stored.fills,
        "outcomes": stored.outcomes,
    }
    return SignalDetail.model_validate(members)


def _features(data: bytes, names: tuple[str, ...] | None) -> list[FeatureValue] | None:
    if names is None or len(data) != 4 * len(names):
        return None
    values = np.frombuffer(data, dtype="<f4").tolist()
    return [FeatureValue(feature=name, value=value) for name, value in zip(names, values, strict=True)]


def _guard(kept: Mapping[str, Any]) -> GuardValue:
    # A guard of another release still has its numbers.
    measure, comparison = MEASURES.get(kept["guard"], (kept["guard"], None))
    return GuardValue.model_validate({**kept, "measure": measure, "comparison": comparison})


def _model(row: Mapping[str, Any]) -> DecidingModel | None:
    if row["model_version"] is None:
        return None
    known = {name: row[name] for name in ("model_type", "trained_at", "gate_passed", "is_active")}
    return DecidingModel.model_validate({"version": row["model_version"], **known})
