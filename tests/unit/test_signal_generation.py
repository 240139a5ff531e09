"""Every tick becomes a signal or a counted reason, reproducibly, and one strategy cannot silence another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers
from model_service.config.strategy_file import ConfiguredStrategy
from model_service.contracts.market import BookEvent, TickerEvent, TradeEvent
from model_service.contracts.types import Side
from model_service.market.state import AssetMarket
from model_service.policies.base import Policy
from model_service.policies.exit_state import ExitState
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.warmup import WarmupPolicy
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import DecidedSignal, DueTicks, NoneDraw, OpenOrder, RefusedOpening, SilentTick
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from model_service.trades.ledger import Lot
from tests.support.builders import NOON, strategy


class AnswerLost(Exception):
    """The connection broke while a pass was being recorded."""


@dataclass
class FakeStore:
    """What the database would say, and what it was told."""

    lots: Mapping[tuple[str, str], Sequence[Lot]] = field(default_factory=dict)
    orders: Sequence[OpenOrder] = ()
    signals: list[DecidedSignal] = field(default_factory=list)
    nones: list[NoneDraw] = field(default_factory=list)
    silent: list[SilentTick] = field(default_factory=list)
    exits: dict[tuple[str, str], ExitState] = field(default_factory=dict)
    tried: list[DecidedSignal] = field(default_factory=list)
    refuses: Reason | None = None
    fails: bool = False
    takes_effect: bool = False

    async def open_lots(self) -> Mapping[tuple[str, str], Sequence[Lot]]:
        return self.lots

    async def exit_states(self) -> Mapping[tuple[str, str], ExitState]:
        return self.exits

    async def open_orders(self, now: datetime) -> Sequence[OpenOrder]:
        return self.orders

    async def foreign_orders(self) -> Sequence[OpenOrder]:
        return ()

    async def shared_positions(self) -> Mapping[str, float] | None:
        return {}

    async def execution_statistics(self) -> Mapping[tuple[str, str], Any]:
        return {}

    async def record(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw],
        silent: Sequence[SilentTick],
        exit_states: Mapping[tuple[str, str], ExitState] | None = None,
        *,
        prices: Mapping[str, float] | None = None,
        spare: Mapping[UUID, NoneDraw] | None = None,
        due: Mapping[tuple[str, str], Sequence[DueTicks]] | None = None,
    ) -> Sequence[RefusedOpening]:
        self.tried = list(signals)
        refused = [RefusedOpening(one, self.refuses) for one in signals if self.refuses and one.intent != "exit"]
        if not self.fails or self.takes_effect:
            out = {one.decided.signal.signal_id for one in refused}
            self.exits |= exit_states or {}
            self.signals += [one for one in signals if one.signal.signal_id not in out]
            self.nones += [*nones, *(draw for signal_id in out if (draw := (spare or {}).get(signal_id)))]
            self.silent += [*silent, *(_silence(one) for one in refused)]
        if self.fails:
            raise AnswerLost
        return refused

    async def took_effect(self) -> frozenset[UUID]:
        stored = {one.signal.signal_id for one in self.signals}
        return frozenset(one.signal.signal_id for one in self.tried if one.signal.signal_id in stored)


def _silence(refused: RefusedOpening) -> SilentTick:
    signal = refused.decided.signal
    return SilentTick(signal.strategy_id, signal.asset, signal.timestamp, refused.reason)


class BrokenPolicy:
    """Fails on every tick."""

    def propose(self, *_: Any) -> Any:
        raise ValueError("a model that cannot")


@dataclass
class FakeModes:
    """Says who decides."""

    by_strategy: dict[str, Any] = field(default_factory=dict)
    paused: dict[str, str] = field(default_factory=dict)
    is_unsettled: bool = False

    async def settle(self, now: datetime) -> None:
        self.is_unsettled = False

    async def pause(self, strategy_id: str, *, actor: str, reason: str, now: datetime) -> None:
        assert actor == "service"
        self.paused[strategy_id] = reason
        self.by_strategy[strategy_id] = Reason(ReasonCode.PAUSED)

    def policy(self, strategy_id: str, now: datetime) -> Policy | Reason:
        answer: Policy | Reason = self.by_strategy.get(strategy_id, WarmupPolicy())
        return answer

    def mode(self, strategy_id: str) -> str:
        return "paused" if strategy_id in self.paused else "warmup"


def market(asset: str = "BTCUSDT", *, at: datetime = NOON) -> AssetMarket:
    state = AssetMarket(asset, 60)
    state.apply(TickerEvent(asset=asset, at=at, last_price=50_000.0))
    state.apply(BookEvent(asset, at, 49_999.0, 2.0, 50_001.0, 1.0, is_snapshot=True))
    return state


def generator(
    store: FakeStore,
    *strategies: Any,
    modes: FakeModes | None = None,
    rate: float = 600.0,
    seed: str = "7",
    tick_seconds: float = 5.0,
    markets: Mapping[str, AssetMarket] | None = None,
) -> SignalGenerator:
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False),
        tick_seconds=tick_seconds,
        expiry_seconds=30.0,
        rate_per_minute=rate,
        burst=3,
        none_sample_rate=0.5,
        seed=seed,
        statistics_refresh_seconds=60.0,
    )
    fake_modes: Any = modes or FakeModes()
    known = markets or {"BTCUSDT": market(), "ETHUSDT": market("ETHUSDT")}
    return SignalGenerator(StrategyRoster.of(strategies), known, fake_modes, store, SeededIdentifiers(1), limits)


async def run(source: SignalGenerator, ticks: int) -> None:
    for index in range(ticks):
        await source.step(NOON + timedelta(seconds=5 * index))


@settings(max_examples=25, deadline=None)
@given(
    frequency=st.floats(1, 60),
    rate=st.floats(1, 60),
    blocked=st.booleans(),
    seed=st.text(max_size=5),
    ticks=st.integers(1, 25),
)
async def test_every_tick_is_a_signal_or_a_counted_reason(
    frequency: float, rate: float, blocked: bool, seed: str, ticks: int
) -> None:
    orders = [OpenOrder("a", "BTCUSDT", Side.BUY, "open")] if blocked else []
    store = FakeStore(orders=orders)
    both = ("BTCUSDT", "ETHUSDT")
    first = strategy(strategy_id="a", assets=both, signals_per_minute=frequency)
    second = strategy(strategy_id="b", assets=both, signals_per_minute=frequency)
    source = generator(store, first, second, rate=rate, seed=seed)
    await run(source, ticks)
    assert source.ticks == 4 * ticks
    assert source.ticks == len(store.signals) + len(store.silent)


async def test_the_same_seed_decides_the_same() -> None:
    stores = [FakeStore(), FakeStore(), FakeStore()]
    for store, seed in zip(stores, ("7", "7", "8"), strict=True):
        await run(generator(store, strategy(signals_per_minute=6.0), seed=seed), 12)
    assert stores[0].signals == stores[1].signals
    assert stores[0].signals, "something was decided"
    assert stores[0].signals != stores[2].signals


async def test_a_signal_carries_what_was_drawn_from() -> None:
    store = FakeStore()
    await run(generator(store, strategy(signals_per_minute=60.0)), 6)
    decided = store.signals[0]
    assert decided.probabilities.of(decided.signal.side) > 0
    assert len(decided.features) > 0
    assert decided.signal.expires_at - decided.signal.timestamp == timedelta(seconds=30)
    assert decided.signal.is_warmup
    assert Decimal(100) <= decided.signal.amount <= Decimal(1000)
    assert decided.signal.market_data_snapshot["spread"] == pytest.approx(0.004, rel=0.01)


async def test_a_refused_side_moves_its_probability_to_none() -> None:
    store = FakeStore(orders=[OpenOrder("momentum_v1", "BTCUSDT", Side.BUY, "open")])
    await run(generator(store, strategy(signals_per_minute=60.0)), 12)
    assert store.signals == []
    assert {tick.reason.code for tick in store.silent} <= {ReasonCode.OPEN_ORDER, ReasonCode.NOT_DRAWN}
    assert all(draw.probabilities.none == 1.0 for draw in store.nones)


async def test_the_rate_limit_refuses_and_does_not_queue() -> None:
    store = FakeStore()
    await run(generator(store, strategy(signals_per_minute=60.0), rate=1.0), 30)
    assert len(store.signals) <= 3 + 3
    assert ReasonCode.RATE_LIMITED in {tick.reason.code for tick in store.silent}


async def test_one_failing_strategy_does_not_silence_the_other() -> None:
    store = FakeStore()
    modes = FakeModes({"broken": BrokenPolicy()})
    fine = strategy(strategy_id="fine", signals_per_minute=60.0)
    await run(generator(store, strategy(strategy_id="broken"), fine, modes=modes), 5)
    assert {decided.signal.strategy_id for decided in store.signals} == {"fine"}
    reasons = {tick.reason.code for tick in store.silent if tick.strategy_id == "broken"}
    assert reasons == {ReasonCode.DECISION_FAILED}


async def test_a_book_that_cannot_be_read_silences_its_strategy_alone() -> None:
    """Its features cannot be computed, before any policy is asked."""
    broken = replace(held(), strategy_id="broken", entry_price=Decimal(0), quantity=Decimal("NaN"))
    store = FakeStore(lots={("broken", "BTCUSDT"): [broken]})
    source = generator(store, strategy(strategy_id="broken"), strategy(strategy_id="fine", signals_per_minute=60.0))
    await run(source, 6)
    assert {decided.signal.strategy_id for decided in store.signals} == {"fine"}
    assert {tick.reason.code for tick in store.silent if tick.strategy_id == "broken"} == {ReasonCode.DECISION_FAILED}


async def test_stale_market_data_silence_everything() -> None:
    store = FakeStore()
    source = generator(store, strategy(signals_per_minute=60.0))
    await source.step(NOON + timedelta(seconds=90))
    assert store.silent[0].reason == Reason(ReasonCode.MARKET_DATA_STALE, 90.0, 60.0)


def held(side: Side = Side.BUY) -> Lot:
    return Lot(
        lot_id=1,
        strategy_id="momentum_v1",
        asset="BTCUSDT",
        side=side,
        signal_id=UUID(int=1),
        opened_at=NOON - timedelta(seconds=400),
        entry_price=Decimal(50_000),
        quantity=Decimal("0.01"),
        remaining_quantity=Decimal("0.01"),
        entry_fees=Decimal(0),
    )


async def test_an_exit_needs_no_permission_of_the_opening_guards() -> None:
    store = FakeStore(
        lots={("momentum_v1", "BTCUSDT"): [held()]}, orders=[OpenOrder("momentum_v1", "BTCUSDT", Side.BUY, "open")]
    )
    paused = FakeModes({"momentum_v1": Reason(ReasonCode.PAUSED)})
    await run(generator(store, strategy(), modes=paused), 1)
    assert [(one.intent, one.signal.side) for one in store.signals] == [("exit", Side.SELL)]
    assert float(store.signals[0].signal.amount) == pytest.approx(500.0, abs=0.01)
    assert store.signals[0].signal.metadata == {
        "intent": "exit",
        "reasoning": "exit: horizon",
        "exit": {"cause": "horizon", "value": 400.0, "threshold": 300.0, "continues": False},
    }


async def test_a_fill_between_two_looks_is_not_closed_twice() -> None:
    class Filling(FakeStore):
        """The exit's order is filled as soon as it has been looked at."""

        async def open_orders(self, now: datetime) -> Sequence[OpenOrder]:
            seen, self.orders, self.lots = self.orders, (), {}
            return seen

    store = Filling(
        lots={("momentum_v1", "BTCUSDT"): [held()]}, orders=[OpenOrder("momentum_v1", "BTCUSDT", Side.SELL, "exit")]
    )
    await run(generator(store, strategy(), modes=FakeModes({"momentum_v1": Reason(ReasonCode.PAUSED)})), 1)
    assert store.signals == []


