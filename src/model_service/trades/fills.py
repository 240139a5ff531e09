"""Observations to fills: what of an order is newly filled, whatever mixture of reports arrives, in whatever order.

Reports are hints of two kinds. Increments tell one fill each and add up; checkpoints tell totals and replace each
other. Either may be incomplete: later partial fills are never published, and increments may be lost. Both can only
fall short of the truth, so the larger of the two is the best that is known, and a fill is a rise of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus

EXACT_DIGITS = 300
"""Digits of intermediate results: sums and products of any decoded numbers are exact."""

PRICE_CONTEXT = Context(prec=28)
"""For the one division, that of a rise's notional by its quantity."""

PLAUSIBLE_FACTOR = Decimal(2)
"""An implied price further than this factor from the reported one is arithmetic, not a price: the sources disagree."""

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class OrderProgress:
    """What is known of one order, as the table `order_progress` keeps it.

    Quantities in base units, notionals (sum of quantity times price) and fees in quote currency.

    Attributes:
        order_id: the identifier that it was first reported under.
        other_order_id: its second one, once a report has told both.
        increment_quantity: sum over flat events; likewise notional and fees.
        checkpoint_quantity: the largest total that was reported; likewise its notional and fees.
        filled_quantity: how much has become fills; likewise notional and fees.
    """

    order_id: str
    signal_id: str
    status: OrderStatus
    increment_quantity: Decimal = ZERO
    increment_notional: Decimal = ZERO
    increment_fees: Decimal = ZERO
    checkpoint_quantity: Decimal = ZERO
    checkpoint_notional: Decimal = ZERO
    checkpoint_fees: Decimal = ZERO
    filled_quantity: Decimal = ZERO
    filled_notional: Decimal = ZERO
    filled_fees: Decimal = ZERO
    other_order_id: str | None = None


@dataclass(frozen=True, slots=True)
class FillRise:
    """A fill: base units, quote per base, and fees in quote currency (negative for a rebate)."""

    quantity: Decimal
    price: Decimal
    fees: Decimal


def advance(progress: OrderProgress | None, observation: Observation) -> tuple[OrderProgress, FillRise | None]:
    """The order after `observation`, and the fill that it reveals, if any.

    The caller has removed redeliveries (by `event_id`) and holds the order's lock. The final filled quantity does not
    depend on the order of observations, and the sum of all rises is `filled_quantity`. An observation with a quantity
    but without a price counts for its status only.

    A terminal status sticks, but for a cancellation that came too late: an order that a checkpoint calls filled is
    filled. An increment does not know whether the order is done: it counts as done (`filled`) while
    increments are all that is known of the order, since nothing else would ever close it.

    Raises:
        ValueError: when the observation is about another order.
    """
    before = progress or OrderProgress(observation.order_id, observation.signal_id, observation.status)
    named = {observation.order_id, observation.other_order_id} - {None}
    if named.isdisjoint({before.order_id, before.other_order_id}):
        raise ValueError(f"Observation of order {observation.order_id!r} given to the progress of {before.order_id!r}.")
    other = before.other_order_id or next(iter(named - {before.order_id}), None)
    with localcontext(prec=EXACT_DIGITS):
        known = replace(_add(before, observation), status=_status(progress, observation), other_order_id=other)
        return _rise(known, observation)


def merge(one: OrderProgress, other: OrderProgress) -> OrderProgress:
    """Two that turned out to be one order, under the identifier of `one`.

    A row of `orders` and an event with `order.id` know both identifiers, so what was kept apart are increments, and
    those add up. What a total without its second identifier has booked before they met stays booked.
    """
    totals = max(one, other, key=lambda known: known.checkpoint_quantity)
    with localcontext(prec=EXACT_DIGITS):
        return replace(
            totals,
            order_id=one.order_id,
            other_order_id=other.order_id,
            increment_quantity=one.increment_quantity + other.increment_quantity,
            increment_notional=one.increment_notional + other.increment_notional,
            increment_fees=one.increment_fees + other.increment_fees,
            filled_quantity=one.filled_quantity + other.filled_quantity,
            filled_notional=one.filled_notional + other.filled_notional,
            filled_fees=one.filled_fees + other.filled_fees,
        )


def _add(progress: OrderProgress, observation: Observation) -> OrderProgress:
    if observation.price is None:
        return progress
    notional = observation.quantity * observation.price
    if observation.kind is ObservationKind.INCREMENT:
        return replace(
            progress,
            increment_quantity=progress.increment_quantity + observation.quantity,
            increment_notional=progress.increment_notional + notional,
            increment_fees=progress.increment_fees + observation.fees,
        )
    if observation.quantity <= progress.checkpoint_quantity:
        return progress
    return replace(
        progress,
        checkpoint_quantity=observation.quantity,
        checkpoint_notional=notional,
        checkpoint_fees=observation.fees,
    )


def _rise(known: OrderProgress, observation: Observation) -> tuple[OrderProgress, FillRise | None]:
    total, notional, fees = _best(known)
    quantity = total - known.filled_quantity
    if quantity <= 0 or observation.price is None:
        return known, None
    price = PRICE_CONTEXT.divide(notional - known.filled_notional, quantity)
    if not _is_plausible(price, observation.price):
        price, notional = observation.price, known.filled_notional + quantity * observation.price
    rise = FillRise(quantity, price, fees - known.filled_fees)
    return replace(known, filled_quantity=total, filled_notional=notional, filled_fees=fees), rise


def _best(known: OrderProgress) -> tuple[Decimal, Decimal, Decimal]:
    """Quantity, notional and fees of whichever source knows of more; a tie goes to the checkpoint."""
    if known.increment_quantity > known.checkpoint_quantity:
        return known.increment_quantity, known.increment_notional, known.increment_fees
    return known.checkpoint_quantity, known.checkpoint_notional, known.checkpoint_fees


def _is_plausible(price: Decimal, reported: Decimal) -> bool:
    return reported <= price * PLAUSIBLE_FACTOR and price <= reported * PLAUSIBLE_FACTOR


def _status(progress: OrderProgress | None, observation: Observation) -> OrderStatus:
    if progress is None:
        return observation.status
    if observation.kind is ObservationKind.INCREMENT or observation.status is OrderStatus.PENDING:
        return progress.status
    if observation.status is OrderStatus.FILLED:
        return OrderStatus.FILLED
    if progress.status.is_open or _is_assumed(progress):
        return observation.status
    return progress.status


def _is_assumed(progress: OrderProgress) -> bool:
    """Whether `filled` was taken from increments alone; a checkpoint that says `filled` has a quantity."""
    return progress.status is OrderStatus.FILLED and progress.checkpoint_quantity == 0
