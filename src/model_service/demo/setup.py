"""The demo's settings and its folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from model_service.config.loading import load_settings
from model_service.config.settings import Settings
from model_service.database.embedded_places import remove_home
from model_service.demo.driver import DemoFailed
from model_service.demo.gateway import KLINE_QUEUE, TICKER_QUEUE
from model_service.demo.market import Process
from model_service.demo.paper_orders import PaperRules

MARKER = ".model-service-demo"
TRAINING_SECONDS = 60.0
"""So long does a training run last in virtual time."""


def simulated_settings(
    state: Path, *, seed: int, strategies: int, assets: tuple[str, ...], process: Process, rules: PaperRules
) -> Settings:
    """About six openings a minute and strategy, judged after five minutes; first training at 2,000 outcomes."""
    return _settings(
        state,
        seed,
        strategies,
        assets,
        rules,
        TRADING_DECISION_INTERVAL_SECONDS=process.step_seconds,
        WARMUP_SIGNAL_FREQUENCY=6,
        MODEL_PREDICTION_HORIZON_SECONDS=300,
        MODEL_TRAINING_MIN_DATASET_SIZE=2000,
    )


def candle_settings(
    state: Path, *, seed: int, strategies: int, asset: str, interval: timedelta, rules: PaperRules
) -> Settings:
    """About every second candle acts, judged after three candles; first training at 1,000 outcomes."""
    seconds = int(interval.total_seconds())
    return _settings(
        state,
        seed,
        strategies,
        (asset,),
        rules,
        MARKET_DATA_QUEUES=f"{TICKER_QUEUE},{KLINE_QUEUE}",
        MARKET_DATA_BAR_SECONDS=seconds,
        MARKET_DATA_MAX_AGE_SECONDS=2 * seconds,
        TRADING_DECISION_INTERVAL_SECONDS=seconds,
        WARMUP_SIGNAL_FREQUENCY=0.5 * 60 / seconds,
        MODEL_PREDICTION_HORIZON_SECONDS=3 * seconds,
        MODEL_TRAINING_MIN_DATASET_SIZE=1000,
    )


def _settings(
    state: Path, seed: int, strategies: int, assets: tuple[str, ...], rules: PaperRules, **more: float | str
) -> Settings:
    """Only these: the environment's POSTGRES_HOST or RABBITMQ_HOST must not draw a demo into a real platform."""
    values = {
        "MODEL_SERVICE_STATE_PATH": state,
        "MODEL_SERVICE_LOG_LEVEL": "ERROR",
        "MARKET_DATA_DECLARE_QUEUES": "true",
        "TRADING_STRATEGIES": ",".join(strategy_names(strategies)),
        "TRADING_ASSETS": ",".join(assets),
        "TRADING_FEE_RATE": rules.fee_rate,
        "TRADING_MIN_ORDER_AMOUNT": rules.minimum_amount,
        "TRADING_MAX_POSITION_AMOUNT": 50_000,
        "TRADING_ORDER_LOOKUP_ENABLED": "false",
        "SIGNAL_GENERATION_RATE_LIMIT": 60,
        "SIGNAL_GENERATION_BURST_ALLOWANCE": 20,
        "WARMUP_RANDOMNESS_LEVEL": 0.5,
        "MODEL_TRAINING_SEED": seed,
        "MODEL_RETRAINING_MIN_NEW_OUTCOMES": 1000,
        **more,
    }
    settings, _ = load_settings({name: str(value) for name, value in values.items()})
    return settings


def strategy_names(count: int) -> list[str]:
    """`momentum_v1`, `momentum_v2`, ..."""
    return [f"momentum_v{index + 1}" for index in range(count)]


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """An empty folder for one demo; what an earlier demo left in it is removed, nothing else ever is.

    Raises:
        DemoFailed: when the folder holds something else, cannot be made, or another demo is using it.
    """
    marker = path / MARKER
    try:
        if path.exists() and not marker.exists() and any(path.iterdir()):
            raise DemoFailed(f"{path} is not empty and not a demo's folder; name another one with --state-dir")
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(marker, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DemoFailed(f"{path} cannot be used: {error}; name another one with --state-dir") from error
    try:
        _lock(descriptor, path)
        _empty(path)
        yield path.resolve()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DemoFailed(f"another demo is running in {path}; name another folder with --state-dir") from None


def _empty(path: Path) -> None:
    # The data may lie elsewhere, and an old database must not meet the new demo.
    remove_home(path.resolve() / "postgres")
    for child in path.iterdir():
        if child.name == MARKER:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
