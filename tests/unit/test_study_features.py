"""The study's features, warm-up and propensities are the service's, as arrays."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from model_service.market.indicators import IndicatorSet
from model_service.market.snapshot import Bar, MarketSnapshot
from model_service.models.features import DecisionContext, feature_vector
from model_service.policies.warmup import WarmupPolicy
from studies.bars import indicators
from studies.decisions import act
from studies.features import KnownBars, feature_rows
from studies.market import Market, Process, simulate
from studies.world import World, play, scene_of

MINUTES = 200


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(Process(clustered=True), MINUTES, 1, np.random.default_rng(3))[0]


def streamed(market: Market) -> list[dict[str, float]]:
    """What the service's own indicators say at the end of each bar."""
    bars, service, values = market.bars, IndicatorSet(), []
    for index in range(len(bars)):
        start, end = (datetime.fromtimestamp(int(bars.ends[index]) - ago, UTC) for ago in (60, 0))
        close = float(bars.close[index])
        bar = Bar(start, end, close, float(bars.high[index]), float(bars.low[index]), close, float(bars.volume[index]))
        values.append(dict(service.update(bar)))
    return values


def test_indicators_are_those_of_the_service(market: Market) -> None:
    expected, found = streamed(market), indicators(market.bars)
    assert set(found) == set(expected[-1])
    for name, values in found.items():
        np.testing.assert_allclose(values, [one[name] for one in expected], rtol=1e-9, atol=1e-10, err_msg=name)


def test_features_and_propensities_are_those_of_the_service(market: Market) -> None:
    strategy = World(Process()).strategy
    scene = scene_of(market, np.random.default_rng(4))
    ticks = np.array([0, 5, 11, 12, 400, 777])
    moments = scene.moments.take(ticks)
    rows = feature_rows(moments, KnownBars.of(scene.bars, moments.at), {})
    by_bar = streamed(market)
    record = act(scene, strategy, np.random.default_rng(5), none_sample_rate=1.0)
    drawn = {int(row["decided_us"]): row for row in record.idle}
    compared = 0
    for row, tick in enumerate(ticks):
        snapshot = snapshot_at(market, scene.moments.take(np.array([tick])), by_bar)
        vector = feature_vector(snapshot, DecisionContext())
        np.testing.assert_allclose(rows[row], vector, rtol=2e-6, atol=1e-9)
        proposal = WarmupPolicy().propose(strategy, snapshot, vector, scene.tick_seconds)
        stored = drawn.get(int(moments.at[row]) * 1_000_000)
        if stored is not None:
            compared += 1
            assert stored["probability_buy"] == pytest.approx(proposal.probabilities.buy, rel=1e-9)
            assert stored["probability_sell"] == pytest.approx(proposal.probabilities.sell, rel=1e-9)
            assert stored["probability_none"] == pytest.approx(proposal.probabilities.none, rel=1e-9)
    assert compared >= 4


def snapshot_at(market: Market, moment: object, by_bar: list[dict[str, float]]) -> MarketSnapshot:
    from studies.features import Moments

    assert isinstance(moment, Moments)
    at, price, spread = int(moment.at[0]), float(moment.price[0]), float(moment.spreads[0])
    known = by_bar[int(np.searchsorted(market.bars.ends, at, side="right")) - 1]
    return MarketSnapshot(
        asset="ASSET0",
        at=datetime.fromtimestamp(at, UTC),
        updated_at=datetime.fromtimestamp(at, UTC),
        price=price,
        bid=price * (1 - spread / 2),
        ask=price * (1 + spread / 2),
        spread_percent=100 * spread,
        book_imbalance=float(moment.book_imbalance[0]),
        trade_imbalance=float(moment.trade_imbalance[0]),
        volatility=known["realised_volatility"],
        indicators=known,
    )


def test_draws_come_as_often_as_their_propensities_say() -> None:
    history = play(World(Process(), assets=2), 3_000, np.random.default_rng(6))
    rows, idle = history.rows, history.idle
    minutes = (int(idle["decided_us"][-1]) - int(idle["decided_us"][0])) / 60e6
    buys = np.concatenate((rows["side"][rows["side"] > 0], idle["action"][idle["action"] > 0]))
    sells = np.concatenate((rows["side"][rows["side"] < 0], idle["action"][idle["action"] < 0]))
    assert (len(buys) + len(sells)) / minutes == pytest.approx(1.0, abs=0.06)
    nones = idle["action"] == 0
    ticks = 2 * 12 * minutes
    assert np.sum(1.0 / idle["sample_rate"][nones]) == pytest.approx(ticks * (1 - 1 / 24), rel=0.05)
    # Weighted by what they were drawn with, buys stand for all ticks at which a buy was possible: each once.
    weights = 1.0 / rows["probability_buy"][rows["side"] > 0]
    assert np.sum(weights) == pytest.approx(0.98 * ticks, rel=0.06)
    assert np.all(np.diff(rows["decided_us"]) >= 0)
    total = rows["probability_buy"] + rows["probability_sell"] + rows["probability_none"]
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
