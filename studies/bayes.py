"""What the best possible model would know and earn on a simulated market.

The whole state that a strategy could see is known to the simulator: the pressure where the book shows it, what the
Kalman filter makes of all past returns where it does not, and the regime. Given that state, the move of the log price
up to the horizon mark is normal (a mixture of normals where the regime may switch meanwhile), so P(y = 1) and the
expected net return of either side follow in closed form. The barriers are left out of the formula; with the study's
distances a few rows in a thousand touch one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from studies.labels import Rules, entry_prices
from studies.market import BAR_SECONDS, TICK_MINUTES, TICK_SECONDS, TICKS_PER_BAR, Market, Process, filtered_pressure

Floats = NDArray[np.float64]
REGIME_PATHS = 200


@dataclass(frozen=True)
class Outlook:
    """The best word on n moments: for buy and sell, P(y = 1) and the expected net return, (n,) each."""

    win_buy: Floats
    win_sell: Floats
    earn_buy: Floats
    earn_sell: Floats

    def win(self, sides: NDArray[np.int8]) -> Floats:
        """P(y = 1) of these sides."""
        return np.where(sides > 0, self.win_buy, self.win_sell)

    def best_sides(self) -> NDArray[np.int8]:
        """What the oracle policy does: the side with the larger expected net return, 0 where both are below 0."""
        better = np.where(self.earn_buy >= self.earn_sell, 1, -1)
        return np.where(np.maximum(self.earn_buy, self.earn_sell) > 0.0, better, 0).astype(np.int8)


def outlook(market: Market, ticks: NDArray[np.intp], rules: Rules, minimum: float = 0.0) -> Outlook:
    """The best word on the market at these ticks."""
    state, doubt = _state(market, ticks)
    phase = ticks % TICKS_PER_BAR
    win, earn = np.empty((2, len(ticks))), np.empty((2, len(ticks)))
    for one in np.unique(phase):
        rows = np.flatnonzero(phase == one)
        slopes, deviations, shares = _moves(market.process, _lead(int(one), rules.horizon_seconds), doubt)
        spreads = market.spreads[ticks[rows]]
        for index, side in enumerate((1, -1)):
            win[index, rows], earn[index, rows] = _of_side(
                side, state[rows], spreads, slopes, deviations, shares, rules, minimum
            )
    return Outlook(win[0], win[1], earn[0], earn[1])


def _lead(phase: int, horizon_seconds: int) -> int:
    """Ticks from a decision in this phase of its bar to the last price of the bar that is the horizon mark."""
    due = phase * TICK_SECONDS + horizon_seconds
    return -(-due // BAR_SECONDS) * TICKS_PER_BAR - 1 - phase


def _state(market: Market, ticks: NDArray[np.intp]) -> tuple[Floats, float]:
    """What can be known of regime * pressure at these ticks, and the variance that is left."""
    if market.process.edge == "none":
        return np.zeros(len(ticks)), 0.0
    if market.process.edge == "momentum":
        mean, variance = filtered_pressure(market)
        return mean[ticks], variance
    return (market.regime * market.pressure)[ticks], 0.0


@lru_cache(maxsize=64)
def _moves(process: Process, lead: int, doubt: float) -> tuple[Floats, Floats, Floats]:
    """The log price moves by slope * state + deviation * normal with each of these shares; (k,) each."""
    age = np.arange(lead)
    signs, shares = _regime_paths(process, lead)
    decay = process.tick_phi**age
    carried = np.minimum(age[:, None], age)
    apart = np.abs(age[:, None] - age)
    # Cov(z_j, z_k | z_0) of an AR(1) with unit variance.
    covariance = process.tick_phi**apart * (1.0 - process.tick_phi ** (2 * carried))
    slopes = process.tick_drift * signs @ decay
    own = process.tick_drift**2 * np.einsum("ij,jk,ik->i", signs, covariance, signs, optimize=True)
    variances = lead * process.tick_noise**2 + own + slopes**2 * doubt
    return slopes, np.sqrt(variances), shares


def _regime_paths(process: Process, lead: int) -> tuple[Floats, Floats]:
    """Signs of the regime relative to now, (k, lead), and how often each path comes."""
    if process.edge != "regime":
        return np.ones((1, lead)), np.ones(1)
    chance = TICK_MINUTES / process.regime_minutes
    stays = (1.0 - chance) ** (lead - 1)
    switches = np.random.default_rng(0).random((40 * REGIME_PATHS, lead - 1)) < chance
    switching = switches[switches.any(axis=1)][:REGIME_PATHS]
    signs = np.where(np.cumsum(switching, axis=1) % 2 == 0, 1.0, -1.0)
    paths = np.concatenate((np.ones((1, lead)), np.column_stack((np.ones(len(signs)), signs))))
    return paths, np.concatenate(([stays], np.full(len(signs), (1.0 - stays) / len(signs))))


def _of_side(
    side: int,
    state: Floats,
    spreads: Floats,
    slopes: Floats,
    deviations: Floats,
    shares: Floats,
    rules: Rules,
    minimum: float,
) -> tuple[Floats, Floats]:
    """net = side (k M - 1) - fee (1 + k M), with M the mark over the mid now and k what the spread takes of it."""
    mids = np.ones(len(state))
    kept = (1.0 - side * spreads / 2.0) / entry_prices(mids, np.full(len(state), side, dtype=np.int8), spreads)
    needed = np.log((side + rules.fee_rate + minimum) / (side - rules.fee_rate) / kept)
    win, growth = np.zeros(len(state)), np.zeros(len(state))
    for slope, deviation, share in zip(slopes.tolist(), deviations.tolist(), shares.tolist(), strict=True):
        win += share * ndtr(side * (slope * state - needed) / deviation)
        growth += share * np.exp(slope * state + deviation**2 / 2.0)
    value = kept * growth
    return win, side * (value - 1.0) - rules.fee_rate * (1.0 + value)


def bayes_accuracy(win: Floats) -> float:
    """Mean of max(p, 1 - p): what always guessing the likelier label is right in, without the luck of the labels."""
    return float(np.mean(np.maximum(win, 1.0 - win))) if len(win) else math.nan
