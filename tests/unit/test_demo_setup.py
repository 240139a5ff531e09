"""The demo's settings, its folder, its arguments, and the rows of its Bayes reference."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from model_service.config.strategies import strategies_from
from model_service.demo.driver import DemoFailed
from model_service.demo.market import DEFAULT_ASSETS, Process
from model_service.demo.paper_orders import PaperRules
from model_service.demo.reference import labels_of_test_rows, rule_of
from model_service.demo.setup import candle_settings, fresh_folder, simulated_settings


def test_the_simulated_setting_is_the_one_that_is_promised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSTGRES_HOST", "production")
    monkeypatch.setenv("RABBITMQ_HOST", "production")
    settings = simulated_settings(
        tmp_path, seed=7, strategies=2, assets=DEFAULT_ASSETS, process=Process(), rules=PaperRules()
    )
    assert settings.uses_embedded_database
    assert not settings.uses_rabbitmq
    strategy = strategies_from(settings)[1]
    assert strategy.strategy_id == "momentum_v2"
    assert (strategy.horizon_seconds, strategy.minimum_dataset_size) == (300, 2000)
    assert (strategy.signals_per_minute, strategy.randomness, strategy.fee_rate) == (6, 0.5, 0.00055)
    assert rule_of(strategy).horizon_seconds == 300


def test_candles_set_bars_horizon_and_frequency(tmp_path: Path) -> None:
    settings = candle_settings(
        tmp_path, seed=7, strategies=1, asset="BTCUSDT", interval=timedelta(minutes=5), rules=PaperRules()
    )
    strategy = strategies_from(settings)[0]
    assert (strategy.bar_seconds, strategy.horizon_seconds, strategy.minimum_dataset_size) == (300, 900, 1000)
    assert strategy.signals_per_minute * 5 == pytest.approx(0.5)


def test_the_folder_is_emptied_when_an_earlier_demo_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "demo"
    with fresh_folder(folder):
        (folder / "models").mkdir()
        (folder / "models" / "v1").write_text("old")
    with fresh_folder(folder) as again:
        assert [path.name for path in again.iterdir()] == [".model-service-demo"]


def test_a_foreign_folder_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DemoFailed, match="not empty and not a demo's folder"), fresh_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with fresh_folder(tmp_path):
        (tmp_path / "data").write_text("in use")
        with pytest.raises(DemoFailed, match="another demo is running"), fresh_folder(tmp_path):
            pass
        assert (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoFailed, match="cannot be used"), fresh_folder(tmp_path / "file" / "demo"):
        pass


def test_labels_of_the_test_rows_are_read_from_the_versions_folder(tmp_path: Path) -> None:
    identifiers = [uuid.UUID(int=1), uuid.UUID(int=2)]
    stored = np.stack([np.frombuffer(identifier.bytes, dtype=np.uint8) for identifier in identifiers])
    np.savez(tmp_path / "test_predictions.npz", signal_ids=stored, label=np.array([0, 1], dtype=np.int8))
    assert labels_of_test_rows(tmp_path / "test_predictions.npz") == {identifiers[0]: 0, identifiers[1]: 1}
    assert labels_of_test_rows(tmp_path / "absent.npz") == {}
