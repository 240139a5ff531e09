"""How much a model's signal is worth: a stated amount, one that grows with the probability, or a part of Kelly's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any, Literal

from model_service.config.settings_learning import Sizing
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import DecisionRule
from model_service.models.kelly import kelly_share, odds

CENT = Decimal("0.01")
A_TRACE = Decimal("1e-6")
"""What a float of the position may be off by."""


@dataclass(frozen=True, slots=True)
class Sized:
    """What one side's signal would ask for, and why.

    Attributes:
        amount: quote currency to the cent, from the strategy's minimum to its maximum.
        rule: the strategy's, or `exploring` for a side that the model would not take.
        floor: the probability from which the model acts on the side, hysteresis included.
        margin: how much of that is hysteresis.
        lower_bound: of the probability, where Kelly asked for it and the version has one.
        kelly_share: f* at the lower bound, before the fraction.
    """

    amount: Decimal
    rule: Sizing | Literal["exploring"]
    floor: float
    margin: float
    lower_bound: float | None = None
    kelly_share: float | None = None

    def message(self) -> dict[str, Any]:
        """As it stands in a signal's metadata; what was not asked for is left out."""
        # JSON has no infinity: the floor of a version whose bounds allow no stake at all.
        floor = self.floor if math.isfinite(self.floor) else None
        known = {"floor": floor, "lower_bound": self.lower_bound, "kelly_share": self.kelly_share}
        return {
            "rule": self.rule,
            "asked": float(self.amount),
            "hysteresis": self.margin,
            **{name: value for name, value in known.items() if value is not None},
        }


def sized(
    strategy: StrategyDefinition,
    calibration: Calibration,
    rule: DecisionRule,
    probability: float,
    *,
    is_chosen: bool,
    margin: float = 0.0,
) -> Sized:
    """The amount of one side.

    A side that the model would not take gets the least amount: exploring is a cost. A version without lower bounds
    stakes the least amount under `kelly`: nobody knows how far its probabilities may be trusted.
    """
    floor = rule.floor + margin
    if not is_chosen:
        return Sized(_least(strategy), "exploring", floor, margin)
    if strategy.sizing == "fixed":
        return Sized(_within(strategy, strategy.model_amount or strategy.minimum_amount), "fixed", floor, margin)
    if strategy.sizing == "confidence":
        return Sized(_by_confidence(strategy, probability, rule.floor), "confidence", floor, margin)
    low = calibration.lower_bound_of(probability)
    if low is None:
        return Sized(_least(strategy), "kelly", floor, margin)
    share = kelly_share(low, odds(calibration))
    return Sized(_within(strategy, kelly_stake(strategy, share)), "kelly", floor, margin, low, share)


def kelly_stake(strategy: StrategyDefinition, share: float) -> Decimal:
    """The strategy's fraction of Kelly's share of its capital, quote currency, within no bounds yet."""
    capital = strategy.capital_amount or Decimal(0)
    return _exactly(share) * _exactly(strategy.kelly_fraction) * capital


def within_position_limit(
    strategy: StrategyDefinition, amounts: Mapping[Side, Decimal], position_amount: float
) -> dict[Side, Decimal]:
    """The amounts, cut to what the position limit leaves, but not under the least amount: that the guard refuses.

    Args:
        position_amount: signed quote value of the strategy's position in the asset.
    """
    position, limit = Decimal(repr(position_amount)), strategy.maximum_position_amount - A_TRACE
    return {
        side: max(_least(strategy), min(amount, _cents(limit - side.sign * position)))
        for side, amount in amounts.items()
    }


def _by_confidence(strategy: StrategyDefinition, probability: float, floor: float) -> Decimal:
    """Linear in what the probability is over the floor: the least amount there, the largest at 1."""
    edge = _exactly((probability - floor) / (1.0 - floor)) if floor < 1.0 else Decimal(0)
    return _within(strategy, strategy.minimum_amount + edge * (strategy.maximum_amount - strategy.minimum_amount))


def _within(strategy: StrategyDefinition, amount: Decimal) -> Decimal:
    return min(_cents(strategy.maximum_amount), max(_least(strategy), _cents(amount)))


def _least(strategy: StrategyDefinition) -> Decimal:
    return strategy.minimum_amount.quantize(CENT, ROUND_UP)


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_DOWN)


def _exactly(share: float) -> Decimal:
    """To 12 digits after the point: what a float is off by should not cost a cent."""
    return Decimal(repr(share)).quantize(Decimal("1e-12"))
