"""Signals as the service itself would record them, for orders and for the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.policies.base import ActionProbabilities
from model_service.services.ports import DecidedSignal

PRICE = Decimal(100)
PUBLISHED = """
    UPDATE model_service.trading_signals SET status = 'published', published_at = decided_at
    WHERE signal_id = ANY($1::uuid[])
"""


def decided_signal(
    signal_id: UUID, strategy_id: str, asset: str, side: Side, decided_at: datetime, lifetime_seconds: float
) -> DecidedSignal:
    """A warm-up signal with plain numbers."""
    signal = TradingSignal(
        signal_id=signal_id,
        side=side,
        asset=asset,
        amount=Decimal(100),
        confidence=0.6,
        timestamp=decided_at,
        expires_at=decided_at + timedelta(seconds=lifetime_seconds),
        strategy_id=strategy_id,
        model_version=None,
        is_warmup=True,
        market_data_snapshot={"price": float(PRICE)},
        metadata={},
        trace_id=str(signal_id),
    )
    return DecidedSignal(
        signal=signal,
        intent="open",
        price=PRICE,
        policy="warmup",
        seed="7",
        features=b"\x00",
        feature_set="f1-00000000",
        probabilities=ActionProbabilities(buy=0.4, sell=0.4),
        horizon_seconds=900,
        take_profit_percent=None,
        stop_loss_percent=None,
        fee_rate=0.00055,
        minimum_net_return=0.0,
    )


async def record_pending(database: Database, signals: Sequence[DecidedSignal]) -> None:
    """Into the outbox, in one transaction, as a decision does it. Raises DatabaseUnavailable."""
    await PostgresDecisionStore(database).record(signals, [], [])


async def record_published(database: Database, signals: Sequence[DecidedSignal]) -> None:
    """Signals that order-manager has already. Raises DatabaseUnavailable."""
    # Late enough that no publisher that runs by chance could send them: they expire before they are marked.
    await record_pending(database, signals)
    await database.execute(PUBLISHED, [decided.signal.signal_id for decided in signals])
