"""What a decision leaves behind: the signal with the frozen record of how it came about, or a stored draw of `none`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.features import FEATURE_SET, encode_features
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.exit import ExitProposal
from model_service.policies.exit_state import ExitState
from model_service.services.decision import funding_costs, snapshot_message
from model_service.services.ports import DecidedSignal, Intent, NoneDraw, OpenOrder
from model_service.trades.ledger import Lot


@dataclass(frozen=True, slots=True)
class Tick:
    """One asset of one strategy at one tick, with all that is known of it."""

    strategy: StrategyDefinition
    snapshot: MarketSnapshot
    lots: Sequence[Lot]
    orders: Sequence[OpenOrder]
    exit_state: ExitState | None
    features: NDArray[np.float32]
    platform_position: float
    now: datetime
    seed: str

    @property
    def position_quantity(self) -> Decimal:
        """Signed base units."""
        return sum((lot.side.sign * lot.remaining_quantity for lot in self.lots), Decimal(0))


def exit_signal(
    tick: Tick, proposal: ExitProposal, signal_id: UUID, *, expiry_seconds: float, is_warmup: bool, at_tick: bool = True
) -> DecidedSignal:
    """The signal that closes what `proposal` says; why stands in its metadata."""
    reached = {"cause": proposal.cause.value, "value": proposal.value, "threshold": proposal.threshold}
    return _signal(
        tick,
        proposal.side,
        signal_id,
        expiry_seconds,
        intent="exit",
        amount=proposal.amount,
        confidence=1.0,
        policy="exit",
        version=None,
        is_warmup=is_warmup,
        probabilities=ActionProbabilities(float(proposal.side is Side.BUY), float(proposal.side is Side.SELL)),
        metadata={
            "reasoning": f"exit: {proposal.cause.value}",
            "exit": {**reached, "continues": proposal.continues},
        },
        at_tick=at_tick,
    )


def opening_signal(
    tick: Tick,
    side: Side,
    proposal: Proposal,
    allowed: ActionProbabilities,
    amount: Decimal,
    signal_id: UUID,
    *,
    expiry_seconds: float,
    evidence: Mapping[str, Any],
) -> DecidedSignal:
    """The signal of the side that was drawn; `allowed` are the probabilities that the guards have left."""
    metadata: dict[str, Any] = {"reasoning": f"{proposal.policy}: p={proposal.confidence[side]:.3f}"}
    if proposal.expected_net_return is not None:
        metadata["expected_net_return"] = proposal.expected_net_return[side]
    funding = funding_costs(tick.snapshot, tick.strategy.horizon_seconds)
    if funding:
        metadata["funding_cost_percent"] = funding[side]
    if proposal.sizing is not None:
        metadata["sizing"] = proposal.sizing(side).message()
    return _signal(
        tick,
        side,
        signal_id,
        expiry_seconds,
        intent="reduce" if tick.position_quantity * side.sign < 0 else "open",
        amount=amount,
        confidence=proposal.confidence[side],
        policy=proposal.policy,
        version=proposal.model_version,
        is_warmup=proposal.model_version is None,
        probabilities=allowed,
        metadata=metadata,
        evidence=evidence,
    )


def none_draw(
    tick: Tick, proposal: Proposal, allowed: ActionProbabilities, decision_id: UUID, *, sample_rate: float
) -> NoneDraw:
    """The record of a draw of `none`, one of those that are kept."""
    return NoneDraw(
        decision_id=decision_id,
        strategy_id=tick.strategy.strategy_id,
        asset=tick.snapshot.asset,
        decided_at=tick.now,
        policy=proposal.policy,
        model_version=proposal.model_version,
        features=encode_features(tick.features),
        feature_set=FEATURE_SET,
        probabilities=allowed,
        sample_rate=sample_rate,
        seed=tick.seed,
    )


def _signal(
    tick: Tick,
    side: Side,
    signal_id: UUID,
    expiry_seconds: float,
    *,
    intent: Intent,
    amount: Decimal,
    confidence: float,
    policy: str,
    version: str | None,
    is_warmup: bool,
    probabilities: ActionProbabilities,
    metadata: Mapping[str, Any],
    evidence: Mapping[str, Any] | None = None,
    at_tick: bool = True,
) -> DecidedSignal:
    strategy = tick.strategy
    signal = TradingSignal(
        signal_id=signal_id,
        side=side,
        asset=tick.snapshot.asset,
        amount=amount,
        confidence=confidence,
        timestamp=tick.now,
        expires_at=tick.now + timedelta(seconds=expiry_seconds),
        strategy_id=strategy.strategy_id,
        model_version=version,
        is_warmup=is_warmup,
        market_data_snapshot=snapshot_message(tick.snapshot),
        metadata={**metadata, "intent": intent},
        trace_id=signal_id.hex,
    )
    return DecidedSignal(
        signal=signal,
        intent=intent,
        price=Decimal(repr(tick.snapshot.price)),
        policy=policy,
        seed=tick.seed,
        features=encode_features(tick.features),
        feature_set=FEATURE_SET,
        probabilities=probabilities,
        horizon_seconds=strategy.horizon_seconds,
        take_profit_percent=strategy.take_profit_percent,
        stop_loss_percent=strategy.stop_loss_percent,
        fee_rate=strategy.fee_rate_of(tick.snapshot.asset),
        minimum_net_return=strategy.minimum_net_return,
        evidence=evidence,
        at_tick=at_tick,
    )