async def test_a_stop_does_not_wait_for_the_next_tick_and_nothing_else_happens_before_it() -> None:
    hour = 3600.0
    state = market()
    store = FakeStore(lots={("momentum_v1", "BTCUSDT"): [dataclasses.replace(held(), opened_at=NOON)]})
    source = generator(
        store, strategy(horizon_seconds=86_400, signals_per_minute=600.0), tick_seconds=hour, rate=1e6,
        modes=FakeModes({"momentum_v1": Reason(ReasonCode.PAUSED)}), markets={"BTCUSDT": state},
    )  # fmt: skip
    await source.step(NOON)
    for second, price in ((1, 49_500.0), (2, 48_900.0)):
        at = NOON + timedelta(seconds=second)
        state.apply(TickerEvent(asset="BTCUSDT", at=at, last_price=price))
        await source.step(at)
    (exit_,) = store.signals
    assert (exit_.intent, exit_.signal.timestamp) == ("exit", NOON + timedelta(seconds=2))
    assert [tick.at for tick in store.silent] == [NOON], "silence is counted at ticks"
    assert source.seconds_to_next_tick(NOON) == hour


async def test_positions_are_looked_at_once_a_second_and_openings_not_at_all() -> None:
    class Counting(FakeStore):
        looks = 0

        async def open_lots(self) -> Mapping[tuple[str, str], Sequence[Lot]]:
            self.looks += 1
            return self.lots

    store = Counting()
    source = generator(store, strategy(signals_per_minute=600.0), tick_seconds=60.0)
    for tenth in range(31):
        await source.step(NOON + timedelta(seconds=tenth / 10))
    assert store.looks == 4
    assert source.ticks == len(store.signals) + len(store.silent) == 1
    await source.step(NOON - timedelta(hours=1))
    assert store.looks == 5, "the clock has stepped back"


