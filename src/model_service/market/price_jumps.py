"""One wrong print must move nothing: a price far from the last one waits until a second event agrees with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_service.contracts.market import BookEvent, KlineEvent, MarketEvent, TickerEvent, TradeEvent
from model_service.market.quotes import BestQuote
from model_service.market.snapshot import PriceJump

QUOTE_WITNESS = timedelta(seconds=10)
"""So old may a quote be that already stood where a price then jumps to."""
REPEATS_BELIEVED = timedelta(seconds=10)
"""A ticker that still gives the same last price so long after it jumped there is believed: by then another trade would
have come, or a quote, that speaks for the price before."""


class PriceJumpFilter:
    """Lets events through to an asset's state, and holds back a price that jumps.

    A price jumps when the larger of it and the last believed one is more than `limit_percent` above the smaller. It is
    believed at once when the best bid and ask stood there already, else as soon as another event of a later moment says
    the same: another trade, a quote, a candle, a mark price; the ticker's last price, which repeats the last trade,
    only where it is another one, or is still the same REPEATS_BELIEVED later. An event that still speaks for the price
    before throws it away. So a crash is seen one event later, and from a source that has nothing but a last price
    that never changes again, after ten seconds.

    Args:
        limit_percent: infinite: nothing is held.
    """

    def __init__(self, limit_percent: float) -> None:
        if not limit_percent > 0.0:
            raise ValueError(f"limit_percent is {limit_percent}; a number above 0 is needed, or infinity for no limit")
        self._limit = limit_percent
        self._suspect: _Suspect | None = None

    @property
    def pending(self) -> PriceJump | None:
        """The jump that nothing has confirmed or refuted yet."""
        return None if self._suspect is None else PriceJump(self._suspect.jump_percent, self._limit)

    def step_back(self, now: datetime) -> None:
        """Our clock has: what is held was said by `now`."""
        if self._suspect is not None and self._suspect.at > now:
            self._suspect = replace(self._suspect, at=now)

    def admit(
        self, event: MarketEvent, believed: float, believed_at: datetime | None, quote: BestQuote
    ) -> Sequence[MarketEvent]:
        """What of `event`, and of what was held before it, is to be taken now, in this order.

        Args:
            believed: the last price that was taken, of the time `believed_at`; NaN while there is none, and then
                nothing jumps. A far price of an earlier time is refuted by it, and dropped.
            quote: the best prices before this event.
        """
        price = _print(event)
        if self._suspect is not None:
            return self._judge(self._suspect, event, price, believed)
        if price is None or not self._is_far(price, believed) or self._is_quoted(price, event, quote):
            return (event,)
        if believed_at is not None and _moment(event) < believed_at:
            return _without_price(event)
        return self._hold(event, price, believed)

    def _judge(
        self, suspect: _Suspect, event: MarketEvent, price: float | None, believed: float
    ) -> Sequence[MarketEvent]:
        is_far = price is not None and self._is_far(price, believed)
        if _moment(event) <= suspect.at:
            # It cannot know: what was said before or at the same moment may be one order that took several levels.
            return _without_price(event) if is_far else (event,)
        witness = _witness(event, suspect)
        if witness is None:
            return _without_price(event) if is_far else (event,)
        if not self._is_far(witness, believed):
            self._suspect = None
            return _without_price(event) if is_far else (event,)
        if not self._is_far(witness, suspect.price):
            self._suspect = None
            return (suspect.event, event)
        return self._hold(event, price, believed) if price is not None and is_far else (event,)

    def _hold(self, event: MarketEvent, price: float, believed: float) -> Sequence[MarketEvent]:
        self._suspect = _Suspect(_only_price(event), price, _moment(event), deviation_percent(price, believed))
        return _without_price(event)

    def _is_far(self, price: float, other: float) -> bool:
        return deviation_percent(price, other) > self._limit

    def _is_quoted(self, price: float, event: MarketEvent, quote: BestQuote) -> bool:
        best = quote.current
        if best.at is None or not math.isfinite(best.mid) or self._is_far(price, best.mid):
            return False
        return abs(_moment(event) - best.at) <= QUOTE_WITNESS


def deviation_percent(price: float, other: float) -> float:
    """How far the larger lies above the smaller, in percent; the same up and down. NaN where one is unknown.

    >>> deviation_percent(50.0, 100.0), deviation_percent(100.0, 50.0)
    (100.0, 100.0)
    """
    if math.isnan(price) or math.isnan(other):
        return math.nan
    return 100.0 * (max(price, other) / min(price, other) - 1.0)


@dataclass(frozen=True, slots=True)
class _Suspect:
    event: MarketEvent
    price: float
    at: datetime
    jump_percent: float


def _moment(event: MarketEvent) -> datetime:
    return event.end if isinstance(event, KlineEvent) else event.at


def _print(event: MarketEvent) -> float | None:
    """The price that something was traded at, as the event says."""
    match event:
        case TradeEvent():
            return event.price
        case TickerEvent():
            return event.last_price
        case KlineEvent():
            return event.close if event.confirmed else None
        case BookEvent():
            return None


def _witness(event: MarketEvent, suspect: _Suspect) -> float | None:
    """What the event says of the price by itself; None when it may only repeat the suspect, or says nothing."""
    match event:
        case BookEvent():
            return _mean((event.bid_price, event.bid_size), (event.ask_price, event.ask_size))
        case TickerEvent():
            if event.last_price is not None and event.last_price != suspect.price:
                return event.last_price
            middle = _mean((event.bid_price, None), (event.ask_price, None))
            if middle is not None or event.mark_price is not None:
                return event.mark_price if middle is None else middle
            return suspect.price if _still_repeats(event, suspect) else None
        case KlineEvent():
            repeats = event.close == suspect.price and not isinstance(suspect.event, KlineEvent)
            return event.close if event.confirmed and not repeats else None
        case TradeEvent():
            return event.price


def _still_repeats(event: TickerEvent, suspect: _Suspect) -> bool:
    # A delta leaves out what is unchanged: of a source that gave the price itself that is the same price again.
    repeats = event.last_price is not None or isinstance(suspect.event, TickerEvent)
    return repeats and event.at - suspect.at >= REPEATS_BELIEVED


def _mean(*levels: tuple[float | None, float | None]) -> float | None:
    prices = [price for price, size in levels if price is not None and size != 0.0]
    return sum(prices) / len(prices) if prices else None


def _only_price(event: MarketEvent) -> MarketEvent:
    return TickerEvent(event.asset, event.at, last_price=event.last_price) if isinstance(event, TickerEvent) else event


def _without_price(event: MarketEvent) -> Sequence[MarketEvent]:
    return (replace(event, last_price=None),) if isinstance(event, TickerEvent) else ()
