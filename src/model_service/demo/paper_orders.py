"""A paper order-manager: takes signals from their queue and answers with order events, as the real one writes them.

Each signal becomes a market order at the touched side plus slippage, with 1 to 3 seconds of latency in virtual time.
Some fill in two parts, a few are cancelled after the first part, a few are rejected; too small amounts are always
rejected. What happens to a signal is drawn from a generator of its own, seeded by the signal's identifier: the order
of arrival changes nothing. Unlike the real one it keeps no account: there is no reduce-only, no balance check, and no
cancelling of pending orders, of which there are none.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any
from uuid import UUID

from model_service.demo.feed import MarketFeed
from model_service.demo.order_events import OrderState, order_event, rejection_event
from model_service.messaging.transport import OutgoingMessage

EIGHT_PLACES = Decimal("1e-8")


@dataclass(frozen=True, slots=True)
class PaperRules:
    """How the paper exchange behaves. Rates are shares of signals; fees and slippage fractions of price."""

    fee_rate: float = 0.00055
    minimum_amount: float = 10.0
    reject_rate: float = 0.02
    partial_rate: float = 0.15
    cancel_rate: float = 0.01
    most_slippage: float = 0.00003
    least_latency_seconds: float = 1.0
    most_latency_seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class DueEvent:
    """A message to order-manager's event queue and the moment from which it may be sent."""

    at: datetime
    message: OutgoingMessage


