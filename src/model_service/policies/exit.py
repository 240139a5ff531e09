"""The exit policy: closes lots at the same barriers that define labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.trades.ledger import Lot


class ExitCause(StrEnum):
    """Which barrier a lot has reached."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    HORIZON = "horizon"


@dataclass(frozen=True, slots=True)
class ExitProposal:
    """Close `quantity` base units by a signal of `side`; `cause` is that of the oldest lot that is due."""

    side: Side
    quantity: Decimal
    cause: ExitCause


def propose_exit(strategy: StrategyDefinition, lots: Sequence[Lot], price: float, now: datetime) -> ExitProposal | None:
    """What of an asset's open lots is due at `price` (quote per base); None when nothing is.

    All open lots of a strategy and asset lie on the same side, since the ledger nets first in, first out.
    """
    due = [(lot, cause) for lot in lots if (cause := exit_cause(strategy, lot, price, now)) is not None]
    if not due:
        return None
    quantity = sum((lot.remaining_quantity for lot, _ in due), Decimal(0))
    return ExitProposal(due[0][0].side.opposite, quantity, due[0][1])


def exit_cause(strategy: StrategyDefinition, lot: Lot, price: float, now: datetime) -> ExitCause | None:
    """The barrier that `lot` has reached, the stop first."""
    move_percent = lot.side.sign * (price / float(lot.entry_price) - 1.0) * 100.0
    if strategy.stop_loss_percent is not None and move_percent <= -strategy.stop_loss_percent:
        return ExitCause.STOP_LOSS
    if strategy.take_profit_percent is not None and move_percent >= strategy.take_profit_percent:
        return ExitCause.TAKE_PROFIT
    if now >= lot.opened_at + timedelta(seconds=strategy.horizon_seconds):
        return ExitCause.HORIZON
    return None
