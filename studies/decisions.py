"""A warm-up strategy at work on a market: draws with recorded propensities, and what became of them (METHOD 1, 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.models.decision_rule import action_rate
from model_service.models.features import FEATURE_NAMES
from model_service.models.samples import Rows
from studies.bars import Bars
from studies.features import KnownBars, Moments, feature_rows
from studies.labels import Labels, Rules, label_openings

Floats = NDArray[np.float64]
Leaning = Callable[[Moments, KnownBars], Floats]
"""How much a strategy's heuristics lean to buying, 0 to 1, (n,)."""

ROW = np.dtype(
    [
        ("signal_id", "(16,)u1"), ("decided_us", "i8"), ("exit_us", "i8"), ("side", "i2"), ("label", "i2"),
        ("exit_rule", "i2"), ("asset_code", "i4"), ("is_warmup", "u1"), ("is_reduction", "u1"), ("net_return", "f8"),
        ("probability_buy", "f8"), ("probability_sell", "f8"), ("probability_none", "f8"),
        ("opposite_net_return", "f8"), ("features", f"({len(FEATURE_NAMES)},)f4"),
    ]
)  # fmt: skip
IDLE_ROW = np.dtype(
    [
        ("decided_us", "i8"), ("probability_buy", "f8"), ("probability_sell", "f8"), ("probability_none", "f8"),
        ("sample_rate", "f8"), ("action", "i1"), ("features", f"({len(FEATURE_NAMES)},)f4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One asset as a strategy meets it: moments at which it may decide, and the bars that judge it.

    Attributes:
        tick_seconds: time between two moments.
        context: features by name that neither the bars nor the book give, (n,) each.
    """

    moments: Moments
    bars: Bars
    tick_seconds: float
    context: Mapping[str, Floats]


@dataclass(frozen=True)
class Record:
    """What a strategy leaves behind: labelled openings as in `samples`, and draws that led to no trade.

    Attributes:
        rows: structured array (n,) of ROW in time order.
        idle: structured array (m,) of IDLE_ROW in time order.
        ticks: position in the scene's moments of each of `rows`, (n,).
    """

    rows: Rows
    idle: Rows
    ticks: NDArray[np.intp]


def warmup_leaning(moments: Moments, known: KnownBars) -> Floats:
    """`policies.warmup.buy_leaning` as arrays."""
    momentum = _known(known["return_5m"] / np.maximum(known["realised_volatility"], 1e-9))
    stretch = np.clip(_known(known["bollinger_b"]), -1.0, 1.0)
    score = 1.5 * _known(moments.book_imbalance) + 0.2 * np.clip(momentum, -3.0, 3.0) - 0.5 * stretch
    return _logistic(score)


def momentum_leaning(moments: Moments, known: KnownBars) -> Floats:
    """A strategy that goes along with the last quarter of an hour."""
    return _logistic(np.clip(_known(known["return_15m"] / np.maximum(known["realised_volatility"], 1e-9)), -3.0, 3.0))


def reversion_leaning(moments: Moments, known: KnownBars) -> Floats:
    """A strategy that goes against it."""
    return 1.0 - momentum_leaning(moments, known)


def rules_of(strategy: StrategyDefinition) -> Rules:
    """What the strategy's labels depend on."""
    take, stop = strategy.take_profit_percent, strategy.stop_loss_percent
    return Rules(
        horizon_seconds=strategy.horizon_seconds,
        take_profit=np.inf if take is None else take / 100.0,
        stop_loss=np.inf if stop is None else stop / 100.0,
        fee_rate=strategy.fee_rate,
    )


def act(
    scene: Scene,
    strategy: StrategyDefinition,
    rng: np.random.Generator,
    *,
    leaning: Leaning = warmup_leaning,
    none_sample_rate: float = 0.1,
    unfilled: float = 0.02,
) -> Record:
    """Let the warm-up policy decide at every moment, fill its orders at once, and label them on the bars.

    Args:
        none_sample_rate: the share q of the draws of `none` that is stored.
        unfilled: the share of signals that never fill.
    """
    known = KnownBars.of(scene.bars, scene.moments.at)
    rate = action_rate(strategy, scene.tick_seconds)
    mixed = (1.0 - strategy.randomness) * leaning(scene.moments, known) + strategy.randomness * 0.5
    given = np.clip(mixed, strategy.probability_floor, 1.0 - strategy.probability_floor)
    buy, sell = rate * given, rate * (1.0 - given)
    draw = rng.random(len(given))
    actions = np.where(draw < buy, 1, np.where(draw < buy + sell, -1, 0)).astype(np.int8)
    filled = (actions != 0) & (rng.random(len(given)) >= unfilled)
    stored = ~filled & ((actions != 0) | (rng.random(len(given)) < none_sample_rate))
    chances = np.stack((buy, sell, 1.0 - buy - sell))
    drawn = _Drawn(scene, known, chances, actions)
    rows, ticks = _traded(drawn, np.flatnonzero(filled), strategy, rng)
    return Record(rows, _idle(drawn, np.flatnonzero(stored), none_sample_rate), ticks)


@dataclass(frozen=True)
class _Drawn:
    scene: Scene
    known: KnownBars
    chances: Floats
    actions: NDArray[np.int8]

    def features(self, ticks: NDArray[np.intp]) -> NDArray[np.float32]:
        context = {name: values[ticks] for name, values in self.scene.context.items()}
        return feature_rows(self.scene.moments.take(ticks), self.known.take(ticks), context)


def _traded(
    drawn: _Drawn, ticks: NDArray[np.intp], strategy: StrategyDefinition, rng: np.random.Generator
) -> tuple[Rows, NDArray[np.intp]]:
    own, other = both_labels(drawn.scene, ticks, drawn.actions[ticks], rules_of(strategy))
    ticks, known = ticks[own.known], own.known
    rows = np.zeros(len(ticks), dtype=ROW)
    rows["signal_id"] = rng.integers(0, 256, (len(ticks), 16), dtype=np.uint8)
    rows["decided_us"] = drawn.scene.moments.at[ticks] * 1_000_000
    rows["exit_us"], rows["exit_rule"] = own.exit_us[known], own.exit_rules[known]
    rows["side"] = drawn.actions[ticks]
    rows["net_return"], rows["opposite_net_return"] = own.net_returns[known], other.net_returns[known]
    rows["label"] = rows["net_return"] > strategy.minimum_net_return
    rows["asset_code"] = rows["is_warmup"] = 1
    rows["probability_buy"], rows["probability_sell"], rows["probability_none"] = drawn.chances[:, ticks]
    rows["features"] = drawn.features(ticks)
    return rows, ticks


def both_labels(scene: Scene, ticks: NDArray[np.intp], sides: NDArray[np.int8], rules: Rules) -> tuple[Labels, Labels]:
    """What `sides`, and the other sides, would have earned from these moments on."""
    moments = scene.moments.take(ticks)

    def labels(signs: NDArray[np.int8]) -> Labels:
        return label_openings(scene.bars, moments.at, signs, moments.price, moments.spreads, rules)

    return labels(sides), labels((-sides).astype(np.int8))


def _idle(drawn: _Drawn, ticks: NDArray[np.intp], none_sample_rate: float) -> Rows:
    idle = np.zeros(len(ticks), dtype=IDLE_ROW)
    idle["decided_us"] = drawn.scene.moments.at[ticks] * 1_000_000
    idle["probability_buy"], idle["probability_sell"], idle["probability_none"] = drawn.chances[:, ticks]
    idle["action"] = drawn.actions[ticks]
    idle["sample_rate"] = np.where(drawn.actions[ticks] == 0, none_sample_rate, 1.0)
    idle["features"] = drawn.features(ticks)
    return idle


def _known(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)


def _logistic(score: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-score)), dtype=np.float64)
