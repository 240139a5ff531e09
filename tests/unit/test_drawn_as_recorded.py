"""What was drawn against what was recorded, over tens of thousands of ticks of the real generator.

Every later value of a model rests on the recorded probabilities, so a sampler that departs from them must be found.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import cycle

import numpy as np
import pytest
from scipy import stats

from model_service.config.clock import SeededIdentifiers
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.features import FEATURE_NAMES
from model_service.policies.base import ActionProbabilities
from model_service.services import openings, signal_generation
from model_service.services.decision import Draw, draw
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import OpenOrder
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import NOON, snapshot, strategy
from tests.unit.test_signal_generation import FakeModes, FakeStore

LEAST_P_VALUE = 1e-3
"""Seeds are fixed: a right sampler passes for good, and one in a thousand seeds would have to be changed."""
IMBALANCES = (-0.8, -0.3, 0.0, 0.4, 0.9)
Probabilities = tuple[float, float, float]


@dataclass
class Drawn:
    """What one long run left: actions by the probabilities that were recorded with them."""

    store: FakeStore
    actions: Mapping[Probabilities, dict[Side | None, int]]

    def p_value(self) -> float:
        """Chi-square of all groups together against what was recorded."""
        statistic, degrees = 0.0, 0
        for probabilities, counted in self.actions.items():
            drawn = np.array([counted.get(action, 0) for action in (Side.BUY, Side.SELL, None)])
            possible = np.array(probabilities) > 0
            assert not drawn[~possible].any(), "an action of probability 0 was drawn"
            expected = np.array(probabilities)[possible] * drawn.sum()
            assert expected.min() > 20, "too few for a chi-square test"
            statistic += float(np.sum((drawn[possible] - expected) ** 2 / expected))
            degrees += int(possible.sum()) - 1
        return float(stats.chi2.sf(statistic, degrees))


async def drawn_by(
    *strategies: StrategyDefinition,
    ticks: int,
    seed: str = "7",
    tick_seconds: float = 5.0,
    orders: tuple[OpenOrder, ...] = (),
) -> Drawn:
    """Actions of the real generator in a book whose imbalance goes through a few values."""
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=True), tick_seconds=tick_seconds,
        expiry_seconds=30.0, rate_per_minute=1e9, burst=10**6, none_sample_rate=1.0, seed=seed,
        statistics_refresh_seconds=1e9,
    )  # fmt: skip
    store, modes = FakeStore(orders=orders), FakeModes()
    markets = {asset: QuickMarket(asset) for one in strategies for asset in one.assets}
    source = SignalGenerator(StrategyRoster.of(strategies), markets, modes, store, SeededIdentifiers(1), limits)  # type: ignore[arg-type]
    for index in range(ticks):
        await source.step(NOON + timedelta(seconds=tick_seconds * index))
    return Drawn(store, counted(store))


class QuickMarket:
    """A fresh book at each look, of one imbalance after the other."""

    def __init__(self, asset: str) -> None:
        self._books = cycle(snapshot(asset=asset, book_imbalance=imbalance) for imbalance in IMBALANCES)

    def snapshot(self, now: datetime) -> MarketSnapshot:
        return replace(next(self._books), at=now, updated_at=now)


def counted(store: FakeStore) -> Mapping[Probabilities, dict[Side | None, int]]:
    actions: dict[Probabilities, dict[Side | None, int]] = defaultdict(lambda: defaultdict(int))
    for one in store.signals:
        actions[numbers(one.probabilities)][one.signal.side] += 1
    for none in store.nones:
        actions[numbers(none.probabilities)][None] += 1
    return actions


def numbers(probabilities: ActionProbabilities) -> Probabilities:
    return probabilities.buy, probabilities.sell, probabilities.none


@pytest.fixture(autouse=True)
def features_of_no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up reads the snapshot; the vector would take most of the time."""
    empty = np.zeros(len(FEATURE_NAMES), dtype=np.float32)
    monkeypatch.setattr(signal_generation, "feature_vector", lambda *_: empty)


async def test_actions_are_drawn_as_was_recorded() -> None:
    drawn = await drawn_by(strategy(signals_per_minute=6.0, randomness=0.3), ticks=20_000)
    assert len(drawn.actions) == len(IMBALANCES)
    assert sum(sum(group.values()) for group in drawn.actions.values()) == 20_000
    assert drawn.p_value() > LEAST_P_VALUE


