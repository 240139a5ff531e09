"""The exit policy: closes lots at the barriers that define labels, at a trailing stop, in time, wholly or in part.

`decide_exit` is a function of what it is given: the open lots, what is remembered of the position, what earlier exits
have under way, price and time. What is to be remembered comes back with the decision and is stored with it, so that a
process that starts anew decides as one that went on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_UP, Decimal, localcontext

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.policies.exit_causes import (
    Position,
    numbers,
    part_due,
    trailed,
    trailing_stop_reached,
    whole_cause,
)
from model_service.policies.exit_state import ExitCause, ExitState, current, goal_at, identifier, settle
from model_service.policies.reasons import Reason, ReasonCode
from model_service.trades.fills import EXACT_DIGITS
from model_service.trades.ledger import Lot

AMOUNT_UNIT = Decimal("1e-8")
A_TRACE_MORE = 1 + Decimal("1e-10")
"""Over what a quotient of two floats loses."""


@dataclass(frozen=True, slots=True)
class ExitProposal:
    """Close a position, wholly or in part.

    Attributes:
        side: of the signal, against that of the position.
        quantity: base units, at most what is open.
        amount: what that is worth at the price, quote currency; see `quote_amount`.
        value, threshold: what was looked at and what it was held against, as `exit_causes.numbers` says.
        continues: it closes the rest of an exit that was filled in part; the price may have gone back meanwhile.
    """

    side: Side
    quantity: Decimal
    amount: Decimal
    cause: ExitCause
    value: float
    threshold: float | None
    continues: bool


@dataclass(frozen=True, slots=True)
class ExitDecision:
    """What of a position is to be closed now, if anything.

    Attributes:
        state: what to remember; None where there is no position.
        held: why an exit that is due is not sent again yet; openings wait with it.
        below_minimum: that what is due is worth less than the exchange takes. Openings go on: only a position that
            grows can be closed again.
    """

    state: ExitState | None
    proposal: ExitProposal | None = None
    held: Reason | None = None
    below_minimum: Reason | None = None


@dataclass(frozen=True, slots=True)
class LargestOrder:
    """What order-manager takes in one order: it cuts a larger amount, and rejects a larger quantity."""

    amount: Decimal | None = None
    quantity: Decimal | None = None

    def quantity_at(self, price: Decimal) -> Decimal | None:
        """Base units of the largest order at `price`; None: no limit."""
        by_amount = None if self.amount is None else self.amount / (price * A_TRACE_MORE)
        return min((one for one in (by_amount, self.quantity) if one is not None), default=None)


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be closed: base units of the position, by one cause, whose numbers are those of `lot`."""

    cause: ExitCause
    quantity: Decimal
    lot: Lot
    part_lot_ids: tuple[int, ...] = ()
    continues: bool = False


def decide_exit(
    strategy: StrategyDefinition,
    lots: Sequence[Lot],
    state: ExitState | None,
    pending: Sequence[Decimal | None],
    price: float,
    now: datetime,
    largest: LargestOrder | None = None,
) -> ExitDecision:
    """What of an asset's open lots is to be closed at `price` (quote per base).

    All open lots of a strategy and asset lie on the same side, since the ledger nets first in, first out.

    Args:
        lots: oldest first.
        state: what the decision before this one left to remember; None when there was none.
        pending: base units that each open exit order of the position may still close; None where that is unknown.
        largest: what order-manager takes at once; what is more is closed by the signals that follow.
    """
    if not lots:
        return ExitDecision(None)
    with localcontext(prec=EXACT_DIGITS):
        position = Position(lots, Decimal(repr(price)), now)
        dust = _minimum(strategy, position) / position.price
        settled = settle(current(state, lots), lots, pending=bool(pending), dust=dust)
        known = trailed(strategy.exits, position, settled)
        due = _due(strategy, position, known)
        if due is None:
            return ExitDecision(known)
        worth, least = due.quantity * position.price, _minimum(strategy, position)
        if worth < least:
            reason = Reason(ReasonCode.EXIT_BELOW_MINIMUM, float(worth), float(least))
            return ExitDecision(known, below_minimum=reason)
        decision = _asked(strategy, position, known, pending, due)
        return decision if largest is None else _cut(strategy, position, decision, largest)


def quote_amount(quantity: Decimal, price: Decimal) -> Decimal:
    """What `quantity` base units are worth at `price`, in quote currency, a trace upwards.

    Divided by the price and rounded down to the exchange's lot it gives all of the quantity: a cent less, which of a
    small position is a whole lot, would leave dust behind that cannot be sold. Where a lot is worth no more than
    AMOUNT_UNIT it may give lots more, which order-manager does not sell: what closes a position is reduce-only there.

    Example:
        >>> quote_amount(Decimal("0.0031"), Decimal("49981.5"))
        Decimal('154.94265002')
    """
    return (quantity * price * A_TRACE_MORE).quantize(AMOUNT_UNIT, ROUND_UP)


def _minimum(strategy: StrategyDefinition, position: Position) -> Decimal:
    return strategy.exchange_minimum_of(position.lots[0].asset)


def _due(strategy: StrategyDefinition, position: Position, state: ExitState) -> _Due | None:
    """Whole lots first; then the rest of an exit that has begun; then the parts of lots at their take-profit."""
    rest = _rest(position, state)
    due = _whole(strategy, position, state)
    if due is not None:
        quantity = due.quantity if rest is None else max(due.quantity, rest.quantity)
        due = replace(due, quantity=quantity)
    else:
        due = rest or _part(strategy, position, state)
    return None if due is None else _without_dust(strategy, position, due)


