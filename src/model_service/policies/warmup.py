"""The warm-up policy: simple heuristics mixed with controlled, recorded randomness."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.decision_rule import action_rate
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.reasons import Reason, ReasonCode

WARMUP_INDICATORS = ("return_5m", "bollinger_b")
"""The indicators that the heuristics look at, beside the book's imbalance and the volatility."""


class WarmupPolicy:
    """Speaks until a model has passed the gate.

    Given that it acts, it buys with probability `(1 - r) h + r / 2`, where r is the strategy's randomness and h the
    heuristics' leaning, kept within [floor, 1 - floor] so that both sides stay explorable.
    """

    name = "warmup"

    def propose(
        self, strategy: StrategyDefinition, snapshot: MarketSnapshot, features: NDArray[np.float32], tick_seconds: float
    ) -> Proposal:
        """Probabilities for one asset at one tick."""
        rate = action_rate(strategy, tick_seconds)
        mixed = (1.0 - strategy.randomness) * buy_leaning(snapshot) + strategy.randomness * 0.5
        buy = min(1.0 - strategy.probability_floor, max(strategy.probability_floor, mixed))
        return Proposal(
            policy=self.name,
            probabilities=ActionProbabilities(rate * buy, rate * (1.0 - buy)),
            confidence={Side.BUY: buy, Side.SELL: 1.0 - buy},
            none_reason=Reason(ReasonCode.NOT_DRAWN, rate, 1.0),
        )


def warmup_expired(duration_hours: float | None, since: datetime, now: datetime) -> Reason | None:
    """Why a warm-up that began at `since` opens nothing more; None while it may."""
    hours = (now - since).total_seconds() / 3600.0
    if duration_hours is None or hours < duration_hours:
        return None
    return Reason(ReasonCode.WARMUP_EXPIRED, hours, duration_hours)


def buy_leaning(snapshot: MarketSnapshot) -> float:
    """How much the heuristics lean to buying, 0 to 1; 0.5 when nothing is known.

    Book imbalance and the five-minute move over its volatility speak for going along, a close far out of its Bollinger
    band for going against. The weights are a plain prior, not fitted to anything.
    """
    imbalance = _known(snapshot.book_imbalance)
    move, band = (snapshot.indicators.get(name, math.nan) for name in WARMUP_INDICATORS)
    momentum = _known(move / max(snapshot.volatility, 1e-9))
    stretch = _known(band)
    score = 1.5 * imbalance + 0.2 * max(-3.0, min(3.0, momentum)) - 0.5 * max(-1.0, min(1.0, stretch))
    return 1.0 / (1.0 + math.exp(-score))


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0
