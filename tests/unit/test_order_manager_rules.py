"""Whatever the market and the book look like, order-manager takes what is sent, and takes all of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, TickerEvent
from model_service.contracts.signals import TradingSignal, encode_signal
from model_service.contracts.types import Side
from model_service.market.state import AssetMarket
from model_service.policies.exit import LargestOrder
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from model_service.trades.ledger import Lot
from tests.support.builders import NOON, strategy
from tests.support.exit_market import ENTRY, ExitMarket, Step, definitions, step_lists
from tests.support.openings import opening
from tests.support.order_manager_rules import Dropped, accept
from tests.support.strategies import SIDES
from tests.unit.test_signal_generation import FakeModes, FakeStore

MAYBE = st.none() | st.floats(allow_nan=True, allow_infinity=True)


def sent(signal: TradingSignal) -> dict[str, Any]:
    return accept(encode_signal(signal), {"trace_id": signal.trace_id})


@dataclass
class Scene:
    """A generator on one asset; `amount` and `quantity` are order-manager's limits."""

    price: float
    spread: float
    volume: float | None
    held: float
    side: Side
    seed: int
    amount: float | None
    quantity: float | None
    store: FakeStore = field(default_factory=FakeStore)

    async def run(self) -> None:
        market = AssetMarket("BTCUSDT", 60)
        limits = GenerationLimits(
            guards=GuardLimits(
                60.0,
                skip_if_open_order=False,
                opposite_orders_only=False,
                order_amount=self.amount or float("inf"),
                order_quantity=self.quantity or float("inf"),
            ),
            tick_seconds=5.0, expiry_seconds=30.0, rate_per_minute=6000.0, burst=100, none_sample_rate=0.5,
            seed=str(self.seed), statistics_refresh_seconds=60.0, largest_order=self.largest,
        )  # fmt: skip
        if self.held:
            self.store.lots = {("momentum_v1", "BTCUSDT"): [self.lot()]}
        modes: Any = FakeModes()
        eager = strategy(signals_per_minute=120.0)
        source = SignalGenerator(
            StrategyRoster.of([eager]), {"BTCUSDT": market}, modes, self.store, SeededIdentifiers(1), limits
        )
        for tick in range(6):
            now = NOON + timedelta(seconds=5 * tick)
            gap = self.price * self.spread / 200
            market.apply(TickerEvent("BTCUSDT", now, last_price=self.price, volume_24h=self.volume))
            market.apply(BookEvent("BTCUSDT", now, self.price - gap, 2.0, self.price + gap, 1.0, is_snapshot=True))
            await source.step(now)

    @property
    def largest(self) -> LargestOrder:
        limits = [None if one is None else Decimal(repr(one)) for one in (self.amount, self.quantity)]
        return LargestOrder(*limits)

    def lot(self) -> Lot:
        quantity, price = Decimal(repr(self.held)), Decimal(repr(self.price))
        return Lot(1, "momentum_v1", "BTCUSDT", self.side, UUID(int=1), NOON - timedelta(hours=1), price, quantity,
                   quantity, Decimal(0), 1)  # fmt: skip


SCENES = st.builds(
    Scene,
    price=st.sampled_from([0.00012, 0.7, 150.0, 97_250.5]) | st.floats(1e-4, 1e6),
    spread=st.sampled_from([-0.5, 0.0, 0.01, 0.1, 3.0]),
    volume=st.none() | st.floats(0, 1e12),
    held=st.sampled_from([0.0, 0.001, 3.0, 40_000.0]),
    side=SIDES,
    seed=st.integers(0, 100),
    amount=st.none() | st.sampled_from([500.0, 1000.0, 5000.0]),
    quantity=st.none() | st.sampled_from([1.0, 2.0]),
)


@settings(max_examples=60, deadline=None)
@given(SCENES)
async def test_everything_that_is_sent_is_taken_as_it_is(scene: Scene) -> None:
    await scene.run()
    assume(scene.quantity is None or scene.quantity * scene.price >= 10)
    for decided in scene.store.signals:
        taken = sent(decided.signal)
        assert taken["amount"] >= 10.0 - 1e-9, "less would be inflated to the exchange's minimum"
        if scene.amount is not None:
            assert taken["amount"] <= scene.amount, "more would be cut"
        if scene.quantity is not None:
            assert taken["amount"] / taken["market_data_snapshot"]["price"] <= scene.quantity * (1 + 1e-9)


async def test_an_exit_in_a_crossed_book_is_not_lost() -> None:
    scene = Scene(150.0, -0.5, None, 3.0, Side.BUY, 1, None, None)
    await scene.run()
    (first, *_) = scene.store.signals
    assert first.intent == "exit"
    assert "spread" not in sent(first.signal)["market_data_snapshot"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("asset", "BTC/USDT"), ("asset", "BTC"), ("amount", Decimal("0.005")), ("confidence", 1.2),
        ("strategy_id", "x" * 101), ("model_version", "v" * 51), ("market_data_snapshot", {"price": 1.0, "spread": -1}),
        ("market_data_snapshot", {"price": 0}), ("market_data_snapshot", {}),
    ],
)  # fmt: skip
def test_the_rules_find_what_order_manager_drops(name: str, value: Any) -> None:
    good = opening(1).signal
    assert sent(good)["asset"] == "BTCUSDT"
    with pytest.raises(Dropped):
        sent(replace(good, **{name: value}))


TRACE = Decimal("1e-20")
LARGEST = LargestOrder(amount=Decimal(60), quantity=Decimal("0.9"))


@settings(max_examples=200, deadline=None)
@given(definition=definitions(), steps=step_lists(), side=SIDES)
def test_no_exit_is_larger_than_order_manager_takes_and_none_leaves_dust(
    definition: Any, steps: list[Step], side: Side
) -> None:
    market = ExitMarket(definition, side, entry=None, largest=LARGEST)
    for step in steps:
        under_way = sum(market.orders, Decimal(0))
        open_before = market.quantity
        proposal = market.step(Step(step.price, step.opens, Decimal(0), False)).proposal
        if proposal is not None:
            assert proposal.amount <= Decimal(60)
            assert proposal.quantity <= Decimal("0.9")
            assert proposal.quantity * step.price >= definition.exchange_minimum_amount
            left = open_before + step.opens - under_way - proposal.quantity
            assert abs(left) < TRACE or under_way or left * step.price >= definition.exchange_minimum_amount
        market.work(step)


@settings(max_examples=100, deadline=None)
@given(quantity=st.decimals(Decimal("0.3"), Decimal(6), places=3), side=SIDES, amount=st.sampled_from([25, 60, 100]))
def test_a_stop_of_a_large_position_goes_on_until_it_is_closed(quantity: Decimal, side: Side, amount: int) -> None:
    definition = strategy(stop_loss_percent=2.0)
    market = ExitMarket(definition, side, largest=LargestOrder(amount=Decimal(amount)))
    market.open(quantity, ENTRY)
    worse, better = ENTRY * (1 - Decimal("0.03") * side.sign), ENTRY
    price = worse
    for _ in range(60):
        if not market.quantity:
            break
        market.step(Step(price, Decimal(0), Decimal(1), True))
        price = better  # the stop has begun: it goes on wherever the price is by then
    assert market.quantity == 0
    assert len(market.asked) >= quantity * min(worse, better) / amount
