"""Closed bars of one asset: confirmed klines where they come, else built from prices on bar borders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_service.contracts.market import KlineEvent
from model_service.market.snapshot import Bar

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BARS_WITHOUT_KLINE = 3


class BarBuilder:
    """Yields every bar once, in order of time; an interval without a price has no bar.

    A confirmed kline of the configured length is authoritative. While such klines arrive, bars built from prices wait:
    one is released when a later kline shows that its own was missed, all are when no kline has come for three bars.
    The first interval of prices gives no bar unless it was seen from its border on: its open and volume are unknown.

    Args:
        bar_seconds: length of a bar; borders are multiples of it since the epoch.
    """

    def __init__(self, bar_seconds: int) -> None:
        if bar_seconds <= 0:
            raise ValueError(f"bar_seconds is {bar_seconds}; a whole number of seconds above 0 is needed")
        self.length = timedelta(seconds=bar_seconds)
        self._open: _OpenBar | None = None
        self._waiting: list[Bar] = []
        self._klines_expected_until: datetime | None = None
        self._closed_until: datetime | None = None
        self._has_seen_price = False

    def add_price(self, at: datetime, price: float, volume: float) -> list[Bar]:
        """Take a trade (volume in base units) or a last price (volume 0); returns the bars that it closed."""
        if self._is_closed(at):
            return []
        current = self._open
        if current is None or at >= current.end:
            self._roll(at, price)
        elif at < current.start:
            return []
        assert self._open is not None
        self._open.add(at, price, volume)
        return self._release(at)

    def add_kline(self, kline: KlineEvent) -> list[Bar]:
        """Take a kline; returns the bars that it closed: none if it is not confirmed or not one whole bar of ours."""
        if not kline.confirmed or not self._fits(kline.start, kline.end):
            return []
        self._expect_klines(kline.end)
        missed = [bar for bar in self._waiting if bar.start < kline.start]
        if self._open is not None and self._open.start < kline.start and not self._open.is_partial:
            missed.append(self._open.close_bar())
        self._waiting = [bar for bar in self._waiting if bar.start > kline.start]
        if self._open is not None and self._open.start <= kline.start:
            self._open = None
        return self.accept([*missed, _bar_of(kline)])

    def accept(self, bars: Iterable[Bar]) -> list[Bar]:
        """Those of `bars` (in order) that have the configured length and begin at or after the end of the last one."""
        accepted = []
        for bar in bars:
            if self._fits(bar.start, bar.end) and not self._is_closed(bar.start):
                self._closed_until = bar.end
                accepted.append(bar)
        return accepted

    def _is_closed(self, at: datetime) -> bool:
        return self._closed_until is not None and at < self._closed_until

    def _fits(self, start: datetime, end: datetime) -> bool:
        return end - start == self.length and self._border(start) == start

    def _border(self, at: datetime) -> datetime:
        return _EPOCH + (at - _EPOCH) // self.length * self.length

    def _roll(self, at: datetime, price: float) -> None:
        start = self._border(at)
        is_partial = not self._has_seen_price and at != start
        self._has_seen_price = True
        if self._open is not None and not self._open.is_partial:
            self._waiting.append(self._open.close_bar())
        self._open = _OpenBar(start, start + self.length, price, is_partial)

    def _release(self, at: datetime) -> list[Bar]:
        if not self._waiting or (self._klines_expected_until is not None and at < self._klines_expected_until):
            return []
        waiting, self._waiting = self._waiting, []
        return self.accept(waiting)

    def _expect_klines(self, end: datetime) -> None:
        until = end + _BARS_WITHOUT_KLINE * self.length
        if self._klines_expected_until is None or until > self._klines_expected_until:
            self._klines_expected_until = until


@dataclass(slots=True)
class _OpenBar:
    start: datetime
    end: datetime
    open: float
    is_partial: bool
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: float = 0.0
    updated_at: datetime | None = None

    def add(self, at: datetime, price: float, volume: float) -> None:
        first = self.updated_at is None
        self.high = price if first else max(self.high, price)
        self.low = price if first else min(self.low, price)
        self.volume += volume
        if self.updated_at is None or at >= self.updated_at:
            self.close, self.updated_at = price, at

    def close_bar(self) -> Bar:
        return Bar(self.start, self.end, self.open, self.high, self.low, self.close, self.volume)


def _bar_of(kline: KlineEvent) -> Bar:
    return Bar(kline.start, kline.end, kline.open, kline.high, kline.low, kline.close, kline.volume)
