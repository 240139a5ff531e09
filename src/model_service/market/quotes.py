"""The best bid and ask, from the ticker or from the book, whichever spoke last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from model_service.contracts.market import BookEvent, TickerEvent
from model_service.market.snapshot import NAN


@dataclass(frozen=True, slots=True)
class Quote:
    """Best prices and sizes; all NaN while the book is unknown, empty on a side or crossed.

    Attributes:
        at: when its source last spoke; None before that. A source that speaks of an empty book has spoken.
        crossed_percent: (ask - bid) / mid * 100 of a book with bid >= ask, so 0 or less; else NaN.
    """

    bid: float = NAN
    ask: float = NAN
    bid_size: float = NAN
    ask_size: float = NAN
    at: datetime | None = None
    crossed_percent: float = NAN

    @property
    def mid(self) -> float:
        """The middle between bid and ask."""
        return (self.bid + self.ask) / 2.0

    @property
    def spread_percent(self) -> float:
        """(ask - bid) / mid * 100."""
        return 200.0 * (self.ask - self.bid) / (self.ask + self.bid)

    @property
    def imbalance(self) -> float:
        """(bid_size - ask_size) / (bid_size + ask_size), -1 to 1."""
        total = self.bid_size + self.ask_size
        return (self.bid_size - self.ask_size) / total if total > 0.0 else NAN


_UNKNOWN = Quote()
_NEVER = datetime.min.replace(tzinfo=UTC)


class BestQuote:
    """Keeps what each source says and answers with the newer one that has stated both sides."""

    def __init__(self) -> None:
        self._ticker = _Source()
        self._book = _Source()

    @property
    def current(self) -> Quote:
        """The quote now. Made when it is asked for: events are many, questions few."""
        book, ticker = self._book, self._ticker
        if not book.is_known:
            return ticker.quote() if ticker.is_known else _UNKNOWN
        return ticker.quote() if ticker.is_known and ticker.at > book.at else book.quote()

    def apply_ticker(self, event: TickerEvent) -> None:
        """Merge a ticker; members that it leaves out are unchanged; an older one is ignored.

        One that leaves out the whole quote says that the ticker's quote still holds; it does not go before the book's.
        """
        bid_spoke = event.bid_price is not None or event.bid_size is not None
        ask_spoke = event.ask_price is not None or event.ask_size is not None
        if (bid_spoke or ask_spoke) and self._ticker.moves_to(event.at):
            self._ticker.bid.merge(event.bid_price, event.bid_size)
            self._ticker.ask.merge(event.ask_price, event.ask_size)
        self._ticker.confirm(event.at)

    def apply_book(self, event: BookEvent) -> None:
        """Take a book message: a snapshot says all, a delta the sides that it names; an older one is ignored."""
        if self._book.moves_to(event.at):
            self._book.bid.replace(event.bid_price, event.bid_size, event.is_snapshot)
            self._book.ask.replace(event.ask_price, event.ask_size, event.is_snapshot)
            self._book.confirm(event.at)

    def step_back(self, now: datetime) -> None:
        """Our clock has: nothing that is kept is newer than `now`."""
        for source in (self._ticker, self._book):
            source.step_back(now)


class _Level:
    """One side: unknown until something is said about it; empty when price or size is NaN or the size is 0."""

    def __init__(self) -> None:
        self.is_known = False
        self.price = NAN
        self.size = NAN

    def merge(self, price: float | None, size: float | None) -> None:
        if price is not None:
            self.price, self.is_known = price, True
        if size is not None:
            self.size = size

    def replace(self, price: float | None, size: float | None, is_snapshot: bool) -> None:
        if price is None or size is None:
            if is_snapshot:
                self._set(NAN, NAN)
        elif size > 0.0:
            self._set(price, size)
        elif is_snapshot or price == self.price:  # the removal of a level that is not the best one changes nothing
            self._set(NAN, NAN)

    def _set(self, price: float, size: float) -> None:
        self.price, self.size, self.is_known = price, size, True


class _Source:
    def __init__(self) -> None:
        self.at = _NEVER
        self._confirmed_at = _NEVER
        self.bid = _Level()
        self.ask = _Level()

    @property
    def is_known(self) -> bool:
        return self.bid.is_known and self.ask.is_known

    def moves_to(self, at: datetime) -> bool:
        is_newer = at >= self.at
        if is_newer:
            self.at = at
        return is_newer

    def confirm(self, at: datetime) -> None:
        if at > self._confirmed_at:
            self._confirmed_at = at

    def step_back(self, now: datetime) -> None:
        self.at, self._confirmed_at = min(self.at, now), min(self._confirmed_at, now)

    def quote(self) -> Quote:
        bid, ask, at = self.bid, self.ask, self._confirmed_at
        if bid.size == 0.0 or ask.size == 0.0 or not bid.price < ask.price:
            return Quote(at=at, crossed_percent=self._crossed_percent())
        return Quote(bid.price, ask.price, bid.size, ask.size, at)

    def _crossed_percent(self) -> float:
        bid, ask = self.bid, self.ask
        is_crossed = bid.size != 0.0 and ask.size != 0.0 and bid.price >= ask.price
        return 200.0 * (ask.price - bid.price) / (ask.price + bid.price) if is_crossed else NAN
