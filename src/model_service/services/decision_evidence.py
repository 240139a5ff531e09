"""What is kept with an opening beside its features: the settings that it was decided by, and what the guards read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from model_service.config.settings_learning import Sizing
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.policies.reasons import Reason
from model_service.policies.warmup import WARMUP_INDICATORS
from model_service.services.decision import funding_costs
from model_service.services.guard_readings import GuardReading


class DecidingSettings(BaseModel):
    """All of a strategy that policies and the draw look at; a replay has these and no others.

    What has a default is newer than the first records. A `sizing` of None: models drew their amounts then.
    """

    model_config = ConfigDict(frozen=True)

    assets: tuple[str, ...]
    signals_per_minute: float
    randomness: float
    probability_floor: float
    minimum_amount: Decimal
    maximum_amount: Decimal
    exploration_rate: float
    action_threshold: float
    hysteresis: float = 0.0
    sizing: Sizing | None = None
    model_amount: Decimal | None = None
    kelly_fraction: float = 0.25
    capital_amount: Decimal | None = None
    exchange_minimum_amount: Decimal = Decimal(0)
    maximum_position_amount: Decimal = Decimal("Infinity")


MARKET_VALUES = ("book_imbalance", "volatility", "funding_rate", "seconds_to_funding")


def deciding_settings(strategy: StrategyDefinition) -> dict[str, Any]:
    """`DecidingSettings` of a strategy, as JSON."""
    return strategy.model_dump(mode="json", include=set(DecidingSettings.model_fields))


def decision_evidence(
    strategy: StrategyDefinition,
    snapshot: MarketSnapshot,
    tick_seconds: float,
    readings: Sequence[GuardReading],
    *,
    position_amount: float,
    platform_position_amount: float = 0.0,
    refused: Mapping[Side, Reason] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As JSON. Numbers of market and position are kept in full, since the features are rounded to float32.

    Args:
        refused: the side that was not drawn, where a guard took it out of the draw.
        settings: the strategy's `deciding_settings`, where they are known already.
    """
    return {
        "settings": deciding_settings(strategy) if settings is None else settings,
        "tick_seconds": tick_seconds,
        "position_amount": position_amount,
        "platform_position_amount": platform_position_amount,
        "market": {
            **_known({name: getattr(snapshot, name) for name in MARKET_VALUES}),
            "indicators": _known({name: snapshot.indicators.get(name, math.nan) for name in WARMUP_INDICATORS}),
        },
        "funding_cost_percent": {
            side.value: cost for side, cost in funding_costs(snapshot, strategy.horizon_seconds).items()
        },
        "guards": [
            {"guard": one.guard.value, "value": one.value, "threshold": one.threshold} for one in readings
        ],
        "refused": {
            side.value: {"guard": one.code.value, "value": _finite(one.value), "threshold": _finite(one.threshold)}
            for side, one in (refused or {}).items()
        },
    }  # fmt: skip


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _known(values: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN: what is unknown is left out."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
