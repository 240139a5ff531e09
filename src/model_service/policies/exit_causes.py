"""Which exit a lot has reached: the barriers that define labels, and the limits that only the policy has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Context, Decimal

from model_service.config.exits import ExitParameters
from model_service.config.strategies import StrategyDefinition
from model_service.policies.exit_state import ExitCause, ExitState, identifier
from model_service.trades.ledger import Lot

STOP_CONTEXT = Context(prec=28)
HOLDING_PROFIT_FROM_SECONDS = 3600.0
LEAST_HOLDING_PROFIT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Position:
    """The open lots of a strategy and asset, oldest first and all on one side, at one price and time."""

    lots: Sequence[Lot]
    price: Decimal
    now: datetime

    @property
    def sign(self) -> int:
        """1 for a long position, -1 for a short one."""
        return self.lots[0].side.sign

    @property
    def quantity(self) -> Decimal:
        """Base units, above 0 on either side."""
        return sum((lot.remaining_quantity for lot in self.lots), Decimal(0))

    @property
    def notional(self) -> Decimal:
        """What the open part cost, quote currency."""
        return sum((lot.remaining_quantity * lot.entry_price for lot in self.lots), Decimal(0))

    def move_percent(self, lot: Lot) -> float:
        """How far the price lies on the good side of the lot's entry, percent of the entry price."""
        return float(self.sign * (self.price - lot.entry_price) * 100 / lot.entry_price)

    def has_moved(self, lot: Lot, percent: float) -> bool:
        """Whether that is at least `percent`, exactly: a barrier is reached at its own price."""
        return self.sign * (self.price - lot.entry_price) * 100 >= _exact(percent) * lot.entry_price

    def age_seconds(self, lot: Lot) -> float:
        """How long the lot has been held."""
        return (self.now - lot.opened_at).total_seconds()


def trailed(exits: ExitParameters, position: Position, state: ExitState) -> ExitState:
    """The state with the best price and the trailing stop as this price leaves them: the stop moves one way only."""
    if exits.trailing_distance_percent is None:
        return replace(state, best_price=None, stop_price=None)
    sign, quantity, notional = position.sign, position.quantity, position.notional
    seen = position.lots[0].entry_price if state.best_price is None else state.best_price
    best = max(seen, position.price, key=lambda price: sign * price)
    gain = sign * (best * quantity - notional) * 100
    if state.stop_price is None and gain < _exact(exits.trailing_activation_percent) * notional:
        return replace(state, best_price=best)
    distance = STOP_CONTEXT.divide(_exact(exits.trailing_distance_percent) * notional, 100 * quantity)
    stop = best - sign * distance
    if state.stop_price is not None:
        stop = max(stop, state.stop_price, key=lambda price: sign * price)
    return replace(state, best_price=best, stop_price=stop)


def trailing_stop_reached(position: Position, state: ExitState) -> bool:
    """Whether the price has come back to the armed trailing stop."""
    return state.stop_price is not None and position.sign * (position.price - state.stop_price) <= 0


def whole_cause(strategy: StrategyDefinition, position: Position, lot: Lot) -> ExitCause | None:
    """Why all of `lot` is to be closed, the stop first; None when nothing says so."""
    if strategy.stop_loss_percent is not None and _has_lost(position, lot, strategy.stop_loss_percent):
        return ExitCause.STOP_LOSS
    if strategy.exits.take_profit_part_percent is None and takes_profit(strategy, position, lot):
        return ExitCause.TAKE_PROFIT
    wanted = wanted_profit(strategy.exits, position.age_seconds(lot))
    if wanted is not None and position.has_moved(lot, wanted):
        return ExitCause.HOLDING_PROFIT
    if position.age_seconds(lot) < holding_limit_seconds(strategy):
        return None
    return ExitCause.HORIZON if strategy.exits.maximum_holding_hours is None else ExitCause.MAXIMUM_HOLDING


def part_due(strategy: StrategyDefinition, position: Position, state: ExitState) -> list[Lot]:
    """Lots at their take-profit whose part has not been taken; none where take-profit closes all of a lot."""
    if strategy.exits.take_profit_part_percent is None:
        return []
    return [
        lot
        for lot in position.lots
        if identifier(lot) not in state.parted_lot_ids and takes_profit(strategy, position, lot)
    ]


def takes_profit(strategy: StrategyDefinition, position: Position, lot: Lot) -> bool:
    """Whether the lot has reached the take-profit."""
    return strategy.take_profit_percent is not None and position.has_moved(lot, strategy.take_profit_percent)


def holding_limit_seconds(strategy: StrategyDefinition) -> float:
    """How long a lot is held at most."""
    hours = strategy.exits.maximum_holding_hours
    return float(strategy.horizon_seconds) if hours is None else 3600.0 * hours


def wanted_profit(exits: ExitParameters, age_seconds: float) -> float | None:
    """The profit, percent of the entry price, at which a lot of this age is closed; None where no age is enough.

    As the platform means it: from the first hour on, and falling in a line with the age, to a tenth at the least.

    Example:
        >>> exits = ExitParameters(maximum_holding_hours=24, holding_profit_percent=1.0)
        >>> wanted_profit(exits, 1800), wanted_profit(exits, 12 * 3600), wanted_profit(exits, 23 * 3600)
        (None, 0.5, 0.1)
    """
    if exits.maximum_holding_hours is None or exits.holding_profit_percent is None:
        return None
    if age_seconds < HOLDING_PROFIT_FROM_SECONDS:
        return None
    left = 1.0 - age_seconds / (3600.0 * exits.maximum_holding_hours)
    return exits.holding_profit_percent * max(LEAST_HOLDING_PROFIT_SHARE, left)


def numbers(
    strategy: StrategyDefinition, position: Position, state: ExitState, cause: ExitCause, lot: Lot
) -> tuple[float, float | None]:
    """What was looked at, and what it was held against: percent of the entry price, seconds, or prices."""
    match cause:
        case ExitCause.TRAILING_STOP:
            return float(position.price), None if state.stop_price is None else float(state.stop_price)
        case ExitCause.MAXIMUM_HOLDING | ExitCause.HORIZON:
            return position.age_seconds(lot), holding_limit_seconds(strategy)
        case ExitCause.STOP_LOSS:
            limit = strategy.stop_loss_percent
            return position.move_percent(lot), None if limit is None else -limit
        case ExitCause.TAKE_PROFIT:
            return position.move_percent(lot), strategy.take_profit_percent
        case ExitCause.HOLDING_PROFIT:
            return position.move_percent(lot), wanted_profit(strategy.exits, position.age_seconds(lot))


def _has_lost(position: Position, lot: Lot, percent: float) -> bool:
    return position.sign * (position.price - lot.entry_price) * 100 <= -_exact(percent) * lot.entry_price


def _exact(value: float) -> Decimal:
    """The decimal number that the float was written as."""
    return Decimal(repr(float(value)))