def _whole(strategy: StrategyDefinition, position: Position, state: ExitState) -> _Due | None:
    if trailing_stop_reached(position, state):
        return _Due(ExitCause.TRAILING_STOP, position.quantity, position.lots[0])
    reached = [(lot, cause) for lot in position.lots if (cause := whole_cause(strategy, position, lot)) is not None]
    if not reached:
        return None
    lot, cause = next((one for one in reached if one[1].protects), reached[0])
    return _Due(cause, sum((lot.remaining_quantity for lot, _ in reached), Decimal(0)), lot)


def _rest(position: Position, state: ExitState) -> _Due | None:
    rest = Decimal(0) if state.goal is None else state.goal.rest(position.lots)
    if state.goal is None or rest >= state.goal.quantity:
        return None
    return _Due(state.goal.cause, rest, position.lots[0], continues=True)


def _part(strategy: StrategyDefinition, position: Position, state: ExitState) -> _Due | None:
    lots = part_due(strategy, position, state)
    if not lots:
        return None
    whole = sum((lot.remaining_quantity for lot in lots), Decimal(0))
    part = whole * Decimal(repr(strategy.exits.take_profit_part_percent)) / 100
    if part * position.price < _minimum(strategy, position):
        return _Due(ExitCause.TAKE_PROFIT, whole, lots[0])
    return _Due(ExitCause.TAKE_PROFIT, part, lots[0], tuple(identifier(lot) for lot in lots))


def _without_dust(strategy: StrategyDefinition, position: Position, due: _Due) -> _Due:
    """All of the position where what would be left could not be sold any more."""
    left = position.quantity - due.quantity
    dust = 0 < left * position.price < _minimum(strategy, position)
    return replace(due, quantity=position.quantity) if dust else due


def _asked(
    strategy: StrategyDefinition, position: Position, state: ExitState, pending: Sequence[Decimal | None], due: _Due
) -> ExitDecision:
    """`due` as a proposal, unless an order of ours or the cooldown stands in its way."""
    repeats = not due.cause.protects or (state.attempted_cause is not None and state.attempted_cause.protects)
    quantity = min(due.quantity, _uncovered(position, pending))
    if pending and (repeats or quantity * position.price < _minimum(strategy, position)):
        return ExitDecision(state, held=Reason(ReasonCode.EXIT_PENDING, float(len(pending)), 0.0))
    waited = None if state.attempted_at is None else (position.now - state.attempted_at).total_seconds()
    cooldown = strategy.exits.cooldown_seconds
    # A clock that has stepped back must not hold an exit until it has caught up.
    if repeats and waited is not None and 0 <= waited < cooldown:
        return ExitDecision(state, held=Reason(ReasonCode.EXIT_COOLDOWN, waited, cooldown))
    return ExitDecision(_remembering(position, state, due), _proposal(strategy, position, state, due, quantity))


def _cut(
    strategy: StrategyDefinition, position: Position, decision: ExitDecision, largest: LargestOrder
) -> ExitDecision:
    """The proposal as order-manager takes it. The goal stays the whole: what has begun goes on until it is reached.

    Where it takes less than the exchange's minimum no order can be right; then it says so itself, by a rejection.
    """
    proposal, most = decision.proposal, largest.quantity_at(position.price)
    least = _minimum(strategy, position) / position.price
    if proposal is None or most is None or proposal.quantity <= most or most < least:
        return decision
    quantity = _leaving_enough(proposal.quantity, most, least)
    amount = quote_amount(quantity, position.price)
    cut = replace(proposal, quantity=quantity, amount=amount if largest.amount is None else min(amount, largest.amount))
    return replace(decision, proposal=cut)


def _leaving_enough(whole: Decimal, most: Decimal, least: Decimal) -> Decimal:
    """Up to `most` of `whole`, so that the rest can be sold too, if possible also when the price halves meanwhile."""
    for rest in (2 * least, least):
        if whole >= rest + least:
            return min(most, whole - rest)
    return most


def _uncovered(position: Position, pending: Sequence[Decimal | None]) -> Decimal:
    """What of the position no open exit order closes."""
    known = [quantity for quantity in pending if quantity is not None]
    if len(known) < len(pending):
        return Decimal(0)
    return max(Decimal(0), position.quantity - sum(known, Decimal(0)))


def _remembering(position: Position, state: ExitState, due: _Due) -> ExitState:
    goal = goal_at(position.lots, due.quantity, due.cause, due.part_lot_ids)
    if state.goal is not None:
        # What was filled of the exit before is a part of this one: it has begun, and goes on to its end.
        goal = replace(goal, quantity=goal.quantity + state.goal.quantity - state.goal.rest(position.lots))
    return replace(state, goal=goal, attempted_at=position.now, attempted_cause=due.cause)


def _proposal(
    strategy: StrategyDefinition, position: Position, state: ExitState, due: _Due, quantity: Decimal
) -> ExitProposal:
    value, threshold = numbers(strategy, position, state, due.cause, due.lot)
    return ExitProposal(
        side=due.lot.side.opposite,
        quantity=quantity,
        amount=quote_amount(quantity, position.price),
        cause=due.cause,
        value=value,
        threshold=threshold,
        continues=due.continues,
    )
