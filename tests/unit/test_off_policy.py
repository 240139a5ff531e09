"""Values of a policy from the draws of another one, held against the truth of a simulated market."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from model_service.learning.off_policy import LoggedDraws, OffPolicyValue, effective_sample_size, off_policy_value

RATE, EXPLORATION = 0.3, 0.1
EDGE, COST = 0.02, 0.005
DRAWS = 200_000
TICK_US, HORIZON_US = 5_000_000, 900_000_000


def market(seed: int = 2, stored_share: float = 0.25, masked_share: float = 0.0) -> LoggedDraws:
    """A state of -1, 0 or 1; a trade on its side earns EDGE, on the other loses it, both cost COST.

    The logging policy leans to the wrong side and acts at RATE; of its draws of `none` only a share is stored. The
    candidate takes the state's side, and abstains at 0. In a share of the draws guards refuse to buy.
    """
    rng = np.random.default_rng(seed)
    state = rng.integers(-1, 2, DRAWS)
    leaning = RATE * np.where(state > 0, 0.3, 0.6)
    sell = RATE - leaning
    buy = np.where(rng.random(DRAWS) < masked_share, 0.0, leaning)
    drawn = rng.random(DRAWS)
    actions = np.where(drawn < buy, 1, np.where(drawn < buy + sell, -1, 0)).astype(np.int8)
    rewards = np.where(actions != 0, actions * state * EDGE - COST + rng.normal(0, 0.01, DRAWS), 0.0)
    stored = (actions != 0) | (rng.random(DRAWS) < stored_share)
    draws = LoggedDraws(
        decided_us=np.arange(DRAWS, dtype=np.int64) * TICK_US,
        actions=actions,
        traded=actions != 0,
        probability_buy=buy,
        probability_sell=sell,
        probability_none=1.0 - buy - sell,
        sample_rates=np.where(actions != 0, 1.0, stored_share),
        rewards=rewards,
        chosen=state.astype(np.int8),
        expected_buy=np.asarray(state * EDGE - COST, dtype=np.float64),
        expected_sell=np.asarray(-state * EDGE - COST, dtype=np.float64),
    )
    return draws.take(stored)


# Where it chooses: its side at 1 - exploration / 2, the other at exploration / 2 of all trades; two states of three.
PER_TRADE = (1 - EXPLORATION) * EDGE - COST
# Where it abstains it still explores, for the cost alone.
PER_DECISION = RATE * (2 / 3 * PER_TRADE + 1 / 3 * EXPLORATION * -COST)


def value(draws: LoggedDraws) -> OffPolicyValue:
    return off_policy_value(draws, EXPLORATION, HORIZON_US)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_after_a_change_of_the_rate_values_are_those_of_the_rate_that_is_set_now(rate: float) -> None:
    """Half of the draws were logged at RATE, the others at a sixth of it; the strategy runs at neither."""
    eager, draws = market(seed=3), market(seed=2)
    slow = np.random.default_rng(5).random(len(draws)) < 1 / 6
    # What a slower strategy lets go is a draw of `none`, of which a share is stored as of all of them.
    gone = (draws.actions != 0) & ~slow
    quiet = replace(
        draws, decided_us=draws.decided_us + DRAWS * TICK_US,
        actions=np.where(gone, 0, draws.actions).astype(np.int8), traded=draws.traded & ~gone,
        rewards=np.where(gone, 0.0, draws.rewards),
        probability_buy=draws.probability_buy / 6, probability_sell=draws.probability_sell / 6,
        probability_none=1 - (draws.probability_buy + draws.probability_sell) / 6,
        sample_rates=np.where(gone, 0.25, draws.sample_rates),
    )  # fmt: skip
    quiet = quiet.take(~gone | (np.random.default_rng(6).random(len(draws)) < 0.25))
    both = LoggedDraws(
        **{one.name: np.concatenate((getattr(eager, one.name), getattr(quiet, one.name))) for one in fields(eager)}
    )
    found = off_policy_value(both, EXPLORATION, HORIZON_US, rate)
    assert found.per_decision.value == pytest.approx(PER_DECISION * rate / RATE, rel=0.05)
    assert found.doubly_robust.value == pytest.approx(PER_DECISION * rate / RATE, rel=0.05)
    assert found.per_trade.value == pytest.approx(PER_TRADE, rel=0.03)
    unknown = off_policy_value(both, EXPLORATION, HORIZON_US)
    assert unknown.per_decision.value == pytest.approx(PER_DECISION, rel=0.05), (
        "the largest one, of a time that is gone"
    )


def test_values_are_the_true_ones() -> None:
    found = value(market())
    assert found.per_trade.value == pytest.approx(PER_TRADE, rel=0.02)
    assert found.per_decision.value == pytest.approx(PER_DECISION, rel=0.03)
    assert found.doubly_robust.value == pytest.approx(PER_DECISION, rel=0.02)
    assert found.per_trade.lower(0.99) < PER_TRADE < found.per_trade.upper(0.99)
    assert found.per_decision.lower(0.99) < PER_DECISION < found.per_decision.upper(0.99)
    # (2 (0.3 - 0.7) + 0) / 3 of the edge on state 1, 0.2 of it the wrong way on state -1, and every trade costs.
    assert found.logged_per_trade.value == pytest.approx(-0.6 / 3 * EDGE - COST, rel=0.02)
    assert found.logged_per_decision.value == pytest.approx(RATE * found.logged_per_trade.value, rel=0.02)


def test_a_wrong_model_of_returns_does_not_mislead_the_doubly_robust_value() -> None:
    draws = market()
    wrong = replace(draws, expected_buy=np.full(len(draws), 0.05), expected_sell=np.full(len(draws), -0.02))
    assert value(wrong).doubly_robust.value == pytest.approx(PER_DECISION, rel=0.15)


def test_a_right_model_of_returns_makes_it_surer() -> None:
    found = value(market())
    assert found.doubly_robust.standard_error < found.per_decision.standard_error


def test_forgetting_the_draws_of_none_would_give_many_times_the_value() -> None:
    draws = market()
    trades_only = value(draws.take(draws.actions != 0))
    assert trades_only.per_decision.value > 4 * PER_DECISION
    assert trades_only.per_trade.value == value(draws).per_trade.value


def test_forgetting_their_sample_rate_would_too_little() -> None:
    draws = market()
    wrong = value(replace(draws, sample_rates=np.ones(len(draws))))
    assert wrong.per_decision.value > 1.8 * PER_DECISION


def test_a_side_that_guards_refused_is_refused_to_the_candidate() -> None:
    """Half of the time it may not buy: of its buys and of its explorations that way half remain."""
    found = value(market(masked_share=0.5))
    chosen, other = 1 - EXPLORATION / 2, EXPLORATION / 2
    right, wrong = EDGE - COST, -EDGE - COST
    buying = 0.5 * chosen, other
    selling = chosen, 0.5 * other
    earned = sum(sides[0] * right + sides[1] * wrong for sides in (buying, selling))
    assert found.unusable == 0
    assert found.per_trade.value == pytest.approx(earned / sum(buying + selling), rel=0.02)
    explored = (other + 0.5 * other) * -COST
    assert found.per_decision.value == pytest.approx(RATE * (earned + explored) / 3, rel=0.03)


def test_unfilled_openings_are_decisions_and_no_trades() -> None:
    draws = market()
    unfilled = draws.traded & (np.arange(len(draws)) % 2 == 0)
    found = value(replace(draws, traded=draws.traded & ~unfilled, rewards=np.where(unfilled, 0.0, draws.rewards)))
    assert found.per_trade.value == pytest.approx(PER_TRADE, rel=0.03)
    assert found.per_decision.value == pytest.approx(PER_DECISION / 2, rel=0.05)


def test_what_cannot_be_a_probability_is_left_out_and_counted() -> None:
    draws = market()
    buy = draws.probability_buy.copy()
    buy[:5] = [np.nan, -0.1, 1.5, 0.9, np.inf]
    found = value(replace(draws, probability_buy=buy))
    assert found.unusable == 5
    assert found.draws == len(draws) - 5
    assert found.per_trade.value == pytest.approx(PER_TRADE, rel=0.02)


def test_an_action_that_had_no_chance_is_left_out() -> None:
    draws = market()
    first = int(np.flatnonzero(draws.actions > 0)[0])
    buy, none = draws.probability_buy.copy(), draws.probability_none.copy()
    none[first], buy[first] = none[first] + buy[first], 0.0
    assert value(replace(draws, probability_buy=buy, probability_none=none)).unusable == 1


def test_effective_sample_size_by_hand() -> None:
    assert effective_sample_size(np.ones(7)) == 7
    assert effective_sample_size(np.array([1.0, 0.0, 0.0])) == 1
    assert effective_sample_size(np.array([3.0, 1.0])) == 1.6
    assert effective_sample_size(np.zeros(3)) == 0


def test_no_draws_at_all() -> None:
    empty = value(market().take(np.zeros(0, dtype=np.intp)))
    assert (empty.draws, empty.trades, empty.per_trade_ess) == (0, 0, 0.0)
    assert np.isnan(empty.per_trade.value)
    assert not empty.overlaps
