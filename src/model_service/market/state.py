"""The live market of one asset: events go in, closed bars and snapshots come out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.market.bars import BarBuilder
from model_service.market.funding import DEFAULT_INTERVAL_SECONDS
from model_service.market.indicators import IndicatorSet
from model_service.market.price_jumps import PriceJumpFilter
from model_service.market.quotes import BestQuote
from model_service.market.snapshot import NAN, Bar, MarketSnapshot
from model_service.market.trade_flow import TradeFlow

LEAD_ALLOWED = timedelta(seconds=5)
"""Two clocks may differ by so much; an event further ahead of ours counts as of when it came."""
BAR_LEAD_ALLOWED = timedelta(seconds=60)
"""A candle that ends further ahead of our clock is no bar: it would keep those before it out until its time comes."""


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
        self._clock: datetime | None = None
        self.updated_at: datetime | None = None
        """Time of the newest market event, as that says it; None before the first."""
        self.heard_at: datetime | None = None
        """The same, but never later than our clock was when it came."""

    def apply(self, event: MarketEvent, now: datetime | None = None) -> list[Bar]:
        """Take one event; returns the bars that it closed, oldest first.

        Late events change nothing that newer ones have said. A kline that is not confirmed is ignored: it has no time.
        What is further ahead of our clock than LEAD_ALLOWED is taken as of `now`: else one event with a wrong time
        would pass for newer than all that come until then, and the price would stand still, stop-losses with it. Where
        our own clock is behind, or has stepped back, the order in which events come decides.

        Args:
            now: our clock; None: the times of the events are believed.

        Raises:
            ValueError: the event is of another asset.
        """
        if event.asset != self.asset:
            raise ValueError(f"event of {event.asset} given to the market of {self.asset}; route it by its asset")
        if isinstance(event, KlineEvent) and not event.confirmed:
            return []
        at = event.end if isinstance(event, KlineEvent) else event.at
        if now is None:
            self._touch(at, max(at, self.updated_at or at))
            return self._admit(event)
        self._follow(now)
        self._touch(at, now)
        if at <= now + LEAD_ALLOWED:
            return self._admit(event)
        if isinstance(event, KlineEvent):
            return self._take_ahead(event, now)
        return self._admit(replace(event, at=now))

    def _admit(self, event: MarketEvent) -> list[Bar]:
        admitted = self._jumps.admit(event, *self._believed(), self._quote)
        if len(admitted) == 1:
            return self._take(admitted[0])
        return [bar for one in admitted for bar in self._take(one)]

    def _take_ahead(self, kline: KlineEvent, now: datetime) -> list[Bar]:
        bars = self._admit(TickerEvent(self.asset, now, last_price=kline.close))
        if kline.end > now + BAR_LEAD_ALLOWED or self._price.value != kline.close:
            return bars
        return bars + self._close(self._bars.add_kline(kline))

    def _follow(self, now: datetime) -> None:
        """Where our clock has stepped back, nothing that is kept may pass for newer than what comes now."""
        if self._clock is not None and now < self._clock - LEAD_ALLOWED:
            for kept in (self._price, self._volume_24h, self._quote, self._funding, self._flow, self._jumps):
                kept.step_back(now)
            self._clock = now
        elif self._clock is None or now > self._clock:
            self._clock = now

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
            heard_at=self.heard_at,
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
        self._flow.add(trade)
        self._price.offer(trade.price, trade.at)
        return self._close(self._bars.add_price(trade.at, trade.price, trade.quantity))

    def _apply_book(self, book: BookEvent) -> list[Bar]:
        self._quote.apply_book(book)
        return []

    def _apply_ticker(self, ticker: TickerEvent) -> list[Bar]:
        self._quote.apply_ticker(ticker)
        self._volume_24h.offer(ticker.volume_24h, ticker.at)
        self._funding.apply(ticker)
        if ticker.last_price is None:
            return []
        self._price.offer(ticker.last_price, ticker.at)
        return self._close(self._bars.add_price(ticker.at, ticker.last_price, 0.0))

    def _apply_kline(self, kline: KlineEvent) -> list[Bar]:
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

    def _touch(self, at: datetime, now: datetime) -> None:
        # What was ahead when it came says nothing against what comes after it.
        heard_at = min(at, now)
        self.updated_at = at if self.updated_at is None else max(at, min(self.updated_at, now))
        self.heard_at = heard_at if self.heard_at is None else max(heard_at, min(self.heard_at, now))


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

    def step_back(self, now: datetime) -> None:
        self.rate.step_back(now)
        self._next_at.step_back(now)

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

    def step_back(self, now: datetime) -> None:
        if self.at is not None and self.at > now:
            self.at = now
