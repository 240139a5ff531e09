"""A probability that hovers around the floor does not turn the position to and fro; evaluation knows of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.learning.evaluation import evaluate
from model_service.learning.gate import judge
from model_service.models.decision_rule import POSITION_SHARE, Acting, DecisionRule
from model_service.models.features import FEATURE_NAMES
from model_service.policies.reasons import Reason, ReasonCode
from tests.support.builders import strategy
from tests.support.evaluations import CALIBRATION, block, good, judged
from tests.unit.test_sizing import proposal

HOLDING = DecisionRule(floor=0.5, hysteresis=0.05, flat_share=0.001)


@pytest.mark.parametrize(
    ("buy", "sell", "share", "chosen"),
    [
        (0.52, 0.48, 0.0, 1),  # from flat the floor is enough
        (0.52, 0.48, 0.3, 1),  # and to add to a position
        (0.52, 0.48, -0.3, 0),  # against it the margin is wanted
        (0.55, 0.45, -0.3, 1),  # and suffices
        (0.48, 0.52, 0.3, 0),
        (0.45, 0.55, 0.3, -1),
        (0.48, 0.52, -0.3, -1),
        (0.52, 0.48, -0.0009, 1),  # what cannot be sold is no position
        (0.52, 0.48, float("nan"), 1),
        (0.54, 0.53, -0.3, 0),  # the worse side does not take the place of the better one
    ],
)
def test_only_a_reversal_has_to_clear_the_margin(buy: float, sell: float, share: float, chosen: int) -> None:
    assert HOLDING.chosen_sign(buy, sell, share) == chosen


PROBABILITY = st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.55, 0.45, 0.52]))


@given(
    buy=PROBABILITY,
    sell=PROBABILITY,
    share=st.one_of(st.floats(-1, 1, width=32), st.just(float("nan"))),
    hysteresis=st.sampled_from([0.0, 0.05, 0.3]),
    logged=st.sampled_from([1, -1]),
)
def test_one_decision_and_rows_of_them_choose_the_same(
    buy: float, sell: float, share: float, hysteresis: float, logged: int
) -> None:
    rule = DecisionRule(floor=0.5, hysteresis=hysteresis, flat_share=0.001)
    features = np.zeros((1, len(FEATURE_NAMES)), dtype=np.float32)
    features[0, POSITION_SHARE] = share
    own, other = (buy, sell) if logged > 0 else (sell, buy)
    rows = rule.chosen_sides(np.array([own]), np.array([other]), np.array([logged], dtype=np.int8), features)
    assert rows[0] == rule.chosen_sign(buy, sell, float(features[0, POSITION_SHARE]))


def test_a_hovering_probability_turns_the_position_to_and_fro_only_without_it() -> None:
    hovering = [0.52, 0.48, 0.51, 0.47, 0.53, 0.49]
    for hysteresis, turns in ((0.0, 5), (0.05, 0)):
        rule, share, sides = DecisionRule(0.5, hysteresis), 0.0, []
        for buy in hovering:
            chosen = rule.chosen_sign(buy, 1 - buy, share)
            if chosen:
                share = 0.3 * chosen
                sides.append(chosen)
        assert int(np.sum(np.diff(sides) != 0)) == turns


def test_the_policy_says_what_the_reversal_had_to_reach() -> None:
    holding = strategy(hysteresis=0.05)
    kept = proposal(holding, 0.52, 0.48, share=-0.3)
    assert kept.none_reason == Reason(ReasonCode.MODEL_ABSTAINS, 0.52, 0.55)
    assert kept.probabilities.buy == kept.probabilities.sell
    turned = proposal(holding, 0.56, 0.44, share=-0.3)
    assert turned.probabilities.buy > turned.probabilities.sell
    assert turned.sizing is not None
    assert (turned.sizing(Side.BUY).margin, turned.sizing(Side.BUY).floor) == (0.05, 0.55)
    assert turned.sizing(Side.SELL).margin == 0.0


def test_what_is_left_of_a_position_is_none_by_the_exchanges_minimum() -> None:
    small = strategy(hysteresis=0.05, exchange_minimum_amount=Decimal(20), maximum_position_amount=Decimal(1000))
    assert Acting.of(small).flat_share == 0.02
    assert proposal(small, 0.52, 0.48, share=-0.019).probabilities.buy > 0.3
    assert proposal(small, 0.52, 0.48, share=-0.021).probabilities.buy < 0.1


def test_a_candidate_is_judged_with_the_margin_that_it_would_have() -> None:
    """At a probability of about 0.7 it clears the floor, and not the margin where the row has a position against it."""
    test = block()
    test.features[:, POSITION_SHARE] = np.where(np.arange(len(test)) % 3 == 0, -0.5, 0.5) * test.side_signs
    free = evaluate(judged(), test)
    reluctant = evaluate(judged(acting=Acting(0.5, hysteresis=0.4)), test)
    against = test.side_signs * test.features[:, POSITION_SHARE] < 0
    assert free.taken[against].any()
    assert not reluctant.taken[against].any()
    assert np.array_equal(free.taken[~against], reluctant.taken[~against])
    assert reluctant.off_policy.per_trade_ess < free.off_policy.per_trade_ess
    said = [
        [one.detail for one in judge(found, 0.75) if one.condition == "trades taken"] for found in (free, reluctant)
    ]
    assert ["against the position" in detail for (detail,) in said] == [False, True]


def test_kelly_enters_what_a_candidate_is_judged_by() -> None:
    bounds = replace(CALIBRATION, bound_probabilities=(0.7,), lower_bounds=(0.68,))
    taken = [
        good(calibration=bounds, acting=Acting(0.5, least_kelly_share=least)).taken.sum() for least in (0.35, 0.37)
    ]
    assert taken[0] > 100, "0.68 - 0.32 is 0.36"
    assert taken[1] == 0
