"""Whatever arrives in whatever order: after one full look at the table `orders`, the book is the true one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, example, find, given, settings

from model_service.contracts.executions import Observation, ObservationKind
from model_service.trades.fills import FillRise, OrderProgress
from model_service.trades.orders import KnownOrders
from tests.support.order_histories import (
    Platform,
    Polled,
    Restarted,
    Told,
    checkpoint_of,
    fills_under_both_identifiers,
    platforms,
    signed_quantities,
)

CENT_OF_A_CENT = Decimal("1e-4")


@dataclass
class Book:
    """The service's own book; `stored` is what a restart leaves."""

    stored: dict[str, OrderProgress] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    rises: list[tuple[Observation, FillRise]] = field(default_factory=list)

    def take(self, observation: Observation) -> None:
        if observation.event_id in self.seen:
            return
        self.seen.add(observation.event_id)
        known = KnownOrders(self.stored.values())
        _, rise = known.take(observation)
        self.rises += [(observation, rise)] if rise is not None else []
        self.stored.update(known.changed)
        for gone in known.joined:
            del self.stored[gone]

    def poll(self, poll: Polled) -> None:
        for row in poll.rows:
            observation = checkpoint_of(row, f"orders:{row.row_id}:{row.status}:{row.filled_quantity}")
            if KnownOrders(self.stored.values()).tells_more(observation):
                self.take(observation)

    def positions(self, platform: Platform) -> dict[str, Decimal]:
        books = {str(order.signal_id): order.book for order in platform.orders}
        totals: dict[str, Decimal] = dict.fromkeys(books.values(), Decimal(0))
        for observation, rise in self.rises:
            totals[books[observation.signal_id]] += observation.side.sign * rise.quantity
        return totals


def play(platform: Platform, book: Book) -> Book:
    for step in (*platform.steps, platform.last_poll):
        match step:
            case Told(observation):
                book.take(observation)
            case Polled():
                book.poll(step)
            case Restarted():
                pass  # `Book` holds nothing but what is stored: each step reads it afresh
    return book


def is_true(platform: Platform, book: Book) -> bool:
    by_name = KnownOrders(book.stored.values())
    for row in platform.last_poll.rows:
        known = by_name.find(checkpoint_of(row, ""))
        if known is None or known.status is not row.status or known.filled_quantity != row.filled_quantity:
            return False
        notional = row.filled_quantity * (row.average_price or Decimal(0))
        if known.filled_fees != (row.fees or 0) or abs(known.filled_notional - notional) > CENT_OF_A_CENT:
            return False
    return book.positions(platform) == signed_quantities(platform.orders)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(platforms())
@example(fills_under_both_identifiers())
def test_any_interleaving_that_ends_with_a_full_poll_gives_the_true_book(platform: Platform) -> None:
    book = play(platform, Book())
    assert is_true(platform, book), (book.stored, platform.last_poll)
    assert len({known.order_id for known in book.stored.values()}) == len(platform.orders)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(platforms())
@example(fills_under_both_identifiers())
def test_a_second_full_poll_changes_nothing(platform: Platform) -> None:
    book = play(platform, Book())
    before, rises = dict(book.stored), len(book.rises)
    book.poll(platform.last_poll)
    assert (book.stored, len(book.rises)) == (before, rises)
    known = KnownOrders(book.stored.values())
    assert not any(known.tells_more(checkpoint_of(row, "")) for row in platform.last_poll.rows)


class SumOfEverything(Book):
    """Wrong: each report counts as a fill of its own."""

    def take(self, observation: Observation) -> None:
        if observation.event_id in self.seen or observation.price is None:
            return super().take(observation)
        total = replace(observation, kind=ObservationKind.INCREMENT)
        super().take(total)
        return None


class EveryDelivery(Book):
    """Wrong: a redelivery counts again."""

    def take(self, observation: Observation) -> None:
        self.seen.clear()
        super().take(observation)


class OneNameOnly(Book):
    """Wrong: an order is what one identifier names."""

    def take(self, observation: Observation) -> None:
        super().take(replace(observation, other_order_id=None))


class LatestTotal(Book):
    """Wrong: the last total counts, also when it is an old one."""

    def take(self, observation: Observation) -> None:
        super().take(observation)
        known = self.stored.get(observation.order_id)
        if known is not None and observation.kind is ObservationKind.CHECKPOINT:
            self.stored[known.order_id] = replace(known, filled_quantity=observation.quantity)


@pytest.mark.parametrize("wrong", [SumOfEverything, EveryDelivery, OneNameOnly, LatestTotal])
def test_wrong_ways_of_counting_are_found_out(wrong: Callable[[], Book]) -> None:
    find(
        platforms(),
        lambda platform: not is_true(platform, play(platform, wrong())),
        settings=settings(
            max_examples=2000, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None
        ),
    )
