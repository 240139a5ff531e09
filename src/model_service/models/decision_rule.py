"""When a model acts, and on which side: one rule for the live policy and for the evaluation that judges it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.config.doubts import LARGEST_ACTION_RATE
from model_service.config.strategies import StrategyDefinition
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_NAMES
from model_service.models.kelly import kelly_floor

POSITION_SHARE = FEATURE_NAMES.index("position_share")
Floor = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """From which probabilities one version acts, for one strategy.

    Attributes:
        floor: what the probability of a side has to reach.
        hysteresis: what it has to reach more when the side lies against the strategy's position.
        flat_share: positions under this share of the limit are none: what is left cannot be sold.
        base_floor: the floor without what Kelly's stake asks for.
    """

    floor: float
    hysteresis: float = 0.0
    flat_share: float = 0.0
    base_floor: float = 0.5

    def margin(self, side_sign: int, position_share: float) -> float:
        """What the side needs over the floor with this position; NaN counts as flat."""
        return self.hysteresis if side_sign * position_share < -self.flat_share else 0.0

    def chosen_sign(self, buy: float, sell: float, position_share: float) -> int:
        """The side that is acted on in one decision: 1 to buy, -1 to sell, 0 for neither."""
        floors = (self.floor + self.margin(sign, position_share) for sign in (1, -1))
        return chosen_sign(buy, sell, *floors)

    def chosen_sides(
        self,
        own: NDArray[np.float64],
        other: NDArray[np.float64],
        side_signs: NDArray[np.int8],
        features: NDArray[np.float32],
    ) -> NDArray[np.int8]:
        """The same for rows: +1 buy, -1 sell, 0 none, int8 (n,). Features (n, F), not aligned; others as `would_take`.

        The position is the one of the row, which whoever logged it had built.
        """
        floors = (self._floors(signs, features) for signs in (side_signs, (-side_signs).astype(np.int8)))
        return chosen_sides(own, other, side_signs, *floors)

    def _floors(self, side_signs: NDArray[np.int8], features: NDArray[np.float32]) -> Floor:
        if self.hysteresis == 0.0:
            return self.floor
        against = side_signs * features[:, POSITION_SHARE].astype(np.float64) < -self.flat_share
        return self.floor + np.where(against, self.hysteresis, 0.0)


@dataclass(frozen=True, slots=True)
class Acting:
    """What of a strategy says when its models act.

    Attributes:
        threshold: least probability of profit to act on.
        hysteresis, flat_share: as in `DecisionRule`.
        least_kelly_share: Kelly's share under which the stake is less than the least amount; None: it is not asked.
    """

    threshold: float
    hysteresis: float = 0.0
    flat_share: float = 0.0
    least_kelly_share: float | None = None

    @classmethod
    def of(cls, strategy: StrategyDefinition) -> Acting:
        """Of a strategy as it is now."""
        least = None
        if strategy.sizing == "kelly" and strategy.capital_amount is not None:
            least = float(strategy.minimum_amount) / (strategy.kelly_fraction * float(strategy.capital_amount))
        flat = 0.0
        if strategy.hysteresis:
            flat = float(strategy.exchange_minimum_amount / strategy.maximum_position_amount)
        return cls(strategy.action_threshold, strategy.hysteresis, flat, least)

    def rule(self, calibration: Calibration) -> DecisionRule:
        """The rule of a version with this calibration."""
        base = action_floor(calibration.break_even, self.threshold)
        floor = base
        if self.least_kelly_share is not None:
            floor = max(base, kelly_floor(calibration, self.least_kelly_share))
        return DecisionRule(floor, self.hysteresis, self.flat_share, base)


def action_rate(strategy: StrategyDefinition, tick_seconds: float) -> float:
    """Probability that a tick of one asset acts at all, so that the strategy makes its signals per minute on average.

    At most LARGEST_ACTION_RATE; `config.doubts` warns where that keeps a strategy under its frequency.
    """
    per_tick = strategy.signals_per_minute * tick_seconds / 60.0 / len(strategy.assets)
    return min(LARGEST_ACTION_RATE, per_tick)


def action_floor(break_even: float, action_threshold: float) -> float:
    """The calibrated probability from which a model acts: max(0.5, break-even, the strategy's threshold) (METHOD 8)."""
    return max(0.5, break_even, action_threshold)


def would_take(
    own: NDArray[np.float64], other: NDArray[np.float64], side_signs: NDArray[np.int8], floor: Floor
) -> NDArray[np.bool_]:
    """Whether the model would act on each row's side: it reaches the floor and is the better one; of equal sides, buy.

    Args:
        own: calibrated probability of the row's side, (n,).
        other: of the opposite side, (n,).
        side_signs: +1 for rows of a buy, -1 for rows of a sell, (n,).
        floor: of the row's side, one number or (n,).
    """
    better = (own > other) | ((own == other) & (side_signs > 0))
    taken: NDArray[np.bool_] = (own >= floor) & better
    return taken


def chosen_sign(buy: float, sell: float, floor: float, sell_floor: float | None = None) -> int:
    """As `would_take`, for one decision: 1 to buy, -1 to sell, 0 for neither; without `sell_floor` both have one."""
    if buy >= sell:
        return 1 if buy >= floor else 0
    return -1 if sell > buy and sell >= (floor if sell_floor is None else sell_floor) else 0


def chosen_sides(
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    side_signs: NDArray[np.int8],
    floor: Floor,
    other_floor: Floor | None = None,
) -> NDArray[np.int8]:
    """The side that the model would act on for each row: +1 buy, -1 sell, 0 none, int8 (n,). As `would_take`."""
    acts_own = would_take(own, other, side_signs, floor)
    other_signs = (-side_signs).astype(np.int8)
    acts_other = would_take(other, own, other_signs, floor if other_floor is None else other_floor)
    return (side_signs * (acts_own.astype(np.int8) - acts_other.astype(np.int8))).astype(np.int8)
