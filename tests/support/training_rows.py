"""Rows as the sample reader hands them over, from a market with a planted edge of known size."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import DatabaseCoordinates, TrainingJob

START_US = 1_760_000_000_000_000
STEP_US = 10_000_000
HORIZON_SECONDS = 300
IMBALANCE = FEATURE_NAMES.index("book_imbalance")
ROW = np.dtype(
    [
        ("signal_id", "(16,)u1"), ("decided_us", "i8"), ("exit_us", "i8"), ("side", "i2"), ("label", "i2"),
        ("exit_rule", "i2"), ("asset_code", "i4"), ("is_warmup", "u1"), ("is_reduction", "u1"), ("net_return", "f8"),
        ("probability_buy", "f8"), ("probability_sell", "f8"), ("probability_none", "f8"),
        ("opposite_net_return", "f8"),
        ("features", f"({len(FEATURE_NAMES)},)f4"),
    ]
)  # fmt: skip


def imbalance_rows(
    count: int, seed: int, *, drift: float = 1.2, cost: float = 0.0004, assets: int = 1
) -> NDArray[np.void]:
    """Six signals a minute on sides drawn by a coin, horizon five minutes, label by the return less `cost`.

    Book imbalance is an AR(1) of unit variance with phi 0.96 a minute; a minute's return drifts by `drift` of its
    deviation per unit of imbalance. With the defaults the best possible accuracy is about 0.84. All other features are
    noise. Several independent assets take turns, so that as many signals see more of the market.
    """
    rng = np.random.default_rng(seed)
    rows = blank_rows(count, rng)
    ahead = HORIZON_SECONDS * 1_000_000 // STEP_US
    for asset in range(assets):
        turns = np.arange(asset, count, assets)
        imbalance, path = _market(count + ahead, drift, rng)
        moves = path[turns + ahead] - path[turns]
        rows["net_return"][turns] = rows["side"][turns] * moves - cost
        rows["opposite_net_return"][turns] = -rows["side"][turns] * moves - cost
        rows["features"][turns, IMBALANCE] = imbalance[turns]
        rows["asset_code"][turns] = asset + 1
    rows["label"] = rows["net_return"] > 0
    return rows


def _market(steps: int, drift: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    imbalance = _autoregression(rng.standard_normal(steps), 0.96 ** (STEP_US / 60e6))
    share = STEP_US / 60e6
    moves = 0.001 * (drift * imbalance * share + rng.standard_normal(steps) * math.sqrt(share))
    return imbalance, np.concatenate(([0.0], np.cumsum(moves)))


def blank_rows(count: int, rng: np.random.Generator) -> NDArray[np.void]:
    """Rows of noise every ten seconds with labels by a coin; one feature in twenty is unknown."""
    rows = np.zeros(count, dtype=ROW)
    rows["signal_id"] = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    rows["decided_us"] = START_US + STEP_US * np.arange(count)
    rows["exit_us"] = rows["decided_us"] + 1_000_000 * HORIZON_SECONDS + 1_500_000
    rows["side"] = rng.choice([-1, 1], count)
    rows["asset_code"] = 1
    rows["is_warmup"] = 1
    rows["probability_buy"] = rows["probability_sell"] = 0.4
    rows["probability_none"] = 0.2
    rows["net_return"] = rng.choice([-0.001, 0.001], count)
    rows["opposite_net_return"] = -rows["net_return"]
    rows["label"] = rows["net_return"] > 0
    features = rng.standard_normal((count, len(FEATURE_NAMES))).astype(np.float32)
    features[rng.random(features.shape) < 0.05] = np.nan
    rows["features"] = features
    return rows


def training_strategy(**changes: Any) -> StrategyDefinition:
    """A strategy that fits `imbalance_rows`."""
    defaults: dict[str, Any] = {
        "strategy_id": "planted", "assets": ("BTCUSDT",), "horizon_seconds": HORIZON_SECONDS, "fee_rate": 0.0002,
        "signals_per_minute": 6.0, "randomness": 1.0, "probability_floor": 0.1, "minimum_amount": Decimal(100),
        "maximum_amount": Decimal(1000), "exchange_minimum_amount": Decimal(10),
        "maximum_position_amount": Decimal(10_000), "exploration_rate": 0.05, "action_threshold": 0.5,
        "accuracy_threshold": 0.75, "minimum_dataset_size": 1000, "retrain_after_outcomes": 1000,
    }  # fmt: skip
    return StrategyDefinition(**{**defaults, **changes})


def training_job(
    output_directory: str = "/nowhere", *, strategy: StrategyDefinition | None = None, **changes: Any
) -> TrainingJob:
    """A job on that strategy; the database is nowhere unless given."""
    defaults: dict[str, Any] = {
        "run_id": "run-1",
        "as_of_us": START_US + 10**15,
        "database": DatabaseCoordinates(host="nowhere", port=1, database="none", user="nobody"),
        "output_directory": output_directory, "seed": 7, "threads": 1,
    }  # fmt: skip
    return TrainingJob(strategy=strategy or training_strategy(), **{**defaults, **changes})


def _autoregression(shocks: NDArray[np.float64], phi: float) -> NDArray[np.float64]:
    values = np.empty_like(shocks)
    values[0] = shocks[0]
    scale = math.sqrt(1 - phi * phi)
    for index in range(1, len(shocks)):
        values[index] = phi * values[index - 1] + scale * shocks[index]
    return values
