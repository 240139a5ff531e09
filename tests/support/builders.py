"""Small builders of values that many tests need."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from model_service.config.strategies import StrategyDefinition
from model_service.market.snapshot import MarketSnapshot

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def strategy(**changes: Any) -> StrategyDefinition:
    """A strategy on BTCUSDT with plain numbers."""
    values: dict[str, Any] = {
        "strategy_id": "momentum_v1",
        "assets": ("BTCUSDT",),
        "horizon_seconds": 300,
        "take_profit_percent": 3.0,
        "stop_loss_percent": 2.0,
        "fee_rate": 0.00055,
        "signals_per_minute": 6.0,
        "randomness": 0.5,
        "probability_floor": 0.1,
        "minimum_amount": Decimal(100),
        "maximum_amount": Decimal(1000),
        "exchange_minimum_amount": Decimal(10),
        "maximum_position_amount": Decimal(10_000),
        "exploration_rate": 0.05,
        "action_threshold": 0.5,
        "accuracy_threshold": 0.75,
        "minimum_dataset_size": 2000,
        "retrain_after_outcomes": 1000,
    }
    return StrategyDefinition(**{**values, **changes})


def snapshot(**changes: Any) -> MarketSnapshot:
    """A fresh, valid market of BTCUSDT at NOON."""
    values: dict[str, Any] = {
        "asset": "BTCUSDT",
        "at": NOON,
        "updated_at": NOON,
        "price": 50_000.0,
        "bid": 49_999.0,
        "ask": 50_001.0,
        "bid_size": 1.0,
        "ask_size": 1.0,
        "spread_percent": 0.004,
        "book_imbalance": 0.0,
        "volatility": 0.001,
        "bars": 100,
    }
    return MarketSnapshot(**{**values, **changes})