class PaperOrders:
    """Turns signals into order events.

    Args:
        feed: where quotes come from.
        queue: the queue of execution events.
        seed: with a signal's identifier it decides what happens to that signal.
    """

    def __init__(self, feed: MarketFeed, *, queue: str, seed: int, rules: PaperRules | None = None) -> None:
        self._feed, self._queue, self._seed = feed, queue, seed
        self._rules = rules or PaperRules()
        self._due: list[DueEvent] = []
        self._filled: set[str] = set()
        self.orders = 0
        self.rejections = 0
        self.duplicates = 0
        self.unreadable = 0

    def take(self, body: bytes, now: datetime) -> None:
        """Accept one message of the signal queue; what cannot be read vanishes, as in reality, but is counted."""
        try:
            signal = json.loads(body)
            ticket = _Ticket.of(signal, self._seed, now)
        except (ValueError, KeyError, TypeError, ArithmeticError):
            self.unreadable += 1
            return
        if ticket.signal_id in self._filled:
            self.duplicates += 1
            return
        self._due += self._answer(ticket)

    def due(self, until: datetime) -> list[OutgoingMessage]:
        """Events whose moment has come, in time order; each is given once."""
        ready = sorted((event for event in self._due if event.at <= until), key=lambda event: event.at)
        self._due = [event for event in self._due if event.at > until]
        return [event.message for event in ready]

    @property
    def waiting(self) -> int:
        """Events that are still to come."""
        return len(self._due)

    def _answer(self, ticket: _Ticket) -> list[DueEvent]:
        reason = self._refusal(ticket)
        if reason is not None:
            self.rejections += 1
            return [self._event(ticket, ticket.at, rejection_event(ticket.order(Decimal(0)), reason, ticket.signal))]
        self.orders += 1
        self._filled.add(ticket.signal_id)
        return self._lifetime(ticket)

    def _refusal(self, ticket: _Ticket) -> str | None:
        if ticket.amount < self._rules.minimum_amount:
            return f"Amount {ticket.amount} is under the exchange minimum {self._rules.minimum_amount}"
        if self._feed.quote(ticket.asset) is None:
            return f"No market for {ticket.asset}"
        if ticket.random.random() < self._rules.reject_rate:
            return "Risk limit exceeded: drawn by the paper order-manager"
        return None

    def _lifetime(self, ticket: _Ticket) -> list[DueEvent]:
        """pending; then filled, or partially_filled followed by filled or, rarely, cancelled."""
        rules, draw = self._rules, ticket.random
        latencies = sorted(draw.uniform(rules.least_latency_seconds, rules.most_latency_seconds) for _ in range(2))
        first_price, second_price = self._price(ticket), self._price(ticket)
        quantity = ticket.quantity
        part = (quantity * Decimal(str(round(draw.uniform(0.3, 0.7), 4)))).quantize(EIGHT_PLACES, ROUND_DOWN)
        fate = draw.random()
        events = [self._event(ticket, ticket.at, order_event("pending", ticket.order(Decimal(0)), ticket.at))]
        if fate >= rules.partial_rate + rules.cancel_rate or part == 0:
            return [*events, self._report("filled", ticket, latencies[0], (quantity, first_price))]
        parts = ((part, first_price), (quantity - part, second_price))
        events.append(self._report("partially_filled", ticket, latencies[0], parts[0]))
        if fate < rules.cancel_rate:
            return [*events, self._report("cancelled", ticket, latencies[1], parts[0])]
        return [*events, self._report("filled", ticket, latencies[1], *parts)]

    def _price(self, ticket: _Ticket) -> Decimal:
        """The touched side, made worse by slippage."""
        quote = self._feed.quote(ticket.asset)
        assert quote is not None
        slippage = ticket.random.uniform(0, self._rules.most_slippage)
        price = quote.ask * (1 + slippage) if ticket.buys else quote.bid * (1 - slippage)
        return Decimal(price).quantize(EIGHT_PLACES)

    def _report(self, word: str, ticket: _Ticket, seconds: float, *parts: tuple[Decimal, Decimal]) -> DueEvent:
        """A checkpoint: quantity, mean price and fees of all parts so far."""
        at = ticket.at + timedelta(seconds=seconds)
        filled = sum((quantity for quantity, _ in parts), Decimal(0))
        notional = sum((quantity * price for quantity, price in parts), Decimal(0))
        fees = notional * Decimal(str(self._rules.fee_rate))
        return self._event(ticket, at, order_event(word, ticket.order(filled, notional / filled, fees), at))

    def _event(self, ticket: _Ticket, at: datetime, body: dict[str, Any]) -> DueEvent:
        event_id = ticket.identifier()
        body |= {"event_id": event_id, "trace_id": ticket.trace_id}
        encoded = json.dumps(body, separators=(",", ":")).encode()
        return DueEvent(at, OutgoingMessage("", self._queue, encoded, event_id, {"trace_id": ticket.trace_id}))


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A signal as the order-manager read it, and the randomness that belongs to it."""

    signal: dict[str, Any]
    signal_id: str
    asset: str
    buys: bool
    amount: float
    quantity: Decimal
    trace_id: str
    at: datetime
    random: random.Random
    order_row_id: str
    exchange_order_id: str

    @classmethod
    def of(cls, signal: dict[str, Any], seed: int, at: datetime) -> _Ticket:
        """Raises ValueError, KeyError, TypeError or ArithmeticError for what is no signal."""
        signal_id, side = str(UUID(signal["signal_id"])), str(signal["signal_type"]).lower()
        price = Decimal(str(signal["market_data_snapshot"]["price"]))
        if side not in ("buy", "sell") or not price > 0:
            raise ValueError(f"side {side!r}, price {price}")
        draw = random.Random(f"orders:{seed}:{signal_id}")  # noqa: S311 - reproducibility is the point
        return cls(
            signal=signal,
            signal_id=signal_id,
            asset=str(signal["asset"]).upper(),
            buys=side == "buy",
            amount=float(signal["amount"]),
            quantity=(Decimal(str(signal["amount"])) / price).quantize(EIGHT_PLACES, ROUND_DOWN),
            trace_id=str(signal.get("trace_id") or signal_id),
            at=at,
            random=draw,
            order_row_id=_uuid(draw),
            exchange_order_id=_uuid(draw),
        )

    def identifier(self) -> str:
        """The next identifier of this signal's own sequence."""
        return _uuid(self.random)

    def order(self, filled: Decimal, average: Decimal | None = None, fees: Decimal | None = None) -> OrderState:
        """The order as it stands with so much filled."""
        return OrderState(
            row_id=self.order_row_id,
            order_id=self.exchange_order_id,
            signal_id=self.signal_id,
            asset=self.asset,
            buys=self.buys,
            quantity=self.quantity,
            filled=filled,
            average_price=average,
            fees=fees,
            created_at=self.at,
        )


def _uuid(draw: random.Random) -> str:
    return str(UUID(int=draw.getrandbits(128), version=4))
