"""A strategy whose decisions raise is paused by itself with its reason, the log is not flooded, and the rest go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.contracts.types import Side
from model_service.policies.reasons import ReasonCode
from model_service.policies.warmup import WarmupPolicy
from tests.support.builders import NOON, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore, generator, held, run

Logged = list[Any]


@pytest.fixture
def logged() -> Iterator[Logged]:
    with capture_logs() as entries:
        yield entries


class Failing:
    """Raises at the ticks that are named, and else decides as the warm-up does."""

    def __init__(self, *ticks: int, error: type[Exception] = TypeError) -> None:
        self._ticks, self._error, self.asked = ticks, error, 0

    def propose(self, *arguments: Any) -> Any:
        self.asked += 1
        if self.asked in self._ticks:
            raise self._error("no such thing")
        return WarmupPolicy().propose(*arguments)


def reasons(store: FakeStore, strategy_id: str) -> list[ReasonCode]:
    return [tick.reason.code for tick in store.silent if tick.strategy_id == strategy_id]


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, ZeroDivisionError])
async def test_five_failures_in_a_row_pause_the_strategy_and_no_other(error: type[Exception]) -> None:
    store, modes = FakeStore(), FakeModes({"broken": Failing(*range(1, 99), error=error)})
    fine = strategy(strategy_id="fine", signals_per_minute=60.0)
    await run(generator(store, strategy(strategy_id="broken"), fine, modes=modes), 8)
    assert modes.paused == {"broken": f"5 decisions in a row failed on BTCUSDT: {error.__name__}: no such thing"}
    assert reasons(store, "broken") == [ReasonCode.DECISION_FAILED] * 5 + [ReasonCode.PAUSED] * 3
    assert {decided.signal.strategy_id for decided in store.signals} == {"fine"}


async def test_failures_with_a_success_between_them_do_not_pause() -> None:
    modes = FakeModes({"shaky": Failing(1, 2, 3, 4, 6, 7, 8, 9)})
    await run(generator(FakeStore(), strategy(strategy_id="shaky"), modes=modes), 10)
    assert modes.paused == {}


async def test_one_asset_that_fails_is_enough_and_the_others_do_not_hide_it() -> None:
    class FailsOnEther(Failing):
        def propose(self, *arguments: Any) -> Any:
            if arguments[1].asset == "ETHUSDT":
                raise KeyError("ether")
            return super().propose(*arguments)

    modes = FakeModes({"half": FailsOnEther()})
    await run(generator(FakeStore(), strategy(strategy_id="half", assets=("BTCUSDT", "ETHUSDT")), modes=modes), 6)
    assert "ETHUSDT" in modes.paused["half"]


async def test_the_exits_of_a_strategy_that_was_paused_go_on() -> None:
    modes = FakeModes({"momentum_v1": Failing(*range(1, 99))})
    store = FakeStore()
    source = generator(store, strategy(horizon_seconds=86_400), modes=modes)
    await run(source, 6)
    assert "momentum_v1" in modes.paused
    store.lots = {("momentum_v1", "BTCUSDT"): [replace(held(Side.BUY), opened_at=NOON - timedelta(days=2))]}
    await source.step(NOON + timedelta(seconds=31))
    assert [(one.intent, one.signal.side) for one in store.signals] == [("exit", Side.SELL)]


async def test_a_resumed_strategy_has_all_its_tries_again() -> None:
    modes = FakeModes({"broken": Failing(*range(1, 99))})
    source = generator(FakeStore(), strategy(strategy_id="broken"), modes=modes)
    await run(source, 6)
    modes.paused.clear()
    modes.by_strategy["broken"] = Failing(1, 2, 3, 4)
    for tick in range(6, 12):
        await source.step(NOON + timedelta(seconds=5 * tick))
    assert modes.paused == {}


async def test_the_log_says_the_same_once_a_minute_with_a_count(logged: Logged) -> None:
    modes = FakeModes({"shaky": Failing(*(tick for tick in range(1, 99) if tick % 5))})
    await run(generator(FakeStore(), strategy(strategy_id="shaky"), modes=modes), 24)
    said = [entry for entry in logged if entry["event"] == "decision_failed"]
    assert [entry["repeats"] for entry in said] == [0, 9]
    assert {(entry["strategy"], entry["asset"], entry["error"]) for entry in said} == {
        ("shaky", "BTCUSDT", "TypeError: no such thing")
    }


async def test_the_reason_can_be_stored_whatever_the_error_says() -> None:
    class Shouting(Failing):
        def propose(self, *_: Any) -> Any:
            raise ValueError("nul \x00, half \ud800,\n" + 10_000 * "x")

    modes = FakeModes({"loud": Shouting()})
    await run(generator(FakeStore(), strategy(strategy_id="loud"), modes=modes), 6)
    reason = modes.paused["loud"]
    assert reason.isprintable()
    assert len(reason) < 300
    reason.encode()


async def test_looks_at_exits_in_between_do_not_hide_that_every_tick_fails() -> None:
    modes, store = FakeModes({"momentum_v1": Failing(*range(1, 99))}), FakeStore()
    store.lots = {("momentum_v1", "BTCUSDT"): [replace(held(Side.BUY), opened_at=NOON)]}
    source = generator(store, strategy(horizon_seconds=86_400), modes=modes)
    for second in range(30):
        await source.step(NOON + timedelta(seconds=second))
    assert "momentum_v1" in modes.paused
