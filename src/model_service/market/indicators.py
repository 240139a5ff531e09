"""Streaming indicators over closed bars: one update per bar, bounded memory, NaN until warmed up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from model_service.market.snapshot import NAN, Bar

VOLATILITY_DECAY = 0.94
VOLATILITY_WARM_UP = 20
BOLLINGER_BARS, BOLLINGER_WIDTH = 20, 2.0
VOLUME_BARS = 60


class Indicator(Protocol):
    """A number that follows the bars."""

    def update(self, bar: Bar) -> float:
        """Take the next closed bar; returns the value as of its end, NaN while it is unknown."""
        ...


class IndicatorSet:
    """Every indicator of one asset, by name.

    A gap between bars is no bar: averages and windows go on from bar to bar, while returns look at the clock.
    """

    def __init__(self) -> None:
        self._indicators = tuple((name, make()) for name, make in INDICATORS.items())
        self.values: Mapping[str, float] = dict.fromkeys(INDICATORS, NAN)

    def update(self, bar: Bar) -> Mapping[str, float]:
        """Take the next bar, in order of time; returns the new values, a mapping that never changes afterwards."""
        self.values = {name: indicator.update(bar) for name, indicator in self._indicators}
        return self.values


class LastClose:
    """The close of the newest bar, so that the move since then can be told."""

    def update(self, bar: Bar) -> float:
        """The bar's close."""
        return bar.close


class Return:
    """Simple return since the close of the bar that ended exactly `minutes` before; NaN if there is no such bar."""

    def __init__(self, minutes: int) -> None:
        self._span = timedelta(minutes=minutes)
        self._closes: deque[tuple[datetime, float]] = deque()

    def update(self, bar: Bar) -> float:
        """A fraction."""
        closes, then = self._closes, bar.end - self._span
        closes.append((bar.end, bar.close))
        while closes[0][0] < then:
            closes.popleft()
        ended_at, close = closes[0]
        return bar.close / close - 1.0 if ended_at == then else NAN


class RealisedVolatility:
    """Square root of the exponentially weighted mean of squared 1-bar log returns, lambda 0.94; per bar, a fraction.

    The weights are normalised, so no starting value is invented. Known from 20 returns on.
    Source: RiskMetrics Technical Document, J.P. Morgan 1996, section 5.2.
    """

    def __init__(self) -> None:
        self._close = NAN
        self._squares = self._weight = 0.0
        self._returns = 0

    def update(self, bar: Bar) -> float:
        """Standard deviation of a 1-bar log return."""
        previous, self._close = self._close, bar.close
        if math.isnan(previous):
            return NAN
        self._squares = VOLATILITY_DECAY * self._squares + math.log(bar.close / previous) ** 2
        self._weight = VOLATILITY_DECAY * self._weight + 1.0
        self._returns += 1
        return math.sqrt(self._squares / self._weight) if self._returns >= VOLATILITY_WARM_UP else NAN


class RelativeStrength:
    """RSI-14 minus 50, from -50 to 50; 0 where no close has moved.

    Source: Wilder, New Concepts in Technical Trading Systems, 1978.
    """

    def __init__(self, bars: int = 14) -> None:
        self._close = NAN
        self._gain = SeededAverage(bars, 1.0 / bars)
        self._loss = SeededAverage(bars, 1.0 / bars)

    def update(self, bar: Bar) -> float:
        """Points."""
        previous, self._close = self._close, bar.close
        if math.isnan(previous):
            return NAN
        gain = self._gain.update(max(bar.close - previous, 0.0))
        loss = self._loss.update(max(previous - bar.close, 0.0))
        moved = gain + loss
        return 0.0 if moved == 0.0 else 100.0 * gain / moved - 50.0


class MacdHistogram:
    """MACD(12, 26) less its 9-bar signal line, over the close: a fraction. Source: Appel, Technical Analysis, 2005."""

    def __init__(self) -> None:
        self._fast, self._slow, self._signal = exponential_average(12), exponential_average(26), exponential_average(9)

    def update(self, bar: Bar) -> float:
        """A fraction of the close."""
        macd = self._fast.update(bar.close) - self._slow.update(bar.close)
        return NAN if math.isnan(macd) else (macd - self._signal.update(macd)) / bar.close


