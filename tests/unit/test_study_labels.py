"""The study's labels are the service's: many at once, one by one the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from model_service.contracts.types import Side
from model_service.market.snapshot import Bar
from model_service.trades.labels import (
    EXIT_RULE_CODES,
    Barriers,
    Entry,
    Label,
    PathBroken,
    label_opening,
    opposite_entry,
)
from studies.bars import Bars
from studies.labels import Rules, entry_prices, label_openings

START = 1_767_571_200
RULES = Rules(horizon_seconds=900, take_profit=0.004, stop_loss=0.003, fee_rate=0.00055)
BARRIERS = Barriers(0.4, 0.3, timedelta(seconds=900))


def bars_with_gaps(rng: np.random.Generator, minutes: int) -> Bars:
    close = 100.0 * np.exp(np.cumsum(0.001 * rng.standard_normal(minutes)))
    wide = np.where(rng.random(minutes) < 0.03, 0.01, 0.0008)  # a few hold both barriers
    high, low = close * (1 + wide * rng.random(minutes)), close * (1 - wide * rng.random(minutes))
    ends = START + 60 * (1 + np.arange(minutes, dtype=np.int64))
    kept = rng.random(minutes) > 0.15
    kept[200:206] = False
    return Bars(60, ends[kept], high[kept], low[kept], close[kept], np.ones(int(kept.sum())))


def one_by_one(bars: Bars, at: int, side: int, mid: float, spread: float, *, opposite: bool) -> Label | None:
    path = [
        Bar(moment(end - bars.seconds), moment(end), close, high, low, close, 1.0)
        for end, close, high, low in zip(
            bars.ends.tolist(), bars.close.tolist(), bars.high.tolist(), bars.low.tolist(), strict=True
        )
    ]
    price = Decimal(repr(mid)) * (1 + side * Decimal(repr(spread)) / 2)
    entry = Entry(Side.BUY if side > 0 else Side.SELL, moment(at), price, Decimal(2), price * 2 * Decimal("0.00055"))
    half = 100.0 * spread / 2
    return label_opening(
        opposite_entry(entry, half) if opposite else entry,
        BARRIERS, path, half_spread_percent=half, exit_fee_rate=0.00055, minimum_net_return=0.0,
    )  # fmt: skip


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


@pytest.mark.parametrize("seed", range(3))
def test_many_labels_at_once_are_those_of_the_service(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bars = bars_with_gaps(rng, 400)
    at = np.sort(START + 5 * rng.integers(20, 400 * 12, 150))
    at[::2] -= at[::2] % 60
    sides = rng.choice(np.array([-1, 1], dtype=np.int8), len(at))
    last = np.maximum(np.searchsorted(bars.ends, at, side="right") - 1, 0)
    mids = bars.close[last] * np.exp(0.003 * rng.standard_normal(len(at)))
    spreads = np.full(len(at), 0.0002)
    own = label_openings(bars, at, sides, mids, spreads, RULES)
    other = label_openings(bars, at, (-sides).astype(np.int8), mids, spreads, RULES)
    rules = set()
    for index in range(len(at)):
        arguments = bars, int(at[index]), int(sides[index]), float(mids[index]), 0.0002
        try:
            expected = one_by_one(*arguments, opposite=False)
        except PathBroken:
            expected = None
        assert own.known[index] == (expected is not None)
        if expected is None:
            continue
        rules.add(expected.exit_rule)
        assert own.net_returns[index] == pytest.approx(expected.net_return, abs=1e-12)
        assert own.exit_us[index] == round(expected.exit_at.timestamp() * 1e6)
        assert own.exit_rules[index] == EXIT_RULE_CODES[expected.exit_rule]
        opposite = one_by_one(*arguments, opposite=True)
        assert opposite is not None
        assert other.net_returns[index] == pytest.approx(opposite.net_return, abs=1e-12)
    assert len(rules) == 3, "each way to end was met"
    assert not own.known.all()


def test_who_buys_pays_the_ask_and_who_sells_gets_the_bid() -> None:
    prices = entry_prices(np.array([100.0, 100.0]), np.array([1, -1], dtype=np.int8), np.array([0.002, 0.002]))
    assert prices.tolist() == pytest.approx([100.1, 99.9])
