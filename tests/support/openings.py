"""Openings as a pass decides them, for what happens to them between the decision and the outbox."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, encode_features
from model_service.policies.base import ActionProbabilities
from model_service.services.ports import DecidedSignal, Intent
from tests.support.builders import NOON

FEATURES = encode_features(np.zeros(len(FEATURE_NAMES), dtype=np.float32))


def opening(
    number: int,
    strategy_id: str = "a",
    side: Side = Side.BUY,
    *,
    asset: str = "BTCUSDT",
    amount: str = "500",
    at: datetime = NOON,
    intent: Intent = "open",
) -> DecidedSignal:
    """A signal of a strategy, complete; `number` makes its identifier."""
    signal = TradingSignal(
        signal_id=UUID(int=number),
        side=side,
        asset=asset,
        amount=Decimal(amount),
        confidence=0.6,
        timestamp=at,
        expires_at=at + timedelta(seconds=30),
        strategy_id=strategy_id,
        model_version=None,
        is_warmup=True,
        market_data_snapshot={"price": 100.0},
        metadata={},
        trace_id=f"{number:032x}",
    )
    return DecidedSignal(
        signal=signal,
        intent=intent,
        price=Decimal(100),
        policy="warmup",
        seed="7",
        features=FEATURES,
        feature_set=FEATURE_SET,
        probabilities=ActionProbabilities(0.3, 0.2),
        horizon_seconds=300,
        take_profit_percent=3.0,
        stop_loss_percent=2.0,
        fee_rate=0.001,
        minimum_net_return=0.0,
        evidence={"guards": []},
    )
