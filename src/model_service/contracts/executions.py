"""Execution reports from order-manager, in both shapes that exist, as one value: the observation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from model_service.contracts.types import OrderStatus, Side


class ObservationKind(StrEnum):
    """Whether quantities are those of this fill alone (`increment`) or of the order so far (`checkpoint`)."""

    INCREMENT = "increment"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Observation:
    """One report about one order, as it was seen; fills are derived from these, never read off directly.

    Attributes:
        event_id: text, unique per report; a second report with the same one is a redelivery.
        order_id: the exchange's or order-manager's identifier; text.
        other_order_id: the other one of the two, where the report has both.
        signal_id: text, since the platform's own test events carry identifiers that are no UUID.
        quantity: base units; of this fill (increment) or filled so far (checkpoint); 0 when nothing has filled.
        price: quote per base; of this fill or the average so far; None when nothing has filled.
        fees: quote currency; of this fill or so far; negative for a maker's rebate.
        executed_at: aware UTC.
        reported_return: `performance.return_percent`, which is a fraction in spite of its name.
    """

    event_id: str
    kind: ObservationKind
    order_id: str
    signal_id: str
    asset: str
    side: Side
    status: OrderStatus
    quantity: Decimal
    price: Decimal | None
    fees: Decimal
    executed_at: datetime
    strategy_id: str | None = None
    signal_price: Decimal | None = None
    reported_return: Decimal | None = None
    is_dry_run: bool = False
    rejection_reason: str | None = None
    trace_id: str | None = None
    other_order_id: str | None = None
