"""What holds of exits whatever the market does: mirrored for shorts, never loosened, never more than there is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.policies.reasons import ReasonCode
from tests.support.exit_market import ENTRY, ExitMarket, Step, definitions, step_lists
from tests.support.strategies import SIDES

NEGLIGIBLE = Decimal("1e-9")


@settings(max_examples=300, deadline=None)
@given(definition=definitions(exchange_minimum_amount=NEGLIGIBLE), steps=step_lists())
def test_a_mirrored_market_gives_mirrored_exits(definition: StrategyDefinition, steps: list[Step]) -> None:
    long, short = ExitMarket(definition, Side.BUY), ExitMarket(definition, Side.SELL)
    for market in (long, short):
        market.open(Decimal(1), ENTRY)
    for step in steps:
        long.step(step)
        short.step(replace(step, price=2 * ENTRY - step.price))
    assert [(at, side.opposite, *rest) for at, side, *rest in long.asked] == short.asked
    assert [(number, stop and 2 * ENTRY - stop) for number, stop in long.stops] == short.stops


@settings(max_examples=300, deadline=None)
@given(definition=definitions(), steps=step_lists(), side=SIDES)
def test_a_trailing_stop_never_loosens(definition: StrategyDefinition, steps: list[Step], side: Side) -> None:
    # Openings at any price move the mean entry price both ways.
    market = ExitMarket(definition, side, entry=None)
    for step in steps:
        market.step(step)
    for (before_id, before), (after_id, after) in zip(market.stops, market.stops[1:], strict=False):
        if before_id == after_id and before is not None:
            assert after is not None
            assert side.sign * after >= side.sign * before


@settings(max_examples=300, deadline=None)
@given(definition=definitions(), steps=step_lists(), side=SIDES)
def test_exits_never_exceed_the_position_and_leave_no_dust(
    definition: StrategyDefinition, steps: list[Step], side: Side
) -> None:
    market = ExitMarket(definition, side, entry=None)
    for step in steps:
        under_way = sum(market.orders, Decimal(0))
        proposal = market.step(replace(step, fills=Decimal(0), ends=False)).proposal
        if proposal is not None:
            left = market.quantity - under_way - proposal.quantity
            assert left >= 0
            least = definition.exchange_minimum_amount
            assert proposal.quantity * step.price >= least
            assert left == 0 or under_way or left * step.price >= least
        market.work(step)
        assert market.quantity >= 0, "exits alone have turned the position round"


@settings(max_examples=200, deadline=None)
@given(definition=definitions(), steps=step_lists(opens=("0",)), side=SIDES)
def test_exit_attempts_of_one_kind_keep_the_cooldown(
    definition: StrategyDefinition, steps: list[Step], side: Side
) -> None:
    market = ExitMarket(definition, side)
    market.open(Decimal(5), ENTRY)
    for step in steps:
        decision = market.step(step)
        if decision.held is not None and decision.held.code is ReasonCode.EXIT_COOLDOWN:
            assert decision.held.threshold == definition.exits.cooldown_seconds
    protecting = ("stop_loss", "trailing_stop")
    for (before, _, _, first), (after, _, _, second) in zip(market.asked, market.asked[1:], strict=False):
        if second not in protecting or first in protecting:
            assert (after - before).total_seconds() >= definition.exits.cooldown_seconds


@settings(max_examples=200, deadline=None)
@given(definition=definitions(stop_loss_percent=2.0), steps=step_lists(opens=("0",)), side=SIDES)
def test_only_an_exit_that_stops_a_loss_holds_back_another(
    definition: StrategyDefinition, steps: list[Step], side: Side
) -> None:
    market = ExitMarket(definition, side)
    market.open(Decimal(5), ENTRY)
    for step in steps:
        free = market.quantity - sum(market.orders, Decimal(0))
        earlier = market.state.attempted_cause if market.state is not None else None
        proposal = market.step(step).proposal
        lost = side.sign * (step.price - ENTRY) <= -2
        if lost and free * step.price >= definition.exchange_minimum_amount and not (earlier and earlier.protects):
            assert proposal is not None
            assert proposal.cause.protects
