"""Settings that cannot do what they say are warned about, and only those."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_service.cli.configuration import config_app
from model_service.cli.strategies import strategies_app
from model_service.config.doubts import doubts, reachable_signals_per_minute
from model_service.config.exits import ExitParameters
from model_service.models.decision_rule import action_rate
from tests.support.builders import strategy


@pytest.mark.parametrize("tick_seconds", [0.5, 5.0, 60.0])
@pytest.mark.parametrize("assets", [("BTCUSDT",), ("BTCUSDT", "ETHUSDT", "SOLUSDT")])
def test_the_warning_begins_where_the_policy_cannot_follow(tick_seconds: float, assets: tuple[str, ...]) -> None:
    reachable = reachable_signals_per_minute(len(assets), tick_seconds)
    for wanted, is_doubted in ((reachable * 0.999, False), (reachable * 1.001, True)):
        made = strategy(assets=assets, signals_per_minute=wanted)
        signals = action_rate(made, tick_seconds) * 60.0 / tick_seconds * len(assets)
        assert (signals < wanted * (1 - 1e-9)) is is_doubted
        assert bool(list(doubts([made], tick_seconds, 1e9))) is is_doubted


def test_a_frequency_over_the_rate_limit_is_doubted() -> None:
    (line,) = doubts([strategy(signals_per_minute=10.0)], 5.0, 9.0)
    assert "strategy momentum_v1: signals_per_minute (WARMUP_SIGNAL_FREQUENCY) is 10," in line
    assert "SIGNAL_GENERATION_RATE_LIMIT lets 9 through" in line
    assert not list(doubts([strategy(signals_per_minute=10.0)], 5.0, 10.0))


def test_config_check_warns_and_still_calls_the_settings_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("WARMUP_SIGNAL_FREQUENCY", "40")
    result = CliRunner().invoke(config_app, ["check"])
    assert result.exit_code == 0
    assert (
        "warning: strategy default: signals_per_minute (WARMUP_SIGNAL_FREQUENCY) is 40, but at most 11.4 can"
        in result.output
    )
    assert result.output.splitlines()[-1] == "settings are usable"


def test_an_exit_that_is_only_half_said_is_doubted() -> None:
    (line,) = doubts([strategy(exits=ExitParameters(trailing_activation_percent=0.6))], 5.0, 60.0)
    assert "trailing_activation_percent is 0.6, but there is no trailing stop: set trailing_distance_percent" in line
    (line,) = doubts([strategy(exits=ExitParameters(holding_profit_percent=0.5))], 5.0, 60.0)
    assert "set maximum_holding_hours" in line
    whole = ExitParameters(trailing_activation_percent=0.6, trailing_distance_percent=0.3)
    assert not list(doubts([strategy(exits=whole)], 5.0, 60.0))


def test_the_check_of_a_strategy_file_warns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    file = tmp_path / "strategies.toml"
    file.write_text("[strategies.fast]\nsignals_per_minute = 500\n")
    result = CliRunner().invoke(strategies_app, ["check", str(file)])
    assert (result.exit_code, "warning: strategy fast: signals_per_minute" in result.output) == (0, True)
