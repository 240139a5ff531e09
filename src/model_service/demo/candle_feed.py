"""Recorded candles, told as the gateway would have told them: one step per candle, at its end."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from model_service.config.clock import SeededIdentifiers
from model_service.demo.candles import Candle, CandleFile
from model_service.demo.feed import MarketStep, Quote
from model_service.demo.gateway import Gateway, decimals_of
from model_service.messaging.transport import OutgoingMessage

HALF_SPREAD = 0.00005
"""Candles hold no quotes: bid and ask are assumed 0.5 bp below and above the last price."""
DAY = timedelta(days=1)


class CandleFeed:
    """A market of one asset that repeats a file.

    Args:
        file: the candles.
        seed: identifiers of the messages follow from it.
    """

    def __init__(self, file: CandleFile, seed: int) -> None:
        self._file = file
        self._gateway = Gateway(SeededIdentifiers(seed))
        self._next = 0
        self._last_price: float | None = None
        self._volume = _RollingVolume()

    @property
    def assets(self) -> tuple[str, ...]:
        """The one asset."""
        return (self._file.asset,)

    @property
    def start(self) -> datetime:
        """Start of the first candle."""
        return self._file.candles[0].start

    def advance(self) -> MarketStep | None:
        """The next candle and the ticker at its end; None after the last."""
        if self._next >= len(self._file.candles):
            return None
        candle = self._file.candles[self._next]
        self._next += 1
        self._last_price = candle.close
        end = candle.start + self._file.interval
        return MarketStep(end, (self._kline(candle, end), self._ticker(candle, end)))

    def quote(self, asset: str) -> Quote | None:
        """The last price, less and plus the assumed half spread."""
        if asset != self._file.asset or self._last_price is None:
            return None
        return _quote(self._last_price)

    def _kline(self, candle: Candle, end: datetime) -> OutgoingMessage:
        values = {name: repr(getattr(candle, name)) for name in ("open", "high", "low", "close", "volume")}
        return self._gateway.kline(self._file.asset, candle.start, end, values)

    def _ticker(self, candle: Candle, end: datetime) -> OutgoingMessage:
        quote, decimals = _quote(candle.close), decimals_of(candle.close) + 2
        values = {
            "lastPrice": repr(candle.close),
            "bid1Price": f"{quote.bid:.{decimals}f}",
            "ask1Price": f"{quote.ask:.{decimals}f}",
            "volume24h": repr(self._volume.after(candle)),
        }
        return self._gateway.ticker(self._file.asset, end, values)


class _RollingVolume:
    """Base volume of the candles of the last 24 hours."""

    def __init__(self) -> None:
        self._candles: deque[Candle] = deque()
        self._total = 0.0

    def after(self, candle: Candle) -> float:
        self._candles.append(candle)
        self._total += candle.volume
        while self._candles[0].start <= candle.start - DAY:
            self._total -= self._candles.popleft().volume
        return max(self._total, 0.0)


def _quote(price: float) -> Quote:
    return Quote(bid=price * (1 - HALF_SPREAD), ask=price * (1 + HALF_SPREAD))