async def test_without_its_settings_the_exit_policy_remembers_nothing_of_a_position_that_it_holds() -> None:
    store = FakeStore(lots={("momentum_v1", "BTCUSDT"): [dataclasses.replace(held(), opened_at=NOON)]})
    await run(generator(store, strategy()), 5)
    assert store.exits == {}


async def test_an_exit_under_the_exchanges_minimum_is_counted_and_keeps_no_opening_back() -> None:
    small = strategy(exchange_minimum_amount=Decimal(600), minimum_amount=Decimal(700), signals_per_minute=0.01)
    store = FakeStore(lots={("momentum_v1", "BTCUSDT"): [held(Side.BUY)]})
    state = AssetMarket("BTCUSDT", 60)
    state.apply(TradeEvent("BTCUSDT", NOON, 40_000.0, 1.0, Side.SELL))
    worth = 40_000.0 * float(held(Side.BUY).remaining_quantity)
    await run(generator(store, small, markets={"BTCUSDT": state}), 3)
    assert store.signals == []
    assert [tick.reason for tick in store.silent] == [Reason(ReasonCode.EXIT_BELOW_MINIMUM, worth, 600.0)] * 3
    state.apply(BookEvent("BTCUSDT", NOON, 39_999.0, 2.0, 40_001.0, 1.0, is_snapshot=True))
    store.silent.clear()
    eager = small.model_copy(update={"signals_per_minute": 600.0})
    await run(generator(store, eager, markets={"BTCUSDT": state}), 1)
    assert [one.intent for one in store.signals] == ["open"]
    assert store.silent == []


