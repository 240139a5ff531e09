"""Hypothesis: true histories of orders, what is told of them on the way, and the table that holds their totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from hypothesis import strategies as st

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus, Side
from tests.support.strategies import MOMENT, decimals

EIGHT_PLACES = Decimal("1e-8")
Book = Literal["momentum_v1:BTCUSDT", "momentum_v1:ETHUSDT", "carry_v2:BTCUSDT"]
BOOKS: tuple[Book, ...] = ("momentum_v1:BTCUSDT", "momentum_v1:ETHUSDT", "carry_v2:BTCUSDT")


@dataclass(frozen=True)
class OrderRow:
    """A row of the table `orders` at one moment: totals, the average price in eight places."""

    row_id: UUID
    order_id: str
    signal_id: UUID
    book: Book
    side: Side
    status: OrderStatus
    filled_quantity: Decimal
    average_price: Decimal | None
    fees: Decimal | None


@dataclass(frozen=True)
class TrueOrder:
    """An order as it really went: (quantity, price, fees) of each fill, and how it ended."""

    number: int
    signal_id: UUID
    book: Book
    side: Side
    fills: tuple[tuple[Decimal, Decimal, Decimal], ...]
    end: OrderStatus

    @property
    def row_id(self) -> UUID:
        """order-manager's own identifier."""
        return UUID(int=0xA000_0000 + self.number + (self.signal_id.int << 64) % 2**128)

    @property
    def order_id(self) -> str:
        """The exchange's identifier."""
        return f"exchange-{self.signal_id.hex}-{self.number}"

    def row(self, fills: int, *, ended: bool) -> OrderRow:
        """The row after so many fills; `ended` once its status is the last one."""
        done = self.fills[:fills]
        quantity = sum((quantity for quantity, _, _ in done), Decimal(0))
        notional = sum((quantity * price for quantity, price, _ in done), Decimal(0))
        return OrderRow(
            row_id=self.row_id,
            order_id=self.order_id,
            signal_id=self.signal_id,
            book=self.book,
            side=self.side,
            status=self.end if ended else OrderStatus.PARTIALLY_FILLED if done else OrderStatus.PENDING,
            filled_quantity=quantity,
            average_price=(notional / quantity).quantize(EIGHT_PLACES) if done else None,
            fees=sum((fees for _, _, fees in done), Decimal(0)) if done else None,
        )

    def rows(self) -> list[OrderRow]:
        """All rows that the table holds one after the other."""
        return [self.row(count, ended=False) for count in range(len(self.fills) + 1)] + [self.last_row]

    @property
    def last_row(self) -> OrderRow:
        """The row that stays."""
        return self.row(len(self.fills), ended=True)


@dataclass(frozen=True)
class Told:
    """An event arrives."""

    observation: Observation


@dataclass(frozen=True)
class Polled:
    """The table is read, in a state of its own for each order."""

    rows: tuple[OrderRow, ...]


@dataclass(frozen=True)
class Restarted:
    """What was held in memory is gone."""


Step = Told | Polled | Restarted


@dataclass(frozen=True)
class Platform:
    """True orders, and one interleaving of what is told of them, without the poll that ends it."""

    orders: tuple[TrueOrder, ...]
    steps: tuple[Step, ...]

    @property
    def last_poll(self) -> Polled:
        """All of the table, as it stays."""
        return Polled(tuple(order.last_row for order in self.orders))


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    """One to four orders of one to three signals; events lost, repeated and shuffled; polls and restarts between."""
    orders = tuple(draw(_orders()))
    events = [Told(event) for order in orders for event in draw(_events(order))]
    polls = [Polled(tuple(draw(st.sampled_from(order.rows())) for order in orders)) for _ in range(draw(_up_to(3)))]
    restarts = [Restarted() for _ in range(draw(_up_to(2)))]
    return Platform(orders, tuple(draw(st.permutations([*events, *polls, *restarts]))))


@st.composite
def _orders(draw: st.DrawFn) -> list[TrueOrder]:
    base = draw(st.integers(1, 2**60)) << 8
    books = draw(st.lists(st.sampled_from(BOOKS), min_size=1, max_size=3))
    count = draw(st.integers(1, 4))
    orders = []
    for number in range(count):
        of = draw(st.integers(0, len(books) - 1))
        end = draw(st.sampled_from([OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED]))
        least = 1 if end is OrderStatus.FILLED else 0
        most = 0 if end is OrderStatus.REJECTED else 4
        fill = st.tuples(decimals("0.001", "5"), decimals("95", "105", 2), decimals("-0.5", "0.5"))
        fills = draw(st.lists(fill, min_size=least, max_size=most))
        side = draw(st.sampled_from(Side))
        orders.append(TrueOrder(number, UUID(int=base + of), books[of], side, tuple(fills), end))
    return orders


@st.composite
def _events(draw: st.DrawFn, order: TrueOrder) -> list[Observation]:
    """Some of the events of an order, some of them twice; a flat one carries either identifier."""
    flat = [
        replace(increment_of(order, index), order_id=draw(st.sampled_from([order.order_id, str(order.row_id)])))
        for index in range(len(order.fills))
    ]
    nested = [checkpoint_of(row, f"nested-{index}-{order.order_id}") for index, row in enumerate(order.rows())]
    return [event for event in [*flat, *nested] for _ in range(draw(_up_to(2)))]


def fills_under_both_identifiers() -> Platform:
    """Two fills of one order, each told under another of its identifiers: in sum all that the table will say."""
    fill = (Decimal("0.001"), Decimal(95), Decimal(0))
    order = TrueOrder(0, UUID(int=0x100), BOOKS[0], Side.BUY, (fill, fill), OrderStatus.FILLED)
    second = replace(increment_of(order, 1), order_id=str(order.row_id))
    return Platform((order,), (Told(increment_of(order, 0)), Told(second)))


def increment_of(order: TrueOrder, index: int) -> Observation:
    """The flat event of one fill, under the exchange's identifier."""
    quantity, price, fees = order.fills[index]
    return Observation(
        event_id=f"flat-{index}-{order.order_id}",
        kind=ObservationKind.INCREMENT,
        order_id=order.order_id,
        signal_id=str(order.signal_id),
        asset=order.book.partition(":")[2],
        side=order.side,
        status=OrderStatus.FILLED,
        quantity=quantity,
        price=price,
        fees=fees,
        executed_at=MOMENT + timedelta(seconds=index),
    )


def checkpoint_of(row: OrderRow, event_id: str) -> Observation:
    """What order-manager's event says of a row; what the row itself says, under another `event_id`."""
    return Observation(
        event_id=event_id,
        kind=ObservationKind.CHECKPOINT,
        order_id=row.order_id,
        signal_id=str(row.signal_id),
        asset=row.book.partition(":")[2],
        side=row.side,
        status=row.status,
        quantity=row.filled_quantity,
        price=row.average_price,
        fees=row.fees or Decimal(0),
        executed_at=MOMENT,
        other_order_id=str(row.row_id),
    )


def signed_quantities(orders: Sequence[TrueOrder]) -> dict[str, Decimal]:
    """The true net position of each book, base units."""
    totals: dict[str, Decimal] = {}
    for order in orders:
        filled = sum((quantity for quantity, _, _ in order.fills), Decimal(0))
        totals[order.book] = totals.get(order.book, Decimal(0)) + order.side.sign * filled
    return totals


def _up_to(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)
