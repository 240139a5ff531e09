"""What openings need, and what fails for them, costs no exit: neither the one of this tick nor the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.config.exits import ExitParameters
from model_service.contracts.types import Side
from model_service.policies.reasons import ReasonCode
from model_service.services import signal_generation, signal_record
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import OpenOrder, PlatformUnreadable, Unstorable
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore, held, market

NAME = "momentum_v1"
LIMITS = GenerationLimits(
    guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False),
    tick_seconds=5.0,
    expiry_seconds=30.0,
    rate_per_minute=6000.0,
    burst=100,
    none_sample_rate=0.5,
    seed="7",
    statistics_refresh_seconds=60.0,
)


class Away(Exception):
    """The database is away, or a table of it."""


@dataclass
class Weather(FakeStore):
    """A store of which something fails."""

    unreadable: bool = False
    no_statistics: bool = False
    poison: frozenset[str] = frozenset()
    batches: list[list[str]] = field(default_factory=list)

    async def foreign_orders(self) -> Sequence[OpenOrder]:
        if self.unreadable:
            raise PlatformUnreadable(1.02)
        return ()

    async def execution_statistics(self) -> Mapping[tuple[str, str], Any]:
        if self.no_statistics:
            raise Away
        return {}

    async def record(self, signals: Sequence[Any], *rest: Any, **more: Any) -> Any:
        self.batches.append([one.signal.strategy_id for one in signals])
        if any(one.signal.strategy_id in self.poison and one.intent != "exit" for one in signals):
            raise Unstorable("DataError: value out of int32 range")
        return await super().record(signals, *rest, **more)

    @property
    def closed(self) -> list[str]:
        return [one.signal.strategy_id for one in self.signals if one.intent == "exit"]


class Broken:
    """Conditions that cannot be looked at."""

    async def look(self, *_: Any) -> Any:
        raise Away


def source(store: Weather, modes: FakeModes | None = None, *, conditions: Any = None, **changes: Any) -> Any:
    """Three strategies that open at every tick; the first holds a position that has outlived its horizon."""
    store.lots = {(NAME, "BTCUSDT"): [held(Side.BUY)]}
    names = (NAME, "b", "c")
    roster = StrategyRoster.of([strategy(strategy_id=name, signals_per_minute=600.0, **changes) for name in names])
    chosen: Any = modes or FakeModes()
    return SignalGenerator(
        roster, {"BTCUSDT": market()}, chosen, store, SeededIdentifiers(1), LIMITS, conditions=conditions
    )


async def test_a_locked_table_of_the_platform_costs_openings_alone() -> None:
    store = Weather(unreadable=True)
    await source(store).step(NOON)
    assert store.closed == [NAME]
    assert len(store.signals) == 1
    assert [tick.reason.code for tick in store.silent] == [ReasonCode.PLATFORM_UNREADABLE] * 2
    assert all(tick.reason.threshold == 1.0 for tick in store.silent)


@pytest.mark.parametrize("fails", ["statistics", "conditions"])
async def test_a_tick_that_fails_closes_positions_all_the_same(fails: str) -> None:
    store = Weather(no_statistics=fails == "statistics")
    ticking = source(store, conditions=Broken() if fails == "conditions" else None)
    with pytest.raises(Away):
        await ticking.step(NOON)
    assert store.closed == [NAME]
    assert (len(store.signals), store.silent) == (1, [])
    assert ticking.seconds_to_next_tick(NOON) == 0.0, "the tick is still due"


async def test_what_the_database_refuses_of_one_strategy_costs_the_others_nothing() -> None:
    store = Weather(poison=frozenset({"b"}))
    ticking = source(store)
    for tick in range(8):
        await ticking.step(NOON + timedelta(seconds=5 * tick))
    opened = [one.signal.strategy_id for one in store.signals if one.intent != "exit"]
    assert "c" in opened
    assert "b" not in opened
    assert store.closed.count(NAME) == 8, "nobody fills them here, and there is no cooldown"
    failed = [tick.strategy_id for tick in store.silent if tick.reason.code is ReasonCode.DECISION_FAILED]
    assert set(failed) == {"b"}
    assert ticking.ticks == len(store.signals) + len(store.silent) == 24
    first = next(batch for batch in store.batches if "b" in batch)
    apart = store.batches[store.batches.index(first) + 1]
    assert apart == [NAME], "the exit goes first, and alone"


async def test_a_strategy_that_cannot_be_paused_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(FakeModes):
        async def pause(self, *_: Any, **__: Any) -> None:
            raise Away

    class Failing:
        def propose(self, *_: Any) -> Any:
            raise ValueError("a model that cannot")

    store = Weather()
    ticking = source(store, Stubborn({"b": Failing()}))
    for tick in range(8):
        await ticking.step(NOON + timedelta(seconds=5 * tick))
    assert store.closed.count(NAME) == 8
    assert [one.signal.strategy_id for one in store.signals if one.intent != "exit"].count("c") > 4


async def test_a_change_of_mode_that_broke_off_is_read_after_the_exits() -> None:
    store = Weather()

    class Unsettled(FakeModes):
        async def settle(self, now: datetime) -> None:
            assert store.closed == [NAME]
            raise Away

    with pytest.raises(Away):
        await source(store, Unsettled(is_unsettled=True)).step(NOON)
    assert store.closed == [NAME]


async def test_an_exit_that_could_not_be_made_begins_no_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Weather()
    ticking = source(store, exits=ExitParameters(cooldown_seconds=120))
    real = signal_record.exit_signal

    def fails_once(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(signal_generation, "exit_signal", real)
        raise ValueError("once")

    monkeypatch.setattr(signal_generation, "exit_signal", fails_once)
    await ticking.step(NOON)
    assert store.closed == []
    await ticking.step(NOON + timedelta(seconds=5))
    assert store.closed == [NAME]
