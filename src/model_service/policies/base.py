"""What every policy is: from what is known at a tick to the probability of each action."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.policies.reasons import Reason
from model_service.policies.sizing import Sized


@dataclass(frozen=True, slots=True)
class ActionProbabilities:
    """Unconditional probabilities of the three actions at one tick (METHOD 1); they add up to 1."""

    buy: float
    sell: float

    @property
    def none(self) -> float:
        """Probability of no signal."""
        return max(0.0, 1.0 - self.buy - self.sell)

    def of(self, side: Side) -> float:
        """Probability of the side."""
        return self.buy if side is Side.BUY else self.sell

    def masked(self, refused: Collection[Side]) -> ActionProbabilities:
        """The same with the refused sides' mass moved to `none`."""
        return ActionProbabilities(0.0 if Side.BUY in refused else self.buy, 0.0 if Side.SELL in refused else self.sell)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a policy would do, before the guards and the draw.

    Attributes:
        probabilities: of each action.
        confidence: per side, 0 to 1: calibrated probability of profit, or heuristic in the warm-up.
        none_reason: what to count when `none` is drawn.
        expected_net_return: per side, a fraction; empty in the warm-up.
        sizing: what the signal of a side asks for; None: the amount is drawn between the strategy's bounds. Asked only
            of ticks of which something is recorded.
    """

    policy: str
    probabilities: ActionProbabilities
    confidence: Mapping[Side, float]
    none_reason: Reason
    model_version: str | None = None
    expected_net_return: Mapping[Side, float] | None = None
    sizing: Callable[[Side], Sized] | None = None


class Policy(Protocol):
    """Anything that proposes."""

    def propose(
        self, strategy: StrategyDefinition, snapshot: MarketSnapshot, features: NDArray[np.float32], tick_seconds: float
    ) -> Proposal:
        """Probabilities for one asset of one strategy at one tick."""
        ...
