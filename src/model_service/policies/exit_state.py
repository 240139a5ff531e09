"""What the exit policy remembers of one position: the best price, the trailing stop, parts taken, an exit under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from model_service.trades.ledger import Lot


class ExitCause(StrEnum):
    """Why a position is closed, wholly or in part."""

    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    TAKE_PROFIT = "take_profit"
    HOLDING_PROFIT = "holding_profit"
    MAXIMUM_HOLDING = "maximum_holding"
    HORIZON = "horizon"

    @property
    def protects(self) -> bool:
        """Whether it limits a loss: such an exit does not wait for one that does not."""
        return self in (ExitCause.STOP_LOSS, ExitCause.TRAILING_STOP)


@dataclass(frozen=True, slots=True)
class ExitGoal:
    """How far an exit is to go, as a point in the book: lots close first in, first out, and new ones come after it.

    Attributes:
        quantity: base units, all that is to be closed.
        lot_id: the last lot that it reaches, of which `lot_closed` base units are to be closed by then.
        part_lot_ids: the lots whose part it takes; empty for an exit of whole lots.
    """

    cause: ExitCause
    quantity: Decimal
    lot_id: int
    lot_closed: Decimal
    part_lot_ids: tuple[int, ...] = ()

    def rest(self, lots: Sequence[Lot]) -> Decimal:
        """What is still to be closed of it, base units; 0 once the book has passed the point."""
        left = Decimal(0)
        for lot in lots:
            lot_id = identifier(lot)
            if lot_id < self.lot_id:
                left += lot.remaining_quantity
            elif lot_id == self.lot_id:
                left += max(Decimal(0), self.lot_closed - (lot.quantity - lot.remaining_quantity))
        return left


@dataclass(frozen=True, slots=True)
class ExitState:
    """Of one position. A state of another position says nothing of this one.

    Attributes:
        best_price: highest price since the entry of a long position, lowest of a short one; None without trailing stop.
        stop_price: where the trailing stop stands; None before it is armed. It never loosens.
        parted_lot_ids: open lots whose part has been taken at the take-profit.
        goal: the exit that was asked for last, until it is done or has come to nothing.
        attempted_at, attempted_cause: of the newest exit signal.
    """

    position_id: int
    best_price: Decimal | None = None
    stop_price: Decimal | None = None
    parted_lot_ids: tuple[int, ...] = ()
    goal: ExitGoal | None = None
    attempted_at: datetime | None = None
    attempted_cause: ExitCause | None = None


def identifier(lot: Lot) -> int:
    """The number of a stored lot. Raises ValueError for one that has none."""
    if lot.lot_id is None:
        raise ValueError(f"a lot of {lot.strategy_id} {lot.asset} has no lot_id; exits are decided on stored lots")
    return lot.lot_id


def current(state: ExitState | None, lots: Sequence[Lot]) -> ExitState:
    """What is known of the position that `lots` (not empty) are; a new position starts with nothing."""
    position_id = lots[0].position_id if lots[0].position_id is not None else identifier(lots[0])
    return state if state is not None and state.position_id == position_id else ExitState(position_id)


def settle(state: ExitState, lots: Sequence[Lot], *, pending: bool, dust: Decimal) -> ExitState:
    """Take note of what became of the exit that was asked for last.

    Once a part of it is filled, it holds: its lots have been parted, and the rest is still to be closed. One of which
    nothing was filled, and whose order is gone, is forgotten.

    Args:
        pending: whether an exit order of the position is open.
        dust: base units; a rest under this cannot be sent, and the exit is done.
    """
    open_ids = [identifier(lot) for lot in lots]
    parted, goal = set(state.parted_lot_ids), state.goal
    if goal is not None:
        rest = goal.rest(lots)
        if rest < goal.quantity:
            parted.update(goal.part_lot_ids)
        if rest == 0 or (not pending and (rest >= goal.quantity or rest < dust)):
            goal = None
    return replace(state, goal=goal, parted_lot_ids=tuple(lot_id for lot_id in open_ids if lot_id in parted))


def goal_at(lots: Sequence[Lot], quantity: Decimal, cause: ExitCause, part_lot_ids: tuple[int, ...] = ()) -> ExitGoal:
    """The point in the book that closing `quantity` base units of `lots`, oldest first, leads to."""
    left = quantity
    for lot in lots:
        if left <= lot.remaining_quantity:
            break
        left -= lot.remaining_quantity
    closed = lot.quantity - lot.remaining_quantity + min(left, lot.remaining_quantity)
    return ExitGoal(cause, quantity, identifier(lot), closed, part_lot_ids)
