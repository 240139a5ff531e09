"""The live market of one asset: events go in, closed bars and snapshots come out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.market.bars import BarBuilder
from model_service.market.funding import DEFAULT_INTERVAL_SECONDS
from model_service.market.indicators import IndicatorSet
from model_service.market.price_jumps import PriceJumpFilter
from model_service.market.quotes import BestQuote
from model_service.market.snapshot import NAN, Bar, MarketSnapshot
from model_service.market.trade_flow import TradeFlow


class AssetMarket:
    """State of one asset. Memory is bounded; time comes from events and arguments only.

    Args:
        asset: symbol, as in the events.
        bar_seconds: length of a bar.
        jump_limit_percent: a price further from the last waits for a second event; see `PriceJumpFilter`.
        longest_gap_bars: after a gap of more bars the indicators begin anew: averages over what lies hours apart would
            pass for knowledge. Infinite: they always go on.
    """

    def __init__(
        self,
        asset: str,
        bar_seconds: int,
        *,
        jump_limit_percent: float = math.inf,
        longest_gap_bars: float = math.inf,
    ) -> None:
        self.asset = asset
        self._jumps = PriceJumpFilter(jump_limit_percent)
        self._longest_gap_seconds = longest_gap_bars * bar_seconds
        self._bars = BarBuilder(bar_seconds)
        self._indicators = IndicatorSet()
        self._quote = BestQuote()
        self._flow = TradeFlow()
        self._price = _Newest()
        self._volume_24h = _Newest()
        self._funding = _Funding()
        self._bar_count = 0
        self._last_bar: Bar | None = None
        self.updated_at: datetime | None = None
        """Time of the newest market event; None before the first."""

    def apply(self, event: MarketEvent) -> list[Bar]:
        """Take one event; returns the bars that it closed, oldest first.

        Late events change nothing that newer ones have said. A kline that is not confirmed is ignored: it has no time.

        Raises:
            ValueError: the event is of another asset.
        """
        if event.asset != self.asset:
            raise ValueError(f"event of {event.asset} given to the market of {self.asset}; route it by its asset")
        admitted = self._jumps.admit(event, *self._believed(), self._quote)
        if len(admitted) == 1:
            return self._take(admitted[0])
        if not admitted:
            self._touch(event.end if isinstance(event, KlineEvent) else event.at)
        return [bar for one in admitted for bar in self._take(one)]

    def _believed(self) -> tuple[float, datetime | None]:
        if self._price.at is None and self._last_bar is not None:
            return self._last_bar.close, self._last_bar.end
        return self._price.value, self._price.at

    def _take(self, event: MarketEvent) -> list[Bar]:
        match event:
            case TradeEvent():
                return self._apply_trade(event)
            case BookEvent():
                return self._apply_book(event)
            case TickerEvent():
                return self._apply_ticker(event)
            case KlineEvent():
                return self._apply_kline(event)

    def warm_start(self, bars: Iterable[Bar]) -> int:
        """Feed stored bars, oldest first, to the indicators before the first event; returns how many were usable.

        Bars of another length, or that begin before the end of the one before, are left out. They do not count as news:
        `updated_at` and `price` stay as they are.
        """
        return len(self._close(self._bars.accept(bars)))

    def snapshot(self, now: datetime) -> MarketSnapshot:
        """What is known at `now`; cheap, since indicator values are computed once per bar."""
        quote, indicators = self._quote.current, self._indicators.values
        return MarketSnapshot(
            asset=self.asset,
            at=now,
            updated_at=self.updated_at,
            price=self._price.value,
            bid=quote.bid,
            ask=quote.ask,
            bid_size=quote.bid_size,
            ask_size=quote.ask_size,
            spread_percent=quote.spread_percent,
            book_imbalance=quote.imbalance,
            trade_imbalance=self._flow.imbalance(now),
            volume_24h=self._volume_24h.value,
            volatility=indicators["realised_volatility"],
            bars=self._bar_count,
            indicators=indicators,
            quote_at=quote.at,
            crossed_percent=quote.crossed_percent,
            bars_until=None if self._last_bar is None else self._last_bar.end,
            price_jump=self._jumps.pending,
            funding_rate=self._funding.rate.value,
            seconds_to_funding=self._funding.seconds_to_next(now),
            funding_interval_seconds=self._funding.interval_seconds,
        )

    def _apply_trade(self, trade: TradeEvent) -> list[Bar]:
        self._touch(trade.at)
        self._flow.add(trade)
        self._price.offer(trade.price, trade.at)
        return self._close(self._bars.add_price(trade.at, trade.price, trade.quantity))

    def _apply_book(self, book: BookEvent) -> list[Bar]:
        self._touch(book.at)
        self._quote.apply_book(book)
        return []

    def _apply_ticker(self, ticker: TickerEvent) -> list[Bar]:
        self._touch(ticker.at)
        self._quote.apply_ticker(ticker)
        self._volume_24h.offer(ticker.volume_24h, ticker.at)
        self._funding.apply(ticker)
        if ticker.last_price is None:
            return []
        self._price.offer(ticker.last_price, ticker.at)
        return self._close(self._bars.add_price(ticker.at, ticker.last_price, 0.0))

    def _apply_kline(self, kline: KlineEvent) -> list[Bar]:
        if not kline.confirmed:
            return []
        self._touch(kline.end)
        self._price.offer(kline.close, kline.end)
        return self._close(self._bars.add_kline(kline))

    def _close(self, bars: list[Bar]) -> list[Bar]:
        for bar in bars:
            if self._is_after_gap(bar):
                self._indicators = IndicatorSet()
            self._indicators.update(bar)
            self._last_bar = bar
        self._bar_count += len(bars)
        return bars

    def _is_after_gap(self, bar: Bar) -> bool:
        last = self._last_bar
        return last is not None and (bar.start - last.end).total_seconds() > self._longest_gap_seconds

    def _touch(self, at: datetime) -> None:
        if self.updated_at is None or at > self.updated_at:
            self.updated_at = at


class _Funding:
    """What the ticker said of funding; deltas leave out what is unchanged."""

    def __init__(self) -> None:
        self.rate = _Newest()
        self._next_at = _Newest()
        self.interval_seconds = DEFAULT_INTERVAL_SECONDS

    def apply(self, ticker: TickerEvent) -> None:
        self.rate.offer(ticker.funding_rate, ticker.at)
        if ticker.next_funding_at is not None:
            self._next_at.offer(ticker.next_funding_at.timestamp(), ticker.at)
        if ticker.funding_interval_seconds is not None:
            self.interval_seconds = ticker.funding_interval_seconds

    def seconds_to_next(self, now: datetime) -> float:
        return self._next_at.value - now.timestamp()


class _Newest:
    """A value and its time; an older one never replaces a newer one."""

    def __init__(self) -> None:
        self.value = NAN
        self.at: datetime | None = None

    def offer(self, value: float | None, at: datetime) -> None:
        if value is not None and (self.at is None or at >= self.at):
            self.value, self.at = value, at
