"""The simulated market: reproducible, as the gateway writes it, and with the edge that is promised."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from model_service.contracts.types import Side
from model_service.demo.bayes import LabelRule, Opening, bayes_reference, label_probabilities
from model_service.demo.market import DEFAULT_ASSETS, Process, SimulatedMarket
from model_service.market.snapshot import Bar
from model_service.trades.labels import Barriers, Entry, label_opening

RULE = LabelRule(horizon_seconds=300, take_profit_percent=1.0, stop_loss_percent=0.6, fee_rate=0.00055)


def bodies(market: SimulatedMarket, steps: int) -> list[bytes]:
    return [message.body for _ in range(steps) for message in (market.advance() or pytest.fail("over")).messages]


def records(market: SimulatedMarket, steps: int, event_type: str) -> list[dict[str, Any]]:
    decoded = [json.loads(body) for body in bodies(market, steps)]
    return [body for body in decoded if body["event_type"] == event_type]


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    assert bodies(SimulatedMarket(7), 40) == bodies(SimulatedMarket(7), 40)
    assert bodies(SimulatedMarket(7), 40) != bodies(SimulatedMarket(8), 40)


def test_an_asset_does_not_depend_on_the_others() -> None:
    alone, together = SimulatedMarket(7, assets=("ETHUSDT",)), SimulatedMarket(7)
    for _ in range(30):
        alone.advance()
        together.advance()
    assert alone.quote("ETHUSDT") == together.quote("ETHUSDT")
    assert alone.quote("BTCUSDT") is None


def test_candles_hold_the_six_prices_of_their_minute() -> None:
    market = SimulatedMarket(7, assets=("BTCUSDT",))
    decoded = [json.loads(body) for body in bodies(market, 13)]
    prices = [float(body["payload"]["lastPrice"]) for body in decoded if body["event_type"] == "ticker"]
    klines = [body for body in decoded if body["event_type"] == "kline"]
    assert len(klines) == 2
    for index, body in enumerate(klines):
        payload, minute = body["payload"], prices[6 * index : 6 * index + 6]
        assert payload["confirm"] is True
        assert payload["end"] - payload["start"] == 59_999
        assert float(payload["open"]) == minute[0]
        assert float(payload["close"]) == minute[-1]
        assert (float(payload["high"]), float(payload["low"])) == (max(minute), min(minute))
    assert klines[0]["topic"] == "kline.1.BTCUSDT"
    assert "symbol" not in klines[0]["payload"]


def test_the_book_shows_the_pressure() -> None:
    market = SimulatedMarket(7, assets=("BTCUSDT",))
    for body in records(market, 50, "orderbook"):
        (_, bid), (_, ask) = body["payload"]["b"][0], body["payload"]["a"][0]
        shown = (float(bid) - float(ask)) / (float(bid) + float(ask))
        step = body["payload"]["u"] - 1
        assert shown == pytest.approx(math.tanh(0.7 * market._assets["BTCUSDT"].pressures[step]), abs=1e-4)


def test_the_spread_is_one_basis_point() -> None:
    market = SimulatedMarket(7)
    market.advance()
    for asset in DEFAULT_ASSETS:
        quote = market.quote(asset)
        assert quote is not None
        assert (quote.ask - quote.bid) / (quote.ask + quote.bid) * 2 == pytest.approx(1e-4)


def test_the_market_ends_after_its_steps() -> None:
    market = SimulatedMarket(7, steps=2)
    assert market.advance() is not None
    assert market.advance() is not None
    assert market.advance() is None


def openings(seed: int, count: int) -> list[Opening]:
    """Openings on random sides, labelled from the market's own prices by the rule written out plainly."""
    market, rng = SimulatedMarket(seed, assets=("BTCUSDT",)), np.random.default_rng(seed)
    mids = []
    for _ in range(3000):
        market.advance()
        quote = market.quote("BTCUSDT")
        assert quote is not None
        mids.append((quote.bid + quote.ask) / 2)
    return [_opening(market, mids, int(step), int(side), rng.uniform(1, 3)) for step, side in _draws(rng, count)]


def _draws(rng: np.random.Generator, count: int) -> Sequence[tuple[int, int]]:
    return list(zip(rng.integers(0, 2900, count).tolist(), rng.choice([-1, 1], count).tolist(), strict=True))


def _opening(market: SimulatedMarket, mids: list[float], step: int, side: int, latency: float) -> Opening:
    at = market.start + timedelta(seconds=10 * step)
    price = Decimal(mids[step]) * (1 + side * Decimal("0.00006"))
    fees = price * Decimal("0.00055")
    entry = Entry(Side.BUY if side > 0 else Side.SELL, at + timedelta(seconds=latency), price, Decimal(1), fees)
    first = step - step % 6
    label = label_opening(
        entry,
        Barriers(RULE.take_profit_percent, RULE.stop_loss_percent, timedelta(seconds=RULE.horizon_seconds)),
        [_bar(market, mids, index) for index in range(first, first + 42, 6)],
        half_spread_percent=0.005,
        exit_fee_rate=RULE.fee_rate,
        minimum_net_return=0.0,
    )
    assert label is not None
    pressure = market.pressure_at("BTCUSDT", at)
    return Opening(pressure, side, at.timestamp(), entry.at.timestamp(), float(price) / mids[step], label.label)


def _bar(market: SimulatedMarket, mids: list[float], first: int) -> Bar:
    start, prices = market.start + timedelta(seconds=10 * first), mids[first : first + 6]
    return Bar(start, start + timedelta(minutes=1), prices[0], max(prices), min(prices), prices[-1], 1.0)


def test_the_planted_edge_has_the_promised_size() -> None:
    """Over the stationary pressure and random sides the best possible accuracy is 0.84, fees and spread included."""
    rng = np.random.default_rng(0)
    draws = zip(rng.standard_normal(2000).tolist(), rng.choice([-1, 1], 2000).tolist(), strict=True)
    rows = [
        Opening(z, side, 10.0 * (i % 6), 10.0 * (i % 6) + 2, 1 + side * 65e-6, 0) for i, (z, side) in enumerate(draws)
    ]
    assert bayes_reference(rows, RULE, Process(), paths=500).expected == pytest.approx(0.844, abs=0.012)


def test_bayes_probabilities_are_calibrated() -> None:
    rows = [row for seed in (1, 2, 3, 4) for row in openings(seed, 400)]
    probability = label_probabilities(rows, RULE, Process(), paths=500)
    labels = np.array([row.label for row in rows])
    assert ((probability > 0.5) == (labels == 1)).mean() == pytest.approx(0.85, abs=0.04)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):
        inside = (probability >= low) & (probability <= high)
        assert labels[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.06)


def test_bayes_knows_the_barriers() -> None:
    """With a stop so near that every path touches it first, nothing is ever won; with a near target, nearly all is."""
    row = Opening(pressure=0.0, side=1, decided_second=0.0, entry_second=2.0, entry_ratio=1.0, label=0)
    near = Process(sigma=0.01)
    stop = LabelRule(horizon_seconds=3600, take_profit_percent=None, stop_loss_percent=0.001, fee_rate=0.0)
    target = LabelRule(horizon_seconds=3600, take_profit_percent=0.2, stop_loss_percent=None, fee_rate=0.00055)
    assert label_probabilities([row], stop, near)[0] < 0.15
    assert label_probabilities([row], target, near)[0] > 0.85


def test_bayes_wants_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        bayes_reference([], RULE, Process())
