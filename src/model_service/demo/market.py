"""A simulated market with a planted edge of known size.

Per asset there is one hidden number z, the pressure in the book. Per minute it is an AR(1) with phi = 0.96 and unit
variance; the log price drifts by 1.2 * sigma * z per minute under noise of sigma per minute. The process runs in
steps of 10 seconds: phi ** (1/6), drift / 6, noise * sqrt(1/6). The book shows z without noise, through a bounded
monotone function:

    (bid_size - ask_size) / (bid_size + ask_size) = tanh(0.7 z)

Nothing else carries information. Trades take random sides, and momentum helps only because z is slow. So the best
that any model can reach is known: for openings on random sides, a horizon of 5 minutes and 5.5 bp of fees per side,
the Bayes accuracy of "will this trade earn anything after costs" is about 0.84 (`bayes.py` computes it for the rows
of a test block).

Prices are the mid; they change at the steps and stand in between. A one-minute candle over [m, m + 60 s) holds the
six prices of that minute and is sent, confirmed, at m + 60 s, before the new price of that moment. All follows from
the seed, each asset from a generator of its own, so that adding an asset does not change the others.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from model_service.config.clock import SeededIdentifiers
from model_service.demo.feed import MarketStep, Quote
from model_service.demo.gateway import Gateway, decimals_of
from model_service.messaging.transport import OutgoingMessage

DEFAULT_ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FIRST_MOMENT = datetime(2026, 1, 5, tzinfo=UTC)
FIRST_PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0}
OTHER_FIRST_PRICE = 100.0
TURNOVER_24H = 2e9
"""Quote currency; what `volume24h` of every asset is made from."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process of the pressure and the price.

    Attributes:
        phi: autocorrelation of z over one minute.
        drift: drift of the log price per minute and unit of z, in sigmas.
        sigma: noise of the log price over one minute; a fraction.
        spread: (ask - bid) / mid, a fraction.
        shown: the book shows tanh(shown * z).
    """

    phi: float = 0.96
    drift: float = 1.2
    sigma: float = 0.0010
    spread: float = 0.0001
    shown: float = 0.7
    step_seconds: int = 10

    @property
    def minutes(self) -> float:
        """Length of a step in minutes."""
        return self.step_seconds / 60

    @property
    def step_phi(self) -> float:
        """Autocorrelation of z over one step."""
        return float(self.phi**self.minutes)

    @property
    def step_innovation(self) -> float:
        """Standard deviation of what is new in z at each step, so that z keeps unit variance."""
        return math.sqrt(1 - self.step_phi**2)

    @property
    def step_drift(self) -> float:
        """Drift of the log price per step and unit of z."""
        return self.drift * self.sigma * self.minutes

    @property
    def step_noise(self) -> float:
        """Noise of the log price over one step."""
        return self.sigma * math.sqrt(self.minutes)


class SimulatedMarket:
    """Several simulated assets that move in step; see the module for the process.

    Args:
        seed: everything follows from it.
        steps: length of the market; None: without end.
    """

    def __init__(
        self,
        seed: int,
        *,
        assets: tuple[str, ...] = DEFAULT_ASSETS,
        process: Process = Process(),
        start: datetime = FIRST_MOMENT,
        steps: int | None = None,
    ) -> None:
        self.process = process
        self._start = start
        self._steps = steps
        self._step = 0
        gateway = Gateway(SeededIdentifiers(seed))
        self._assets = {name: _Asset(name, seed, process, gateway) for name in assets}

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets."""
        return tuple(self._assets)

    @property
    def start(self) -> datetime:
        """The moment of the first step."""
        return self._start

    def advance(self) -> MarketStep | None:
        """Move every asset by one step and say so as the gateway would; None after the last step."""
        if self._steps is not None and self._step >= self._steps:
            return None
        at = self._start + timedelta(seconds=self._step * self.process.step_seconds)
        self._step += 1
        return MarketStep(at, tuple(message for asset in self._assets.values() for message in asset.step(at)))

    def quote(self, asset: str) -> Quote | None:
        """Bid and ask as of the last step."""
        market = self._assets.get(asset)
        return None if market is None or not market.pressures else market.quote

    def pressure_at(self, asset: str, moment: datetime) -> float:
        """The hidden z of `asset` at the step that held at `moment`. Raises KeyError, IndexError for what never was."""
        step = int((moment - self._start).total_seconds() // self.process.step_seconds)
        if step < 0:
            raise IndexError(f"{moment.isoformat()} lies before the market's start {self._start.isoformat()}")
        return self._assets[asset].pressures[step]


class _Candle:
    """The candle that is being built; prices are the mids of its steps."""

    def __init__(self, start: datetime, price: float) -> None:
        self.start = start
        self.open = self.high = self.low = self.close = price
        self.volume = 0.0

    def add(self, price: float, volume: float) -> None:
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += volume


class _Asset:
    """One asset: its pressure, its price, its candle, and the messages about them."""

    def __init__(self, name: str, seed: int, process: Process, gateway: Gateway) -> None:
        self._name, self._process, self._gateway = name, process, gateway
        self._rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        self._price = FIRST_PRICES.get(name, OTHER_FIRST_PRICE)
        self._decimals = decimals_of(self._price)
        self._pressure = float(self._rng.standard_normal())
        self._candle: _Candle | None = None
        self._sequence = 0
        self.pressures: list[float] = []

    @property
    def quote(self) -> Quote:
        half = self._price * self._process.spread / 2
        return Quote(bid=self._price - half, ask=self._price + half)

    def step(self, at: datetime) -> list[OutgoingMessage]:
        normals, uniforms = self._rng.standard_normal(4), self._rng.random(2)
        messages = self._closed_candle(at)
        if self.pressures:
            self._move(float(normals[0]), float(normals[1]))
        self.pressures.append(self._pressure)
        traded = TURNOVER_24H / 8640 / self._price * math.exp(0.5 * float(normals[2]))
        self._into_candle(at, traded)
        messages += [self._ticker(at), self._book(at, float(normals[3]))]
        if uniforms[0] < 0.7:
            messages.append(self._trade(at, traded / 20, buys=bool(uniforms[1] < 0.5)))
        return messages

    def _move(self, shock: float, noise: float) -> None:
        """The price moves by the pressure that stood; then the pressure moves."""
        process = self._process
        self._price *= math.exp(process.step_drift * self._pressure + process.step_noise * noise)
        self._pressure = process.step_phi * self._pressure + process.step_innovation * shock

    def _into_candle(self, at: datetime, traded: float) -> None:
        if self._candle is None:
            self._candle = _Candle(at.replace(second=0, microsecond=0), self._price)
        self._candle.add(self._price, traded)

    def _closed_candle(self, at: datetime) -> list[OutgoingMessage]:
        candle = self._candle
        if candle is None or at < candle.start + timedelta(minutes=1):
            return []
        self._candle = None
        values = {name: self._text(getattr(candle, name)) for name in ("open", "high", "low", "close")}
        values |= {"volume": f"{candle.volume:.4f}", "turnover": f"{candle.volume * candle.close:.2f}"}
        return [self._gateway.kline(self._name, candle.start, candle.start + timedelta(minutes=1), values)]

    def _ticker(self, at: datetime) -> OutgoingMessage:
        quote, price = self.quote, self._text(self._price)
        values = {
            "lastPrice": price,
            "markPrice": price,
            "bid1Price": self._text(quote.bid),
            "ask1Price": self._text(quote.ask),
            "volume24h": f"{TURNOVER_24H / self._price:.4f}",
        }
        return self._gateway.ticker(self._name, at, values)

    def _book(self, at: datetime, depth_shock: float) -> OutgoingMessage:
        quote, imbalance = self.quote, math.tanh(self._process.shown * self._pressure)
        depth = 500_000.0 / self._price * math.exp(0.3 * depth_shock)
        self._sequence += 1
        return self._gateway.book(
            self._name,
            at,
            bid=(self._text(quote.bid), f"{depth * (1 + imbalance):.6f}"),
            ask=(self._text(quote.ask), f"{depth * (1 - imbalance):.6f}"),
            seq=self._sequence,
        )

    def _trade(self, at: datetime, quantity: float, *, buys: bool) -> OutgoingMessage:
        price = self.quote.ask if buys else self.quote.bid
        taker = "Buy" if buys else "Sell"
        return self._gateway.trade(self._name, at, price=self._text(price), quantity=f"{quantity:.6f}", taker=taker)

    def _text(self, price: float) -> str:
        return f"{price:.{self._decimals}f}"
