"""The position book: first-in, first-out lots per strategy and asset, and what closing them really earned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

from model_service.contracts.types import Side
from model_service.trades.fills import EXACT_DIGITS

FEE_UNIT = Decimal("1e-18")
"""Shares of fees are rounded to this; the last share takes what rounding left, so that sums are exact."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One fill of one of our signals: base units, quote per base, fees in quote currency (negative for a rebate).

    Raises:
        ValueError: when quantity or price is not above 0.
    """

    signal_id: UUID
    strategy_id: str
    asset: str
    side: Side
    quantity: Decimal
    price: Decimal
    fees: Decimal
    executed_at: datetime

    def __post_init__(self) -> None:
        if self.quantity <= 0 or self.price <= 0:
            raise ValueError(f"A fill has quantity and price above 0, not {self.quantity} at {self.price}.")


@dataclass(frozen=True, slots=True)
class Lot:
    """What one fill opened. `quantity` and `entry_fees` are the opening's; `lot_id` is None before it is stored.

    `position_id` is the lot_id of the lot that opened the position, which lasts until it is flat or flips.
    """

    lot_id: int | None
    strategy_id: str
    asset: str
    side: Side
    signal_id: UUID
    opened_at: datetime
    entry_price: Decimal
    quantity: Decimal
    remaining_quantity: Decimal
    entry_fees: Decimal
    position_id: int | None = None

    @property
    def open_fees(self) -> Decimal:
        """Entry fees that no closure has borne yet, quote currency."""
        with localcontext(prec=EXACT_DIGITS):
            return self.entry_fees - _share(self.entry_fees, self.quantity - self.remaining_quantity, self.quantity)


@dataclass(frozen=True, slots=True)
class LotClosure:
    """A part of a lot that a fill closed.

    Attributes:
        side: that of the lot.
        fees: its share of the entry's and of the exit's fees.
        realized_pnl: side * (exit - entry) * quantity - fees, quote currency.
    """

    lot_id: int | None
    signal_id: UUID
    strategy_id: str
    asset: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    realized_pnl: Decimal
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """What one fill changes.

    Attributes:
        closures: in the order of the lots.
        reduced: the lots of `closures`, in the same order, as they stand now; a `remaining_quantity` of 0 is closed.
        opened: the new lot, None when the fill only closed.
    """

    closures: tuple[LotClosure, ...]
    reduced: tuple[Lot, ...]
    opened: Lot | None


def apply_fill(open_lots: Sequence[Lot], fill: Fill) -> LedgerChange:
    """Close lots of the other side, oldest first, then open a lot with what is left of the fill.

    Args:
        open_lots: of the fill's strategy and asset, oldest first, all on one side.

    Raises:
        ValueError: when a lot belongs to another strategy or asset, or sides are mixed.
    """
    _check(open_lots, fill)
    with localcontext(prec=EXACT_DIGITS):
        closed = list(_close(open_lots, fill))
        left = fill.quantity - sum((closure.quantity for closure, _ in closed), Decimal(0))
        return LedgerChange(
            closures=tuple(closure for closure, _ in closed),
            reduced=tuple(lot for _, lot in closed),
            opened=_open(fill, left) if left > 0 else None,
        )


def _close(open_lots: Sequence[Lot], fill: Fill) -> Iterator[tuple[LotClosure, Lot]]:
    done = Decimal(0)
    for lot in open_lots:
        quantity = min(lot.remaining_quantity, fill.quantity - done)
        if lot.side is fill.side or quantity <= 0:
            continue
        reduced = replace(lot, remaining_quantity=lot.remaining_quantity - quantity)
        exit_fees = _share_between(fill.fees, done, done + quantity, fill.quantity)
        yield _closure(lot, reduced, fill, exit_fees), reduced
        done += quantity


def _closure(lot: Lot, reduced: Lot, fill: Fill, exit_fees: Decimal) -> LotClosure:
    quantity = lot.remaining_quantity - reduced.remaining_quantity
    fees = lot.open_fees - reduced.open_fees + exit_fees
    return LotClosure(
        lot_id=lot.lot_id,
        signal_id=lot.signal_id,
        strategy_id=lot.strategy_id,
        asset=lot.asset,
        side=lot.side,
        quantity=quantity,
        entry_price=lot.entry_price,
        exit_price=fill.price,
        fees=fees,
        realized_pnl=lot.side.sign * (fill.price - lot.entry_price) * quantity - fees,
        closed_at=fill.executed_at,
    )


def _open(fill: Fill, quantity: Decimal) -> Lot:
    return Lot(
        lot_id=None,
        strategy_id=fill.strategy_id,
        asset=fill.asset,
        side=fill.side,
        signal_id=fill.signal_id,
        opened_at=fill.executed_at,
        entry_price=fill.price,
        quantity=quantity,
        remaining_quantity=quantity,
        entry_fees=_share_between(fill.fees, fill.quantity - quantity, fill.quantity, fill.quantity),
    )


def _share_between(total: Decimal, start: Decimal, end: Decimal, whole: Decimal) -> Decimal:
    """The part of `total` that falls on [start, end) of `whole`; parts that tile `whole` add up to `total` exactly."""
    return _share(total, end, whole) - _share(total, start, whole)


def _share(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return total if part == whole else (total * part / whole).quantize(FEE_UNIT)


def _check(open_lots: Sequence[Lot], fill: Fill) -> None:
    for lot in open_lots:
        if (lot.strategy_id, lot.asset) != (fill.strategy_id, fill.asset):
            raise ValueError(
                f"Lot {lot.lot_id} is of {lot.strategy_id} {lot.asset}, the fill of {fill.strategy_id} {fill.asset}."
            )
    if len({lot.side for lot in open_lots if lot.remaining_quantity > 0}) > 1:
        raise ValueError(f"Open lots of {fill.strategy_id} {fill.asset} lie on both sides; a book nets them.")
