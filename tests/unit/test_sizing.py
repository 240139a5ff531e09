"""Amounts of a model's signals: within the bounds, rising with the probability, and the least when exploring."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model_service.config.loading import SettingsError, load_settings
from model_service.config.settings_learning import Sizing
from model_service.config.strategies import StrategyDefinition, strategies_from
from model_service.contracts.types import Side
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import POSITION_SHARE, Acting, action_rate
from model_service.models.features import FEATURE_NAMES
from model_service.models.kelly import kelly_floor, kelly_share, odds
from model_service.policies.base import Proposal
from model_service.policies.model import ModelPolicy
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.sizing import sized
from model_service.services.decision import amounts_of
from tests.support.builders import snapshot, strategy
from tests.unit.test_policies import FixedModel

BOUNDED = Calibration(
    "constant", 0.5, 0.006, -0.004, 400, bound_probabilities=(0.4, 0.6, 0.8), lower_bounds=(0.3, 0.55, 0.7)
)
"""b = 1.5, break-even 0.4."""
PROBABILITIES = st.floats(0.0, 1.0)


def kelly(**changes: Any) -> StrategyDefinition:
    values = {"sizing": "kelly", "capital_amount": Decimal(4000), "kelly_fraction": 0.5, **changes}
    return strategy(**values)


def made(sizing: Sizing, **changes: Any) -> StrategyDefinition:
    return kelly(**changes) if sizing == "kelly" else strategy(sizing=sizing, **changes)


def proposal(
    definition: StrategyDefinition, buy: float, sell: float, share: float = 0.0, calibration: Calibration = BOUNDED
) -> Proposal:
    """What a version with this calibration proposes, with this signed share of the position limit in hand."""
    model = FixedModel((buy, sell), (0.0, 0.0), 0.5)
    model.calibration = calibration
    features = np.zeros(len(FEATURE_NAMES), dtype=np.float32)
    features[POSITION_SHARE] = share
    return ModelPolicy(model, "v1").propose(definition, snapshot(), features, 5.0)  # type: ignore[arg-type]


@given(
    sizing=st.sampled_from(["fixed", "confidence", "kelly"]),
    buy=PROBABILITIES,
    sell=PROBABILITIES,
    share=st.floats(-1.0, 1.0, width=32),
    hysteresis=st.sampled_from([0.0, 0.1]),
    cents=st.tuples(st.integers(1, 200_000), st.integers(0, 200_000)),
    position=st.floats(-12_000, 12_000),
)
def test_every_amount_lies_between_the_bounds_to_the_cent(
    sizing: Sizing,
    buy: float,
    sell: float,
    share: float,
    hysteresis: float,
    cents: tuple[int, int],
    position: float,
) -> None:
    least, most = Decimal(cents[0]) / 100, Decimal(sum(cents)) / 100
    definition = made(sizing, minimum_amount=least, maximum_amount=most, hysteresis=hysteresis)
    proposed = proposal(definition, buy, sell, share)
    assert proposed.sizing is not None
    amounts = amounts_of(definition, proposed, Decimal(-1), position)
    for side in Side:
        asked = proposed.sizing(side).amount
        assert least <= amounts[side] <= asked <= most
        assert asked == asked.quantize(Decimal("0.01"))
        if amounts[side] > least:
            after = abs(position + side.sign * float(amounts[side]))
            assert after <= max(10_000, abs(position)), "it stays within the position limit, or reduces the position"


@given(sizing=st.sampled_from(["fixed", "confidence", "kelly"]), pair=st.tuples(PROBABILITIES, PROBABILITIES))
def test_a_larger_probability_never_asks_for_less(sizing: Sizing, pair: tuple[float, float]) -> None:
    definition = made(sizing)
    rule = Acting.of(definition).rule(BOUNDED)
    small, large = (
        sized(definition, BOUNDED, rule, probability, is_chosen=probability >= rule.floor).amount
        for probability in sorted(pair)
    )
    assert small <= large


@given(
    sizing=st.sampled_from(["fixed", "confidence", "kelly"]),
    buy=PROBABILITIES,
    sell=PROBABILITIES,
    share=st.floats(-1.0, 1.0, width=32),
    exploration=st.floats(0.01, 1.0),
)
def test_a_side_that_the_model_would_not_take_explores_at_the_least_amount(
    sizing: Sizing, buy: float, sell: float, share: float, exploration: float
) -> None:
    definition = made(sizing, hysteresis=0.05, exploration_rate=exploration, model_amount=Decimal(900))
    proposed = proposal(definition, buy, sell, share)
    assert proposed.sizing is not None
    rate = action_rate(definition, 5.0)
    exploring = rate * exploration / 2
    for side in Side:
        drawn = proposed.probabilities.of(side)
        assert drawn >= exploring - 1e-15, "no side is ever under its share of the exploration"
        if proposed.sizing(side).rule == "exploring":
            assert drawn == pytest.approx(exploring)
            assert proposed.sizing(side).amount == Decimal(100)
        else:
            assert drawn == pytest.approx(exploring + rate * (1 - exploration))
    assert sum(one.rule != "exploring" for one in map(proposed.sizing, Side)) <= 1


def test_confidence_is_linear_from_the_floor_to_certainty() -> None:
    definition = strategy(action_threshold=0.6)
    rule = Acting.of(definition).rule(BOUNDED)
    amounts = [sized(definition, BOUNDED, rule, p, is_chosen=True).amount for p in (0.6, 0.7, 0.8, 1.0)]
    assert amounts == [Decimal("100.00"), Decimal("325.00"), Decimal("550.00"), Decimal("1000.00")]


def test_a_stated_amount_is_the_least_one_unless_it_is_set() -> None:
    assert sized_buy(strategy(sizing="fixed")) == Decimal(100)
    assert sized_buy(strategy(sizing="fixed", model_amount=Decimal("250.5"))) == Decimal("250.50")


def sized_buy(definition: StrategyDefinition, probability: float = 0.8) -> Decimal:
    proposed = proposal(definition, probability, 0.1)
    assert proposed.sizing is not None
    assert proposed.sizing(Side.BUY).rule == definition.sizing
    return proposed.sizing(Side.BUY).amount


@pytest.mark.parametrize(
    ("probability", "low", "share"),
    [
        (0.8, 0.7, 0.5),  # 0.7 - 0.3 / 1.5
        (0.6, 0.55, 0.25),  # 0.55 - 0.45 / 1.5
        (0.7, 0.625, 0.375),  # between the two: 0.625 - 0.375 / 1.5
        (0.9, 0.7, 0.5),  # level beyond the last bound
        (0.45, 0.3625, 0.0),  # 0.3625 - 0.6375 / 1.5 is under 0
        (0.2, 0.2, 0.0),  # a bound is never over the probability
    ],
)
def test_kelly_is_that_of_hand_on_the_lower_bound(probability: float, low: float, share: float) -> None:
    assert BOUNDED.lower_bound_of(probability) == pytest.approx(low, abs=1e-12)
    assert kelly_share(low, odds(BOUNDED)) == pytest.approx(share, abs=1e-12)


def test_kelly_stakes_its_fraction_of_the_capital_within_the_bounds() -> None:
    assert sized_buy(kelly(capital_amount=Decimal(3000))) == Decimal("750.00")  # 0.5 * 0.5 * 3,000
    assert sized_buy(kelly(capital_amount=Decimal(3000)), 0.7) == Decimal("562.50")  # 0.375 * 0.5 * 3,000
    assert sized_buy(kelly(capital_amount=Decimal(80_000))) == Decimal(1000)


def test_a_stake_under_the_least_amount_is_not_made_and_says_so() -> None:
    definition = kelly(capital_amount=Decimal(300))
    proposed = proposal(definition, 0.8, 0.1)
    assert proposed.none_reason == Reason(ReasonCode.STAKE_BELOW_MINIMUM, 75.0, 100.0)
    assert proposed.probabilities.buy == proposed.probabilities.sell, "the side is explored only"
    nothing = proposal(kelly(action_threshold=0.0), 0.5, 0.1)
    assert nothing.none_reason.code is ReasonCode.STAKE_BELOW_MINIMUM
    abstains = proposal(definition, 0.45, 0.1)
    assert abstains.none_reason == Reason(ReasonCode.MODEL_ABSTAINS, 0.45, 0.5)


@given(
    probability=PROBABILITIES,
    least=st.floats(0.0, 0.6),
    win=st.floats(-0.01, 0.02),
    loss=st.floats(-0.02, 0.01),
)
def test_kellys_floor_is_where_the_share_is_reached(probability: float, least: float, win: float, loss: float) -> None:
    calibration = replace(BOUNDED, mean_return_of_wins=win, mean_return_of_losses=loss)
    low = calibration.lower_bound_of(probability)
    assert low is not None
    share, floor = kelly_share(low, odds(calibration)), kelly_floor(calibration, least)
    if share < least - 1e-6 and least > 0:
        assert probability < floor
    if share > least + 1e-6:
        assert probability >= floor


def test_a_version_without_bounds_stakes_the_least_amount() -> None:
    old = Calibration.from_json(b'{"method": "constant", "base_rate": 0.5, "mean_return_of_wins": 0.006, '
                                b'"mean_return_of_losses": -0.004, "rows": 400}')  # fmt: skip
    proposed = proposal(kelly(), 0.8, 0.1, calibration=old)
    assert proposed.sizing is not None
    chosen = proposed.sizing(Side.BUY)
    assert (chosen.rule, chosen.amount, chosen.lower_bound) == ("kelly", Decimal(100), None)
    assert Calibration.from_json(old.to_json()) == old


@pytest.mark.parametrize(
    "bounds",
    [
        {"bound_probabilities": (0.5,), "lower_bounds": ()},
        {"bound_probabilities": (0.5, 0.4), "lower_bounds": (0.1, 0.2)},
        {"bound_probabilities": (0.4, 0.5), "lower_bounds": (0.2, 0.1)},
        {"bound_probabilities": (0.4,), "lower_bounds": (0.41,)},
        {"bound_probabilities": (0.4,), "lower_bounds": (-0.01,)},
        {"bound_probabilities": (1.4,), "lower_bounds": (0.4,)},
    ],
)
def test_bounds_that_cannot_be_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bound"):
        replace(BOUNDED, **bounds)


def test_what_a_sizing_needs_is_asked_for() -> None:
    with pytest.raises(SettingsError, match="MODEL_SIZING is 'kelly'; then TRADING_CAPITAL_AMOUNT is needed"):
        load_settings({"MODEL_SIZING": "kelly"})
    with pytest.raises(SettingsError, match=r"MODEL_AMOUNT is 5000.0; allowed: from WARMUP_MIN_AMOUNT, 100.0, to"):
        load_settings({"MODEL_AMOUNT": "5000"})
    with pytest.raises(ValidationError, match="capital_amount is needed"):
        strategy(sizing="kelly")
    with pytest.raises(ValidationError, match=r"model_amount is 50; allowed: from minimum_amount, 100"):
        strategy(model_amount=Decimal(50))
    environ = {"MODEL_SIZING": "kelly", "TRADING_CAPITAL_AMOUNT": "5000", "MODEL_KELLY_FRACTION": "0.1"}
    (definition,) = strategies_from(load_settings({**environ, "MODEL_ACTION_HYSTERESIS": "0.02"})[0])
    assert (definition.sizing, definition.capital_amount, definition.kelly_fraction) == (
        "kelly",
        Decimal("5000.0"),
        0.1,
    )
    assert definition.hysteresis == 0.02
