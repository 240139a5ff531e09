"""No guard of openings, no halt, no limit and no fault of them ever holds an exit back that is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.types import Side
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.balances import Balance, Balances
from model_service.services.conditions import Conditions
from model_service.services.decision_pass import GenerationLimits
from model_service.services.halts import Halt
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import OpenOrder
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore, held, market

NAME = "momentum_v1"


@dataclass
class Weather:
    """Conditions as a test sets them, a fault included."""

    conditions: Conditions
    fails: type[Exception] | None

    async def look(self, strategy_ids: Iterable[str], prices: Mapping[str, float], now: datetime) -> Conditions:
        if self.fails is not None:
            raise self.fails("what openings depend on cannot be read")
        return self.conditions


HALTS = st.lists(
    st.builds(
        Halt, st.just(1), st.sampled_from([None, NAME, "b"]), st.sampled_from(["manual", "loss_limit"]), st.just(""),
        st.just("http"), st.sampled_from([{}, {"loss": 5.0, "limit": 1.0}]), st.just(NOON),
    ),
    max_size=3,
)  # fmt: skip
BALANCE = st.none() | st.builds(
    Balance, st.floats(-1e9, 1e9), st.integers(-100, 10**6).map(lambda age: NOON - timedelta(seconds=age))
)
WEATHER = st.builds(
    Weather,
    st.builds(Conditions, HALTS, st.builds(Balances, BALANCE, BALANCE)),
    st.none() | st.sampled_from([ValueError, ArithmeticError, KeyError]),
)
GUARDS = st.builds(
    GuardLimits, st.just(60.0), st.booleans(), st.booleans(), balance_share=st.floats(0, 1),
    balance_max_age_seconds=st.floats(0, 60), order_amount=st.floats(0, 1000), order_quantity=st.floats(0, 1),
)  # fmt: skip
ORDERS = st.lists(
    st.builds(OpenOrder, st.sampled_from([None, NAME, "b"]), st.just("BTCUSDT"), st.sampled_from(Side), st.none()),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    weather=WEATHER,
    guards=GUARDS,
    orders=ORDERS,
    refuses=st.none() | st.sampled_from([Reason(code) for code in ReasonCode]),
    mode=st.sampled_from([None, Reason(ReasonCode.PAUSED), Reason(ReasonCode.WARMUP_DISABLED)]),
    rate=st.sampled_from([0.001, 60.0]),
    side=st.sampled_from(Side),
)
async def test_an_exit_that_is_due_is_sent_whatever_forbids_openings(
    weather: Weather,
    guards: GuardLimits,
    orders: list[OpenOrder],
    refuses: Reason | None,
    mode: Reason | None,
    rate: float,
    side: Side,
) -> None:
    store = FakeStore(lots={(NAME, "BTCUSDT"): [held(side)]}, orders=orders, refuses=refuses)
    limits = GenerationLimits(
        guards=guards, tick_seconds=5.0, expiry_seconds=30.0, rate_per_minute=rate, burst=1, none_sample_rate=0.5,
        seed="7", statistics_refresh_seconds=60.0,
    )  # fmt: skip
    modes: Any = FakeModes({NAME: mode} if mode else {})
    conditions: Any = weather
    pair = [strategy(signals_per_minute=600.0), strategy(strategy_id="b", signals_per_minute=600.0)]
    source = SignalGenerator(
        StrategyRoster.of(pair),
        {"BTCUSDT": market()},
        modes,
        store,
        SeededIdentifiers(1),
        limits,
        conditions=conditions,
    )
    await source.step(NOON)
    exits = [one for one in store.signals if one.intent == "exit"]
    assert [(one.signal.strategy_id, one.signal.side) for one in exits] == [(NAME, side.opposite)]
    assert exits[0].signal.amount >= Decimal("499.99")
    assert source.ticks == len(store.signals) + len(store.silent) == 2


async def test_a_fault_of_the_conditions_is_counted_and_opens_nothing() -> None:
    store = FakeStore()
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False), tick_seconds=5.0,
        expiry_seconds=30.0, rate_per_minute=60.0, burst=1, none_sample_rate=0.5, seed="7",
        statistics_refresh_seconds=60.0,
    )  # fmt: skip
    modes: Any = FakeModes()
    conditions: Any = Weather(Conditions(), ValueError)
    eager = strategy(signals_per_minute=600.0)
    source = SignalGenerator(
        StrategyRoster.of([eager]), {"BTCUSDT": market()}, modes, store, SeededIdentifiers(1), limits, conditions
    )
    await source.step(NOON)
    assert store.signals == []
    assert [tick.reason.code for tick in store.silent] == [ReasonCode.DECISION_FAILED]


async def test_a_refused_opening_gives_its_token_back_and_is_kept_as_none() -> None:
    store = FakeStore(refuses=Reason(ReasonCode.EXPOSURE_LIMIT, 2.0, 1.0))
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False), tick_seconds=5.0,
        expiry_seconds=30.0, rate_per_minute=0.001, burst=1, none_sample_rate=1.0, seed="7",
        statistics_refresh_seconds=60.0,
    )  # fmt: skip
    modes: Any = FakeModes()
    source = SignalGenerator(
        StrategyRoster.of([strategy(signals_per_minute=600.0)]),
        {"BTCUSDT": market()},
        modes,
        store,
        SeededIdentifiers(1),
        limits,
    )
    for tick in range(10):
        await source.step(NOON + timedelta(seconds=5 * tick))
    assert store.signals == []
    counted = [tick.reason.code for tick in store.silent]
    assert len(counted) == 10
    assert counted.count(ReasonCode.EXPOSURE_LIMIT) > 5, "no rate limit: nothing was sent"
    assert ReasonCode.RATE_LIMITED not in counted
    assert len(store.nones) == 10
    refused = [one for one in store.nones if 0.0 in (one.probabilities.buy, one.probabilities.sell)]
    assert len(refused) == counted.count(ReasonCode.EXPOSURE_LIMIT), "the side that was drawn is out of them"


async def test_strategies_take_turns_in_coming_first() -> None:
    firsts = []
    for tick in range(6):
        store = FakeStore()
        names = ("a", "b", "c")
        trio = [strategy(strategy_id=name, signals_per_minute=600.0) for name in names]
        limits = GenerationLimits(
            guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False), tick_seconds=5.0,
            expiry_seconds=30.0, rate_per_minute=60.0, burst=1, none_sample_rate=0.5, seed="7",
            statistics_refresh_seconds=60.0,
        )  # fmt: skip
        modes: Any = FakeModes(dict.fromkeys(names, Reason(ReasonCode.PAUSED)))
        source = SignalGenerator(
            StrategyRoster.of(trio), {"BTCUSDT": market()}, modes, store, SeededIdentifiers(1), limits
        )
        await source.step(NOON + timedelta(seconds=5 * tick))
        firsts.append(store.silent[0].strategy_id)
        assert {one.strategy_id for one in store.silent} == set(names)
    assert sorted(firsts[:3]) == ["a", "b", "c"]
    assert firsts[3:] == firsts[:3], "the order follows from the time alone"
