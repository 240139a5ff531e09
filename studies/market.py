"""Simulated markets: with no structure, with clustered volatility, or with a planted edge.

Time runs in ticks of 5 seconds, the service's default between two decisions; a bar is 12 of them. Between tick i and
i + 1 the log price moves by

    volatility_i * (noise_i * sqrt(dt) + strength * regime_i * pressure_i * dt)          dt = 1/12 minute

pressure is an AR(1) of unit variance; regime is +1 unless the market switches. With strength 0 the price is a
martingale, whatever its volatility does. What a strategy may see of the pressure is what makes the edge:

- `imbalance`: the book shows it, as tanh(0.7 pressure);
- `momentum`: nothing shows it but the past returns that it made;
- `regime`: the book shows it, but its sign counts only together with the regime, which the spread shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.bars import Bars, autoregression, recursion

Floats = NDArray[np.float64]
Edge = Literal["none", "imbalance", "momentum", "regime"]
TICK_SECONDS = 5
BAR_SECONDS = 60
TICKS_PER_BAR = BAR_SECONDS // TICK_SECONDS
TICK_MINUTES = TICK_SECONDS / 60
START_SECOND = 1_767_571_200
"""2026-01-05 00:00:00 UTC, a Monday."""
SHOWN = 0.7
GARCH_SHOCK, GARCH_MEMORY = 0.10, 0.88
WAVE_MINUTES = 480.0
MOST_VOLATILITY = 8.0
COMMON_SHARE = 0.5


@dataclass(frozen=True)
class Process:
    """How prices come about.

    Attributes:
        volatility: noise of the log price over one minute; a fraction.
        clustered: volatility follows a GARCH(1, 1) of minutes (shock 0.10, memory 0.88) times a slow wave of hours.
        wave: how wide that wave is: the standard deviation of its logarithm.
        strength: drift of a minute per unit of pressure, in volatilities.
        memory_minutes: the pressure's correlation falls to 1/e over so long.
        regime_minutes: mean length of a regime.
        spread: (ask - bid) / mid in the mean, a fraction.
        turns_after_minutes: from then on the pressure drives the price `turns_to` times as much; below 0 the other way.
    """

    edge: Edge = "none"
    volatility: float = 0.001
    clustered: bool = False
    wave: float = 0.4
    strength: float = 0.0
    memory_minutes: float = 25.0
    regime_minutes: float = 240.0
    spread: float = 0.0001
    turns_after_minutes: float = math.inf
    turns_to: float = 0.0

    @property
    def tick_phi(self) -> float:
        """Autocorrelation of the pressure over one tick."""
        return math.exp(-TICK_MINUTES / self.memory_minutes)

    @property
    def tick_drift(self) -> float:
        """Drift of a tick per unit of pressure, as a fraction."""
        return self.strength * self.volatility * TICK_MINUTES

    @property
    def tick_noise(self) -> float:
        """Noise of a tick, as a fraction."""
        return self.volatility * math.sqrt(TICK_MINUTES)


@dataclass(frozen=True)
class Market:
    """One simulated path; arrays (T,) by tick unless said otherwise.

    Attributes:
        mids: the mid at each tick.
        returns: log price of the next tick less that of this one.
        pressure, regime: the hidden state.
        shown_imbalance: what the book shows, -1 to 1.
        spreads: (ask - bid) / mid.
    """

    process: Process
    mids: Floats
    returns: Floats
    pressure: Floats
    regime: Floats
    shown_imbalance: Floats
    spreads: Floats
    bars: Bars

    @property
    def seconds(self) -> NDArray[np.int64]:
        """Time of each tick, seconds since 1970."""
        return START_SECOND + TICK_SECONDS * np.arange(len(self.mids), dtype=np.int64)


def simulate(process: Process, minutes: int, assets: int, rng: np.random.Generator) -> list[Market]:
    """One market per asset, of so many minutes; half of the variance of their noise is common to all of them.

    Everything follows from `rng`. A market of one asset has no common part.
    """
    ticks = minutes * TICKS_PER_BAR
    share = COMMON_SHARE if assets > 1 else 0.0
    common = math.sqrt(share) * rng.standard_normal(ticks)
    wave = autoregression(rng.standard_normal(minutes), math.exp(-1.0 / WAVE_MINUTES))
    return [
        _asset(process, common + math.sqrt(1.0 - share) * rng.standard_normal(ticks), wave, rng) for _ in range(assets)
    ]


def _asset(process: Process, noise: Floats, wave: Floats, rng: np.random.Generator) -> Market:
    ticks = len(noise)
    pressure = autoregression(rng.standard_normal(ticks), process.tick_phi)
    regime = _regimes(process, ticks, rng)
    regime = np.where(np.arange(ticks) * TICK_MINUTES < process.turns_after_minutes, regime, process.turns_to * regime)
    volatility = np.repeat(_relative_volatility(process, noise, wave), TICKS_PER_BAR)
    returns = volatility * (process.tick_noise * noise + process.tick_drift * regime * pressure)
    mids = 100.0 * np.exp(np.concatenate(([0.0], np.cumsum(returns[:-1]))))
    shown = pressure
    if process.edge in ("none", "momentum"):
        shown = autoregression(rng.standard_normal(ticks), process.tick_phi)
    return Market(
        process=process,
        mids=mids,
        returns=returns,
        pressure=pressure,
        regime=regime,
        shown_imbalance=np.tanh(SHOWN * shown),
        spreads=process.spread * (1.0 - 0.2 * regime + 0.05 * (rng.random(ticks) - 0.5)),
        bars=_bars(mids, volatility, rng),
    )


def _regimes(process: Process, ticks: int, rng: np.random.Generator) -> Floats:
    if process.edge != "regime":
        return np.ones(ticks)
    switches = rng.random(ticks) < TICK_MINUTES / process.regime_minutes
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return np.asarray(sign * np.where(np.cumsum(switches) % 2 == 0, 1.0, -1.0), dtype=np.float64)


def _relative_volatility(process: Process, noise: Floats, wave: Floats) -> Floats:
    """Per minute, about 1 in the mean; known before the minute begins."""
    minutes = len(wave)
    if not process.clustered:
        return np.ones(minutes)
    shocks = noise.reshape(minutes, -1).sum(axis=1) ** 2 / TICKS_PER_BAR
    variances = np.empty(minutes)
    variance, rest = 1.0, 1.0 - GARCH_SHOCK - GARCH_MEMORY
    for minute, shock in enumerate(shocks.tolist()):
        variances[minute] = variance
        variance = rest + (GARCH_SHOCK * shock + GARCH_MEMORY) * variance
    slow = np.exp(process.wave * wave - process.wave**2 / 2)
    return np.asarray(np.minimum(np.sqrt(variances) * slow, MOST_VOLATILITY), dtype=np.float64)


def _bars(mids: Floats, volatility: Floats, rng: np.random.Generator) -> Bars:
    """Bars of the mids, with a volume that rises with the volatility, as it does on real markets."""
    inside = mids.reshape(-1, TICKS_PER_BAR)
    minutes = len(inside)
    mood = autoregression(rng.standard_normal(minutes), 0.9)
    volume = volatility[::TICKS_PER_BAR] * np.exp(0.4 * mood + 0.4 * rng.standard_normal(minutes))
    ends = START_SECOND + BAR_SECONDS * (1 + np.arange(minutes, dtype=np.int64))
    return Bars(BAR_SECONDS, ends, inside.max(axis=1), inside.min(axis=1), inside[:, -1].copy(), volume)


def filtered_pressure(market: Market) -> tuple[Floats, float]:
    """Mean of the pressure given all returns so far, (T,), and its variance: the Kalman filter in its steady state.

    The state moves by z' = phi z + sqrt(1 - phi^2) e, and a return shows tick_drift * z + tick_noise * n.
    """
    process = market.process
    phi, drift, noise = process.tick_phi, process.tick_drift, process.tick_noise
    variance = 1.0
    for _ in range(20_000):
        variance = phi**2 * variance * noise**2 / (drift**2 * variance + noise**2) + 1.0 - phi**2
    gain = variance * drift / (drift**2 * variance + noise**2)
    seen = np.concatenate(([0.0], phi * gain * market.returns[:-1]))
    return recursion(seen, phi * (1.0 - gain * drift)), variance
