"""Openings count what is asked for already and not filled yet, and leave open exits of the asset alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.types import Side
from model_service.policies.reasons import ReasonCode
from model_service.services.balances import Balance, Balances
from model_service.services.conditions import Conditions
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import OpenOrder
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore, generator, held, market

ASSETS = ("BTCUSDT", "ETHUSDT")


class FixedConditions:
    """The same at every tick."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions

    async def look(self, *_: Any) -> Conditions:
        return self.conditions


class Unfilled(FakeStore):
    """Every order stays open and unfilled, so long as anybody asks."""

    async def open_orders(self, now: datetime) -> list[OpenOrder]:
        return [
            OpenOrder(one.signal.strategy_id, one.signal.asset, one.signal.side, one.intent, None, one.signal.amount)
            for one in self.signals
        ]


def source_of(store: FakeStore, guards: GuardLimits, *strategies: Any, balances: Balances | None = None) -> Any:
    limits = GenerationLimits(
        guards=guards,
        tick_seconds=5.0,
        expiry_seconds=30.0,
        rate_per_minute=600.0,
        burst=100,
        none_sample_rate=0.5,
        seed="7",
        statistics_refresh_seconds=600.0,
    )
    modes: Any = FakeModes()
    conditions: Any = FixedConditions(Conditions((), balances or Balances()))
    markets = {asset: market(asset) for asset in ASSETS}
    roster = StrategyRoster.of(strategies)
    return SignalGenerator(roster, markets, modes, store, SeededIdentifiers(1), limits, conditions=conditions)


async def run(source: SignalGenerator, ticks: int) -> None:
    for index in range(ticks):
        await source.step(NOON + timedelta(seconds=5 * index))


@pytest.mark.parametrize("skips", [True, False])
async def test_the_position_limit_counts_what_is_under_way(skips: bool) -> None:
    """With orders of the same side allowed, and with all of them allowed."""
    store = Unfilled()
    eager = strategy(
        signals_per_minute=600.0,
        minimum_amount=Decimal(300),
        maximum_amount=Decimal(400),
        maximum_position_amount=Decimal(1000),
    )
    guards = GuardLimits(1e9, skip_if_open_order=skips, opposite_orders_only=skips)
    await run(source_of(store, guards, eager), 30)
    asked = {side: sum(one.signal.amount for one in store.signals if one.signal.side is side) for side in Side}
    assert max(asked.values()) > 500, "more than one was asked for"
    assert max(asked.values()) <= 1000
    assert ReasonCode.POSITION_LIMIT in {tick.reason.code for tick in store.silent}


async def test_a_balance_is_less_by_what_earlier_ticks_of_all_strategies_asked_of_it() -> None:
    store = Unfilled()
    guards = GuardLimits(1e9, skip_if_open_order=False, opposite_orders_only=False, balance_max_age_seconds=1e9)
    several = [strategy(strategy_id=name, assets=ASSETS, signals_per_minute=600.0) for name in ("a", "b")]
    balances = Balances(Balance(3000.0, NOON), Balance(2000.0, NOON))
    await run(source_of(store, guards, *several, balances=balances), 20)
    asked = {side: sum(one.signal.amount for one in store.signals if one.signal.side is side) for side in Side}
    assert 2000 < asked[Side.BUY] <= 3000
    assert 1000 < asked[Side.SELL] <= 2000


async def test_an_unread_balance_opens_nothing_on_its_side() -> None:
    store = Unfilled()
    guards = GuardLimits(1e9, skip_if_open_order=False, opposite_orders_only=False)
    balances = Balances(unread=frozenset({Side.BUY}))
    await run(source_of(store, guards, strategy(signals_per_minute=600.0), balances=balances), 10)
    assert {one.signal.side for one in store.signals} == {Side.SELL}
    assert ReasonCode.BALANCE_UNKNOWN in {tick.reason.code for tick in store.silent}


async def test_no_strategy_opens_in_an_asset_where_another_ones_exit_is_open() -> None:
    store = FakeStore(orders=[OpenOrder("gone", "BTCUSDT", Side.SELL, "exit", Decimal(1))])
    both = [strategy(strategy_id=name, assets=ASSETS, signals_per_minute=600.0) for name in ("a", "b")]
    await run(generator(store, *both), 6)
    assert {one.signal.asset for one in store.signals} == {"ETHUSDT"}
    held_back = {tick.strategy_id for tick in store.silent if tick.reason.code is ReasonCode.ASSET_EXIT_OPEN}
    assert held_back == {"a", "b"}


async def test_an_exit_of_the_same_pass_counts_for_those_who_come_after_it() -> None:
    store = FakeStore(lots={("a", "BTCUSDT"): [replace(held(), strategy_id="a")]})
    both = [strategy(strategy_id=name, signals_per_minute=600.0) for name in ("a", "b")]
    source = generator(store, *both)
    for index in range(12):
        before = len(store.signals)
        await source.step(NOON + timedelta(seconds=5 * index))
        made = [(one.signal.strategy_id, one.intent) for one in store.signals[before:]]
        assert made in ([("b", "open"), ("a", "exit")], [("a", "exit")], [("b", "open")], []), made


class Denying(FakeStore):
    """A platform whose table has another position than our ledger."""

    table: float | None = 0.0

    async def shared_positions(self) -> dict[str, float] | None:
        return None if self.table is None else {"BTCUSDT": self.table}


@pytest.mark.parametrize(("table", "opens"), [(-0.1, False), (0.0, False), (0.1, True), (0.2, True), (None, True)])
async def test_a_table_that_contradicts_our_book_opens_nothing(table: float | None, opens: bool) -> None:
    lot = replace(held(), strategy_id="other", quantity=Decimal("0.1"), remaining_quantity=Decimal("0.1"))
    store = Denying(lots={("other", "BTCUSDT"): [lot]})
    store.table = table
    guards = GuardLimits(1e9, skip_if_open_order=False, opposite_orders_only=False, contradiction_amount=100.0)
    idle = strategy(
        strategy_id="other", exits_enabled=False, assets=("ETHUSDT",), maximum_position_amount=Decimal(10**6)
    )
    eager = strategy(signals_per_minute=600.0, maximum_position_amount=Decimal(10**6))
    await run(source_of(store, guards, eager, idle), 10)
    mine = [one for one in store.signals if one.signal.strategy_id == "momentum_v1"]
    assert bool(mine) is opens
    refused = {tick.reason.code for tick in store.silent if tick.strategy_id == "momentum_v1"}
    assert (ReasonCode.PLATFORM_CONTRADICTS_BOOK in refused) is not opens
