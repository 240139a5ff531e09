"""The model policy: acts on the better side when the calibrated model expects a profit after costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.artifact import LoadedModel
from model_service.models.decision_rule import action_floor, chosen_sign
from model_service.policies.base import ActionProbabilities, Proposal, action_rate
from model_service.policies.reasons import Reason, ReasonCode

SIDES = (Side.BUY, Side.SELL)


class ModelPolicy:
    """One version of a model, deciding.

    pi = rate * ((1 - exploration) * chosen + exploration / 2) for each side, so that every side keeps a known, positive
    probability (METHOD 7).
    """

    name = "model"

    def __init__(self, model: LoadedModel, version: str) -> None:
        self.model = model
        self.version = version

    def propose(
        self, strategy: StrategyDefinition, snapshot: MarketSnapshot, features: NDArray[np.float32], tick_seconds: float
    ) -> Proposal:
        """Probabilities for one asset at one tick; both sides in one call of the model."""
        prediction = self.model.predict_sides(features)
        floor = action_floor(self.model.break_even, strategy.action_threshold)
        chosen = chosen_sign(*prediction.probability, floor)
        rate = action_rate(strategy, tick_seconds)
        explore = rate * strategy.exploration_rate / 2.0
        exploit = rate * (1.0 - strategy.exploration_rate)
        by_side = {side: explore + (exploit if side.sign == chosen else 0.0) for side in SIDES}
        return Proposal(
            policy=self.name,
            probabilities=ActionProbabilities(by_side[Side.BUY], by_side[Side.SELL]),
            confidence=dict(zip(SIDES, prediction.probability, strict=True)),
            none_reason=_why_none(chosen != 0, rate, max(prediction.probability), floor),
            model_version=self.version,
            expected_net_return=dict(zip(SIDES, prediction.expected_net_return, strict=True)),
        )


def _why_none(acts: bool, rate: float, probability: float, floor: float) -> Reason:
    return Reason(ReasonCode.NOT_DRAWN, rate, 1.0) if acts else Reason(ReasonCode.MODEL_ABSTAINS, probability, floor)
