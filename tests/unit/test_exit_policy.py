"""The exit policy case by case: trailing stop, parts, holding time, orders under way, cooldown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model_service.config.exits import ExitParameters
from model_service.contracts.types import Side
from model_service.policies.exit import AMOUNT_UNIT, ExitDecision, decide_exit, quote_amount
from model_service.policies.exit_state import ExitCause, ExitState, settle
from model_service.policies.reasons import Reason, ReasonCode
from tests.support.builders import NOON, strategy
from tests.support.exit_market import ENTRY, TICK, ExitMarket, Step

HALF = ExitParameters(take_profit_part_percent=50)
TRAILING = ExitParameters(trailing_activation_percent=2, trailing_distance_percent=1)


def market(exits: ExitParameters, side: Side = Side.BUY, *, quantity: str = "5", **changes: Any) -> ExitMarket:
    made = ExitMarket(strategy(exits=exits, **{"horizon_seconds": 86_400, **changes}), side)
    made.open(Decimal(quantity), ENTRY)
    return made


def step(price: str, *, fills: str = "1", ends: bool = True) -> Step:
    return Step(Decimal(price), Decimal(0), Decimal(fills), ends)


def after(made: ExitMarket, *prices: str) -> ExitDecision:
    """The last decision of ticks at these prices; what is asked for is filled."""
    return [made.step(step(price)) for price in prices][-1]


def asked(decision: ExitDecision) -> tuple[str, str, float, float | None] | None:
    proposal = decision.proposal
    if proposal is None:
        return None
    return proposal.cause.value, str(proposal.quantity), proposal.value, proposal.threshold


@pytest.mark.parametrize(
    ("side", "prices", "expected"),
    [
        (Side.BUY, ["101.9", "100.5", "99"], None),
        (Side.BUY, ["102", "101.01"], None),
        (Side.BUY, ["102", "101"], ("trailing_stop", "5", 101.0, 101.0)),
        (Side.BUY, ["102", "102.8", "102.5", "101.7"], ("trailing_stop", "5", 101.7, 101.8)),
        (Side.SELL, ["98", "97.2", "97.5", "98.3"], ("trailing_stop", "5", 98.3, 98.2)),
        (Side.SELL, ["98.1", "99.5", "101"], None),
    ],
)
def test_a_trailing_stop_is_armed_and_follows(
    side: Side, prices: Sequence[str], expected: tuple[str, str, float, float | None] | None
) -> None:
    assert asked(after(market(TRAILING, side), *prices)) == expected


def test_a_trailing_stop_without_activation_stands_from_the_entry_on() -> None:
    exits = ExitParameters(trailing_activation_percent=0, trailing_distance_percent=1)
    assert asked(after(market(exits), "99")) == ("trailing_stop", "5", 99.0, 99.0)


def test_a_new_position_starts_with_a_trailing_stop_of_its_own() -> None:
    made = market(TRAILING)
    assert after(made, "102.5", "101").proposal is not None
    assert made.quantity == 0
    made.open(Decimal(1), Decimal(101))
    assert after(made, "100.5").proposal is None
    assert made.state is not None
    assert (made.state.position_id, made.state.best_price, made.state.stop_price) == (2, Decimal(101), None)


def test_a_position_that_flips_forgets_too() -> None:
    made = market(TRAILING)
    after(made, "102.5")
    made.side = Side.SELL
    made.open(Decimal(6), Decimal(102))
    decision = after(made, "102")
    assert decision.proposal is None
    assert decision.state is not None
    assert (decision.state.best_price, decision.state.stop_price) == (Decimal(102), None)


def test_a_part_is_taken_once_and_the_rest_is_left_to_the_other_exits() -> None:
    made = market(HALF)
    assert asked(after(made, "103")) == ("take_profit", "2.5", 3.0, 3.0)
    assert [after(made, price).proposal for price in ("103", "104", "103.5")] == [None] * 3
    assert asked(after(made, "98")) == ("stop_loss", "2.5", -2.0, -2.0)


def test_a_part_that_was_not_filled_at_all_may_be_taken_again() -> None:
    made = market(HALF)
    made.step(step("103", fills="0"))
    assert after(made, "102").proposal is None
    assert asked(after(made, "103")) == ("take_profit", "2.5", 3.0, 3.0)


@pytest.mark.parametrize("exits", [HALF, ExitParameters()])
def test_an_exit_that_has_begun_goes_on_with_the_rest_wherever_the_price_goes(exits: ExitParameters) -> None:
    made = market(exits)
    whole = made.quantity * (1 if exits.take_profit_part_percent is None else Decimal("0.5"))
    made.step(step("103", fills="0.2"))
    second = made.step(step("102", fills="0.5"))
    assert second.proposal is not None
    assert (second.proposal.quantity, second.proposal.continues) == (whole * Decimal("0.8"), True)
    third = made.step(step("100.5"))
    assert third.proposal is not None
    assert (third.proposal.cause, third.proposal.quantity) == (ExitCause.TAKE_PROFIT, whole * Decimal("0.4"))
    assert made.quantity == 5 - whole
    assert after(made, "104").proposal is None


def test_an_exit_that_has_begun_twice_is_not_forgotten_by_an_attempt_without_a_fill() -> None:
    made = market(ExitParameters())
    made.step(step("97", fills="0.5"))
    made.step(step("97", fills="0"))
    assert asked(after(made, "99")) == ("stop_loss", "2.5", -1.0, -2.0)


def test_lots_that_come_later_have_their_own_part() -> None:
    made = market(HALF)
    after(made, "103")
    made.open(Decimal(1), Decimal(103))
    assert after(made, "104").proposal is None
    assert asked(after(made, "106.09")) == ("take_profit", "0.5", 3.0, 3.0)


@pytest.mark.parametrize(("quantity", "closed"), [("0.19", "0.19"), ("0.15", "0.15"), ("0.25", "0.125")])
def test_no_part_and_no_rest_is_under_the_minimum_of_the_exchange(quantity: str, closed: str) -> None:
    # 50 % of 0.19 at 103 is 9.785, under the minimum of 10.
    decision = after(market(HALF, quantity=quantity), "103")
    assert decision.proposal is not None
    assert decision.proposal.quantity == Decimal(closed)


def test_what_is_worth_less_than_the_minimum_is_no_exit_says_so_and_holds_nothing_up() -> None:
    decision = after(market(ExitParameters(), quantity="0.09"), "97")
    assert (decision.proposal, decision.held) == (None, None)
    assert decision.below_minimum == Reason(ReasonCode.EXIT_BELOW_MINIMUM, 8.73, 10.0)
    assert after(market(ExitParameters(), quantity="0.09"), "99").below_minimum is None, "nothing is due"
    assert after(market(ExitParameters(), quantity="0.2"), "97").below_minimum is None


def test_a_rest_of_a_part_under_the_minimum_ends_it() -> None:
    made = market(HALF, quantity="1")
    made.step(step("103", fills="0.9"))
    assert after(made, "103").proposal is None
    assert made.state is not None
    assert (made.state.goal, made.state.parted_lot_ids) == (None, (1,))


def test_the_holding_limit_takes_the_place_of_the_horizon() -> None:
    made = market(ExitParameters(maximum_holding_hours=2), horizon_seconds=300)
    made.now = NOON + timedelta(hours=2) - TICK
    assert after(made, "100").proposal is None
    assert asked(after(made, "100")) == ("maximum_holding", "5", 7200.0, 7200.0)


@pytest.mark.parametrize(
    ("hours", "price", "expected"),
    [
        (0.9, "102", None),
        (12, "100.4", None),
        (12, "100.5", ("holding_profit", "5", 0.5, 0.5)),
        (23.9, "100.05", None),
        (23.9, "100.1", ("holding_profit", "5", 0.1, 0.1)),
    ],
)
def test_the_profit_at_which_a_lot_is_closed_falls_with_its_age(
    hours: float, price: str, expected: tuple[str, str, float, float | None] | None
) -> None:
    made = market(ExitParameters(maximum_holding_hours=24, holding_profit_percent=1.0))
    made.now = NOON + timedelta(hours=hours)
    assert asked(after(made, price)) == expected


def test_an_order_under_way_is_not_doubled() -> None:
    made = market(ExitParameters())
    assert made.step(step("103", fills="0", ends=False)).proposal is not None
    assert made.step(step("104", fills="0", ends=False)).held == Reason(ReasonCode.EXIT_PENDING, 1.0, 0.0)
    assert made.step(step("97", fills="0", ends=False)).held == Reason(ReasonCode.EXIT_PENDING, 1.0, 0.0)


def test_a_stop_closes_what_no_order_of_a_part_covers() -> None:
    made = market(HALF)
    made.step(step("103", fills="0", ends=False))
    assert asked(made.step(step("97", fills="0", ends=False))) == ("stop_loss", "2.5", -3.0, -2.0)
    assert made.step(step("96", fills="0", ends=False)).held == Reason(ReasonCode.EXIT_PENDING, 2.0, 0.0)


def test_an_order_of_unknown_size_covers_everything() -> None:
    made = market(ExitParameters())
    decision = decide_exit(made.definition, made.lots, None, [None], 97.0, NOON)
    assert decision.held == Reason(ReasonCode.EXIT_PENDING, 1.0, 0.0)


def test_attempts_keep_the_cooldown_but_a_stop_does_not_wait_for_a_profit() -> None:
    made = market(ExitParameters(cooldown_seconds=12))
    made.step(step("103", fills="0"))
    assert made.step(step("103", fills="0")).held == Reason(ReasonCode.EXIT_COOLDOWN, 5.0, 12.0)
    assert asked(made.step(step("97", fills="0"))) == ("stop_loss", "5", -3.0, -2.0)
    assert made.step(step("97", fills="0")).held == Reason(ReasonCode.EXIT_COOLDOWN, 5.0, 12.0)
    assert made.step(step("97", fills="0")).held == Reason(ReasonCode.EXIT_COOLDOWN, 10.0, 12.0)
    assert made.step(step("97", fills="0")).proposal is not None


def test_a_clock_that_steps_back_does_not_hold_a_stop() -> None:
    made = market(ExitParameters(cooldown_seconds=12))
    made.step(step("97", fills="0"))
    made.now = NOON - timedelta(hours=1)
    assert made.step(step("97", fills="0")).proposal is not None


@given(lots=st.integers(1, 10_000_000), price=st.integers(1, 10_000_000), places=st.integers(0, 5))
def test_an_amount_buys_the_whole_quantity_and_no_lot_more(lots: int, price: int, places: int) -> None:
    lot, quote = Decimal("0.00001"), Decimal(price).scaleb(-places)
    assume(lot * quote > AMOUNT_UNIT)
    amount = quote_amount(lots * lot, quote)
    for quantity in (amount / quote, Decimal(repr(float(amount) / float(quote)))):
        assert quantity.quantize(lot, ROUND_DOWN) == lots * lot


def test_a_state_of_another_position_is_not_believed() -> None:
    made = market(HALF)
    made.state = ExitState(99, Decimal(1), Decimal(1000), (1,), None, NOON, ExitCause.TAKE_PROFIT)
    assert asked(after(made, "103")) == ("take_profit", "2.5", 3.0, 3.0)


def test_a_goal_survives_while_its_order_is_under_way() -> None:
    made = market(HALF)
    made.step(step("103", fills="0", ends=False))
    assert made.state is not None
    assert settle(made.state, made.lots, pending=True, dust=Decimal(0)) == made.state
    assert settle(made.state, made.lots, pending=False, dust=Decimal(0)) == replace(made.state, goal=None)
