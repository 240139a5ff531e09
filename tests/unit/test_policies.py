"""Policies: probabilities that add up, stay over their floors, and follow the model."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.models.artifact import SidePrediction
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import action_rate
from model_service.models.features import FEATURE_NAMES
from model_service.policies.base import ActionProbabilities
from model_service.policies.exit import ExitProposal, decide_exit
from model_service.policies.exit_state import ExitCause
from model_service.policies.model import ModelPolicy
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.warmup import WarmupPolicy, buy_leaning
from model_service.trades.ledger import Lot
from tests.support.builders import NOON, snapshot, strategy

FEATURES = np.zeros(len(FEATURE_NAMES), dtype=np.float32)


class FixedModel:
    """Says the same of every row: buy first, sell second."""

    def __init__(self, probability: tuple[float, float], expected: tuple[float, float], break_even: float) -> None:
        self.calibration = Calibration("constant", 0.5, 1.0 - break_even, -break_even, 100)
        self._answer = SidePrediction(probability, expected)

    def predict_sides(self, features: Any) -> SidePrediction:
        assert features.shape == FEATURES.shape
        return self._answer


def model_policy(
    probability: tuple[float, float], expected: tuple[float, float], break_even: float = 0.5
) -> ModelPolicy:
    return ModelPolicy(FixedModel(probability, expected, break_even), "v3")  # type: ignore[arg-type]


@given(
    imbalance=st.one_of(st.floats(-1, 1), st.just(float("nan"))),
    move=st.one_of(st.floats(-0.1, 0.1), st.just(float("nan"))),
    randomness=st.floats(0, 1),
    floor=st.floats(0.01, 0.5),
)
def test_warmup_never_goes_under_its_floor(imbalance: float, move: float, randomness: float, floor: float) -> None:
    chosen = strategy(randomness=randomness, probability_floor=floor)
    market = snapshot(book_imbalance=imbalance, indicators={"return_5m": move, "bollinger_b": move})
    proposal = WarmupPolicy().propose(chosen, market, FEATURES, 5.0)
    rate = action_rate(chosen, 5.0)
    for side in Side:
        assert proposal.probabilities.of(side) >= rate * floor - 1e-12
    assert proposal.probabilities.buy + proposal.probabilities.sell == pytest.approx(rate)
    assert proposal.probabilities.none == pytest.approx(1 - rate)


def test_full_randomness_is_a_coin() -> None:
    proposal = WarmupPolicy().propose(strategy(randomness=1.0), snapshot(book_imbalance=1.0), FEATURES, 5.0)
    assert proposal.probabilities.buy == pytest.approx(proposal.probabilities.sell)


def test_heuristics_lean_with_the_book() -> None:
    assert buy_leaning(snapshot(book_imbalance=0.8)) > 0.7
    assert buy_leaning(snapshot(book_imbalance=-0.8)) < 0.3
    assert buy_leaning(snapshot(book_imbalance=float("nan"), volatility=float("nan"))) == 0.5


def test_signals_per_minute_is_the_strategys_over_all_assets() -> None:
    two = strategy(assets=("BTCUSDT", "ETHUSDT"), signals_per_minute=6.0)
    assert action_rate(two, 5.0) * 2 * 12 == pytest.approx(6.0)


def test_the_model_acts_on_the_side_with_the_better_expectation() -> None:
    proposal = model_policy((0.4, 0.7), (-0.001, 0.002)).propose(strategy(), snapshot(), FEATURES, 10.0)
    rate = action_rate(strategy(), 10.0)
    assert proposal.probabilities.sell == pytest.approx(rate * (0.95 + 0.025))
    assert proposal.probabilities.buy == pytest.approx(rate * 0.025)
    assert proposal.confidence[Side.SELL] == 0.7
    assert proposal.model_version == "v3"


@pytest.mark.parametrize(
    ("probability", "break_even", "reason"),
    [
        ((0.45, 0.3), 0.4, Reason(ReasonCode.MODEL_ABSTAINS, 0.45, 0.5)),
        ((0.55, 0.3), 0.58, Reason(ReasonCode.MODEL_ABSTAINS, 0.55, 0.58)),
    ],
)
def test_the_model_abstains_and_says_why(probability: tuple[float, float], break_even: float, reason: Reason) -> None:
    proposal = model_policy(probability, (0.001, -0.001), break_even).propose(strategy(), snapshot(), FEATURES, 10.0)
    assert proposal.none_reason == reason
    assert proposal.probabilities.buy == proposal.probabilities.sell
    assert proposal.probabilities.buy > 0, "exploration keeps every side possible"


def test_masked_probability_goes_to_none() -> None:
    masked = ActionProbabilities(0.3, 0.2).masked({Side.BUY: Reason(ReasonCode.OPEN_ORDER)})
    assert (masked.buy, masked.sell) == (0.0, 0.2)
    assert masked.none == pytest.approx(0.8)


def lot(side: Side, *, age_seconds: float = 10.0, price: str = "100", remaining: str = "2") -> Lot:
    return Lot(
        lot_id=1,
        strategy_id="momentum_v1",
        asset="BTCUSDT",
        side=side,
        signal_id=UUID(int=1),
        opened_at=NOON - timedelta(seconds=age_seconds),
        entry_price=Decimal(price),
        quantity=Decimal("2"),
        remaining_quantity=Decimal(remaining),
        entry_fees=Decimal(0),
    )


def propose_exit(definition: StrategyDefinition, lots: list[Lot], price: float, now: datetime) -> ExitProposal | None:
    return decide_exit(definition, lots, None, (), price, now).proposal


@pytest.mark.parametrize(
    ("side", "price", "age", "cause"),
    [
        (Side.BUY, 103.0, 10.0, ExitCause.TAKE_PROFIT),
        (Side.BUY, 98.0, 10.0, ExitCause.STOP_LOSS),
        (Side.SELL, 97.0, 10.0, ExitCause.TAKE_PROFIT),
        (Side.SELL, 102.0, 10.0, ExitCause.STOP_LOSS),
        (Side.BUY, 100.5, 300.0, ExitCause.HORIZON),
    ],
)
def test_exits_at_each_barrier(side: Side, price: float, age: float, cause: ExitCause) -> None:
    proposal = propose_exit(strategy(), [lot(side, age_seconds=age)], price, NOON)
    assert proposal is not None
    assert (proposal.side, proposal.cause, proposal.quantity) == (side.opposite, cause, Decimal(2))


def test_no_exit_between_the_barriers() -> None:
    assert propose_exit(strategy(), [lot(Side.BUY)], 101.0, NOON) is None


def test_only_lots_that_are_due_are_closed() -> None:
    lots = [lot(Side.BUY, age_seconds=400.0, remaining="0.5"), replace(lot(Side.BUY), lot_id=2)]
    proposal = propose_exit(strategy(), lots, 100.0, NOON)
    assert proposal is not None
    assert proposal.quantity == Decimal("0.5")


def test_a_barrier_that_does_not_exist_never_exits() -> None:
    open_ended = strategy(take_profit_percent=None, stop_loss_percent=None)
    assert propose_exit(open_ended, [lot(Side.BUY)], 1.0, NOON) is None
    assert propose_exit(open_ended, [lot(Side.BUY)], 1e6, NOON) is None