async def test_a_second_exit_waits_for_the_first() -> None:
    lots = {("momentum_v1", "BTCUSDT"): [held()]}
    store = FakeStore(lots=lots, orders=[OpenOrder("momentum_v1", "BTCUSDT", Side.SELL, "exit")])
    await run(generator(store, strategy(), modes=FakeModes({"momentum_v1": Reason(ReasonCode.PAUSED)})), 2)
    assert store.signals == []
    assert [tick.reason for tick in store.silent] == [Reason(ReasonCode.EXIT_PENDING, 1.0, 0.0)] * 2


def test_frozen_records_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        held().quantity = Decimal(1)  # type: ignore[misc]


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_pass_whose_answer_was_lost_is_decided_once(takes_effect: bool) -> None:
    store = FakeStore(fails=True, takes_effect=takes_effect)
    source = generator(store, strategy(signals_per_minute=60.0))
    with pytest.raises(AnswerLost):
        await source.step(NOON)
    store.fails = False
    later = NOON + timedelta(seconds=1)
    assert list(await source.step(later)) == store.signals
    assert [one.signal.timestamp for one in store.signals] == [NOON if takes_effect else later]
    assert (source.signals, source.ticks) == (1, 1)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3), min_size=1, max_size=6))
@settings(max_examples=20)
async def test_over_any_reload_every_tick_of_a_present_strategy_is_counted_once(rosters: list[list[str]]) -> None:
    store = FakeStore()
    source = generator(store, *(strategy(strategy_id=name) for name in rosters[0]))
    roster = source._roster
    wanted: list[tuple[str, datetime]] = []
    for index, names in enumerate(rosters):
        now = NOON + timedelta(seconds=5 * index)
        roster.adopt([ConfiguredStrategy(strategy(strategy_id=name)) for name in names], now)
        await source.step(now)
        wanted += [(name, now) for name in names]
    counted = [(one.strategy_id, one.at) for one in store.silent]
    counted += [(one.signal.strategy_id, one.signal.timestamp) for one in store.signals]
    assert sorted(counted) == sorted(wanted)
    assert source.ticks == len(wanted)


async def test_a_reload_inside_a_pass_waits_for_the_next_one() -> None:
    class Reloading(FakeStore):
        async def open_lots(self) -> Mapping[tuple[str, str], Sequence[Lot]]:
            source._roster.adopt([ConfiguredStrategy(strategy(strategy_id="b", assets=("SOLUSDT",)))], NOON)
            return {}

    store = Reloading()
    source = generator(store, strategy(strategy_id="a"))
    await source.step(NOON)
    assert [*(one.strategy_id for one in store.silent), *(one.signal.strategy_id for one in store.signals)] == ["a"]
    assert ReasonCode.DECISION_FAILED not in {one.reason.code for one in store.silent}


