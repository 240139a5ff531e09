"""The model policy: acts on the better side when the calibrated model expects a profit after costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.artifact import LoadedModel
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import POSITION_SHARE, Acting, DecisionRule, action_rate
from model_service.models.kelly import kelly_share, odds
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.sizing import Sized, kelly_stake, sized

SIDES = (Side.BUY, Side.SELL)


class ModelPolicy:
    """One version of a model, deciding.

    pi = rate * ((1 - exploration) * chosen + exploration / 2) for each side, so that every side keeps a known, positive
    probability (METHOD 7). Which side is chosen, and how much is asked for, follows from the features, the strategy and
    the version alone, position included: so evaluation can say what another version would have done.
    """

    name = "model"

    def __init__(self, model: LoadedModel, version: str) -> None:
        self.model = model
        self.version = version
        self._ruled: tuple[StrategyDefinition, DecisionRule] | None = None

    def propose(
        self, strategy: StrategyDefinition, snapshot: MarketSnapshot, features: NDArray[np.float32], tick_seconds: float
    ) -> Proposal:
        """Probabilities for one asset at one tick; both sides in one call of the model."""
        prediction, calibration = self.model.predict_sides(features), self.model.calibration
        probability = dict(zip(SIDES, prediction.probability, strict=True))
        rule, position_share = self._rule(strategy), float(features[POSITION_SHARE])
        chosen = rule.chosen_sign(*prediction.probability, position_share)
        rate = action_rate(strategy, tick_seconds)
        explore = rate * strategy.exploration_rate / 2.0
        exploit = rate * (1.0 - strategy.exploration_rate)
        by_side = {side: explore + (exploit if side.sign == chosen else 0.0) for side in SIDES}

        def size(side: Side) -> Sized:
            margin = rule.margin(side.sign, position_share)
            return sized(strategy, calibration, rule, probability[side], is_chosen=side.sign == chosen, margin=margin)

        return Proposal(
            policy=self.name,
            probabilities=ActionProbabilities(by_side[Side.BUY], by_side[Side.SELL]),
            confidence=probability,
            none_reason=Reason(ReasonCode.NOT_DRAWN, rate, 1.0)
            if chosen
            else _why_none(strategy, calibration, rule, probability, position_share),
            model_version=self.version,
            expected_net_return=dict(zip(SIDES, prediction.expected_net_return, strict=True)),
            sizing=size,
        )

    def _rule(self, strategy: StrategyDefinition) -> DecisionRule:
        # The same at every tick until somebody changes the strategy.
        if self._ruled is None or self._ruled[0] is not strategy:
            self._ruled = strategy, Acting.of(strategy).rule(self.model.calibration)
        return self._ruled[1]


def _why_none(
    strategy: StrategyDefinition,
    calibration: Calibration,
    rule: DecisionRule,
    probability: Mapping[Side, float],
    position_share: float,
) -> Reason:
    """Of the better side: its probability and what it had to reach, or the stake where only that was too small."""
    better = max(SIDES, key=lambda side: probability[side])
    margin = rule.margin(better.sign, position_share)
    low = calibration.lower_bound_of(probability[better])
    if low is not None and rule.base_floor + margin <= probability[better] < rule.floor + margin:
        stake = kelly_stake(strategy, kelly_share(low, odds(calibration)))
        return Reason(ReasonCode.STAKE_BELOW_MINIMUM, float(stake), float(strategy.minimum_amount))
    return Reason(ReasonCode.MODEL_ABSTAINS, probability[better], rule.base_floor + margin)