class AverageTrueRange:
    """ATR-14 over the close: a fraction. The first bar has no previous close, hence no true range. Source: Wilder."""

    def __init__(self, bars: int = 14) -> None:
        self._close = NAN
        self._range = SeededAverage(bars, 1.0 / bars)

    def update(self, bar: Bar) -> float:
        """A fraction of the close."""
        previous, self._close = self._close, bar.close
        if math.isnan(previous):
            return NAN
        return self._range.update(max(bar.high, previous) - min(bar.low, previous)) / bar.close


class BollingerPosition:
    """Bollinger %B (20 bars, 2 population standard deviations) minus 0.5; 0 where the closes are all equal.

    Source: Bollinger on Bollinger Bands, 2001. Deviations are taken from the newest close, which keeps their digits.
    """

    def __init__(self) -> None:
        self._closes: deque[float] = deque(maxlen=BOLLINGER_BARS)

    def update(self, bar: Bar) -> float:
        """-0.5 at the lower band, 0.5 at the upper."""
        self._closes.append(bar.close)
        if len(self._closes) < BOLLINGER_BARS:
            return NAN
        offsets = [close - bar.close for close in self._closes]
        mean = sum(offsets) / BOLLINGER_BARS
        deviation = math.sqrt(sum((offset - mean) ** 2 for offset in offsets) / BOLLINGER_BARS)
        return 0.0 if deviation == 0.0 else -mean / (2.0 * BOLLINGER_WIDTH * deviation)


class AverageRatio:
    """Close over its exponential average, minus 1: a fraction."""

    def __init__(self, bars: int) -> None:
        self._average = exponential_average(bars)

    def update(self, bar: Bar) -> float:
        """A fraction."""
        return bar.close / self._average.update(bar.close) - 1.0


class VwapDistance:
    """Close over the volume-weighted mean price of 60 bars, minus 1; NaN where nothing traded.

    The price of a bar is its typical one, (high + low + close) / 3.
    """

    def __init__(self) -> None:
        self._turnovers: deque[float] = deque(maxlen=VOLUME_BARS)
        self._volumes: deque[float] = deque(maxlen=VOLUME_BARS)

    def update(self, bar: Bar) -> float:
        """A fraction."""
        self._turnovers.append((bar.high + bar.low + bar.close) / 3.0 * bar.volume)
        self._volumes.append(bar.volume)
        turnover = sum(self._turnovers)
        if len(self._volumes) < VOLUME_BARS or turnover <= 0.0:
            return NAN
        return bar.close * sum(self._volumes) / turnover - 1.0


class VolumeRatio:
    """Volume of the newest bar over the mean of the last 60, itself among them; NaN where nothing traded."""

    def __init__(self) -> None:
        self._volumes: deque[float] = deque(maxlen=VOLUME_BARS)

    def update(self, bar: Bar) -> float:
        """From 0 to 60."""
        self._volumes.append(bar.volume)
        total = sum(self._volumes)
        return bar.volume * VOLUME_BARS / total if len(self._volumes) == VOLUME_BARS and total > 0.0 else NAN


class SeededAverage:
    """Starts with the plain mean of its first `bars` values, then moves by `weight` towards each new one.

    >>> average = SeededAverage(2, 0.5)
    >>> [average.update(value) for value in (1.0, 3.0, 4.0)]
    [nan, 2.0, 3.0]
    """

    def __init__(self, bars: int, weight: float) -> None:
        self._bars, self._weight = bars, weight
        self._count = 0
        self._value = 0.0

    def update(self, value: float) -> float:
        """Take the next value; NaN before there are `bars` of them."""
        if self._count >= self._bars:
            self._value += self._weight * (value - self._value)
            return self._value
        self._value += value / self._bars
        self._count += 1
        return self._value if self._count == self._bars else NAN


def exponential_average(bars: int) -> SeededAverage:
    """The usual EMA: weight 2 / (bars + 1), started with the plain mean."""
    return SeededAverage(bars, 2.0 / (bars + 1))


INDICATORS: Mapping[str, Callable[[], Indicator]] = {
    "last_close": LastClose,
    "return_1m": lambda: Return(1),
    "return_5m": lambda: Return(5),
    "return_15m": lambda: Return(15),
    "return_60m": lambda: Return(60),
    "realised_volatility": RealisedVolatility,
    "rsi_14": RelativeStrength,
    "macd_histogram": MacdHistogram,
    "atr_14": AverageTrueRange,
    "bollinger_b": BollingerPosition,
    "ema_9_ratio": lambda: AverageRatio(9),
    "ema_21_ratio": lambda: AverageRatio(21),
    "vwap_distance": VwapDistance,
    "volume_ratio": VolumeRatio,
}