async def test_a_masked_side_is_never_drawn_and_its_mass_goes_to_none() -> None:
    sold = OpenOrder("momentum_v1", "BTCUSDT", Side.SELL, "open")
    drawn = await drawn_by(strategy(signals_per_minute=6.0, randomness=0.3), ticks=10_000, orders=(sold,))
    assert all(buy == 0.0 and none == pytest.approx(1.0 - sell) for buy, sell, none in drawn.actions)
    rate = 0.5
    assert all(sell >= 0.1 * rate for _, sell, _ in drawn.actions), "the floor holds for the side that is left"
    assert drawn.p_value() > LEAST_P_VALUE


def leaning(strategy: StrategyDefinition, probabilities: ActionProbabilities, rng: random.Random) -> Draw:
    """Buys a twentieth more often than is recorded, at the cost of sales."""
    shift = 0.05 * probabilities.buy
    return draw(strategy, ActionProbabilities(probabilities.buy + shift, probabilities.sell - shift), rng)


def eager(strategy: StrategyDefinition, probabilities: ActionProbabilities, rng: random.Random) -> Draw:
    """Acts a thirtieth more often than is recorded."""
    return draw(strategy, ActionProbabilities(probabilities.buy * 31 / 30, probabilities.sell * 31 / 30), rng)


@pytest.mark.parametrize("biased", [leaning, eager])
async def test_a_biased_sampler_is_found(monkeypatch: pytest.MonkeyPatch, biased: Callable[..., Draw]) -> None:
    monkeypatch.setattr(openings, "draw", biased)
    drawn = await drawn_by(strategy(signals_per_minute=6.0, randomness=0.3), ticks=20_000)
    assert drawn.p_value() < LEAST_P_VALUE


async def test_amounts_are_uniform_between_the_bounds() -> None:
    drawn = await drawn_by(strategy(signals_per_minute=11.4), ticks=8_000)
    amounts = [one.signal.amount for one in drawn.store.signals]
    assert all(Decimal(100) <= amount <= Decimal(1000) and amount == round(amount, 2) for amount in amounts)
    assert stats.kstest([float(amount) for amount in amounts], stats.uniform(100, 900).cdf).pvalue > LEAST_P_VALUE
    by_side = [[float(one.signal.amount) for one in drawn.store.signals if one.signal.side is side] for side in Side]
    assert stats.ks_2samp(*by_side).pvalue > LEAST_P_VALUE, "the amount does not depend on the side"


async def test_every_cent_between_the_bounds_is_as_likely() -> None:
    narrow = strategy(signals_per_minute=11.4, minimum_amount=Decimal("100.00"), maximum_amount=Decimal("100.08"))
    drawn = await drawn_by(narrow, ticks=4_000)
    cents = np.array([int((one.signal.amount - 100) * 100) for one in drawn.store.signals])
    assert stats.chisquare(np.bincount(cents, minlength=8)).pvalue > LEAST_P_VALUE


@pytest.mark.parametrize(
    ("frequency", "tick_seconds", "assets", "ticks"),
    [(1.0, 5.0, 1, 6_000), (6.0, 1.0, 3, 3_000), (0.5, 20.0, 2, 4_000), (30.0, 0.5, 2, 4_000), (2.0, 0.1, 1, 6_000)],
)
async def test_so_many_signals_a_minute_as_configured(
    frequency: float, tick_seconds: float, assets: int, ticks: int
) -> None:
    names = ("BTCUSDT", "ETHUSDT", "SOLUSDT")[:assets]
    drawn = await drawn_by(
        strategy(assets=names, signals_per_minute=frequency), ticks=ticks, tick_seconds=tick_seconds
    )  # fmt: skip
    expected = frequency * ticks * tick_seconds / 60.0
    low, high = stats.binom.interval(1 - LEAST_P_VALUE, ticks * assets, expected / (ticks * assets))
    assert low <= len(drawn.store.signals) <= high
    by_asset = [sum(one.signal.asset == name for one in drawn.store.signals) for name in names]
    assert assets == 1 or stats.chisquare(by_asset).pvalue > LEAST_P_VALUE