@pytest.mark.parametrize("seconds", [5, 7], ids=["at a tick", "between ticks"])
async def test_positions_of_a_strategy_that_was_taken_away_are_closed_and_nothing_is_opened(seconds: int) -> None:
    old = held()
    store = FakeStore(lots={("gone", "BTCUSDT"): [old], ("moved", "BTCUSDT"): [old]})
    moved = strategy(strategy_id="moved", assets=("ETHUSDT",))
    source = generator(store, strategy(strategy_id="gone"), moved)
    source._roster.adopt([ConfiguredStrategy(moved)], NOON)
    source._next_tick = NOON + timedelta(seconds=5)
    await source.step(NOON + timedelta(seconds=seconds if seconds == 5 else 2))
    exits = [one for one in store.signals if one.intent == "exit"]
    assert [(one.signal.strategy_id, one.signal.asset) for one in exits] == [("gone", "BTCUSDT"), ("moved", "BTCUSDT")]
    assert {(one.strategy_id, one.asset) for one in store.silent} <= {("moved", "ETHUSDT")}
    assert not [one for one in store.signals if one.intent == "open" and one.signal.strategy_id == "gone"]


async def test_a_position_without_a_market_asks_for_one_and_is_told_of_once() -> None:
    store = FakeStore(lots={("gone", "XRPUSDT"): [held()]})
    source = generator(store, strategy())
    with capture_logs() as logs:
        await run(source, 3)
        store.lots = {}
        await source.step(NOON + timedelta(seconds=20))
    assert source.missing_markets == {"XRPUSDT"}
    said = [one["positions"] for one in logs if one["event"] == "positions_left"]
    assert said == [[["gone", "XRPUSDT"]], []]


async def test_taking_a_strategy_away_and_adding_it_again_does_not_fill_its_bucket() -> None:
    store = FakeStore()
    eager = ConfiguredStrategy(strategy(signals_per_minute=600.0, maximum_position_amount=Decimal(10**9)))
    source = generator(store, eager.definition, rate=0.001)
    for index in range(40):
        now = NOON + timedelta(seconds=5 * index)
        source._roster.adopt([] if index % 4 == 3 else [eager], now)
        await source.step(now)
    assert len(store.signals) == 3, "the burst, once"


async def test_a_position_that_was_left_and_has_no_market_data_is_no_tick() -> None:
    store = FakeStore(lots={("gone", "BTCUSDT"): [held()]})
    source = generator(store, strategy(strategy_id="gone"))
    source._roster.adopt([ConfiguredStrategy(strategy())], NOON)
    await source.step(NOON + timedelta(seconds=90))
    assert [one.strategy_id for one in store.silent] == ["momentum_v1"]
    assert source.ticks == 1


async def test_passes_that_broke_off_cost_nothing_of_the_rate_limit() -> None:
    store = FakeStore(fails=True)
    source = generator(store, strategy(signals_per_minute=600.0), rate=0.01)
    tried = 0
    for index in range(10):
        with pytest.raises(AnswerLost):
            await source.step(NOON + timedelta(seconds=index))
        tried += bool(store.tried)
    assert tried > 3, "more than the burst"
    store.fails = False
    for index in range(30):
        await source.step(NOON + timedelta(seconds=10 + 5 * index))
    assert len(store.signals) == 3


async def test_exits_that_broke_off_fill_no_rate_limit() -> None:
    paused = FakeModes({"momentum_v1": Reason(ReasonCode.PAUSED)})
    store = FakeStore(fails=True, lots={("momentum_v1", "BTCUSDT"): [held()]})
    eager = strategy(signals_per_minute=600.0, assets=("BTCUSDT", "ETHUSDT"))
    source = generator(store, eager, rate=0.01, modes=paused)
    store.fails = False
    paused.by_strategy.clear()
    store.lots = {}
    await run(source, 12)
    before = len(store.signals)
    store.lots, store.fails = {("momentum_v1", "BTCUSDT"): [held()]}, True
    for index in range(3):
        with pytest.raises(AnswerLost):
            await source.step(NOON + timedelta(seconds=60 + 2 * index))
    store.lots, store.fails = {}, False
    for index in range(12):
        await source.step(NOON + timedelta(seconds=70 + 5 * index))
    assert (before, len(store.signals)) == (3, 3)
