"""What the guards of openings look at: one side of one asset, and the limits that hold for every strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.services.balances import Balance
from model_service.services.halts import Halt
from model_service.services.ports import OpenOrder


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Limits that hold for every strategy.

    Attributes:
        balance_share: of the available balance, that openings may ask for.
        order_amount: quote currency to which order-manager cuts an order.
        order_quantity: base units that order-manager takes at most.
        contradiction_amount: quote currency of our own position, of which the platform's table has to know.
    """

    market_data_max_age_seconds: float
    skip_if_open_order: bool
    opposite_orders_only: bool
    indicators_max_age_seconds: float = math.inf
    balance_share: float = 1.0
    balance_max_age_seconds: float = math.inf
    order_amount: float = math.inf
    order_quantity: float = math.inf
    contradiction_amount: float = math.inf


LEAST_SHARE_IN_TABLE = 0.1
"""Of our position, that the platform's table has to have on the same side; it counts fills twice, never less."""


@dataclass(frozen=True, slots=True)
class OpeningRequest:
    """What the guards look at: one side of one asset, before the draw.

    Attributes:
        position_amount: signed quote value of the strategy's position in the asset.
        amount: quote currency that the signal would ask for.
        platform_position_amount: signed quote value of the position in the platform's own table, all strategies and
            people together; 0 where there is no such table.
        platform_limit_amount: the limits of all strategies on the asset added up.
        tokens: what the rate limit has left.
        halts: that hold now, for this strategy or another.
        balance: what the side is paid from; None where there is no row of it, or no such table.
        asked_amount: quote currency that earlier openings of the same pass, and those under way, ask of it.
        platform_quantity: signed base units in the platform's own table.
        under_way_amount: quote currency of the strategy's own openings of this side that may still fill.
        open_exits: orders of any strategy that close a position in the asset.
        balance_is_unread: there is a balance for the side, and it cannot be read.
        book_amount: signed quote value of what all strategies hold of the asset by our own ledger.
        platform_is_known: whether the platform has a table of positions.
    """

    strategy: StrategyDefinition
    limits: GuardLimits
    snapshot: MarketSnapshot
    side: Side
    amount: Decimal
    position_amount: float
    open_orders: Sequence[OpenOrder]
    tokens: float
    platform_position_amount: float = 0.0
    platform_limit_amount: float = math.inf
    halts: Sequence[Halt] = ()
    balance: Balance | None = None
    asked_amount: float = 0.0
    platform_quantity: float = 0.0
    under_way_amount: float = 0.0
    open_exits: int = 0
    balance_is_unread: bool = False
    book_amount: float = 0.0
    platform_is_known: bool = False

    def reached_amount(self, before: float, under_way: float = 0.0) -> float:
        """Signed quote value of a position when this opening, and those under way on its side, are filled."""
        return before + self.side.sign * (under_way + float(self.amount))

    @property
    def contradicted_amount(self) -> float:
        """Quote value of our own position where the platform's table has none, or the opposite; else 0."""
        if not self.platform_is_known:
            return 0.0
        confirmed = self.platform_position_amount * math.copysign(1.0, self.book_amount)
        return 0.0 if confirmed >= LEAST_SHARE_IN_TABLE * abs(self.book_amount) else abs(self.book_amount)

    @property
    def order_quantity(self) -> float:
        """Base units of the order, as order-manager works them out: the price that is sent decides."""
        return float(self.amount) / self.snapshot.price

    @property
    def reached_quantity(self) -> float:
        """Base units that order-manager holds against its limit: of the order, or of the position that it enlarges."""
        after = abs(self.platform_quantity + self.side.sign * self.order_quantity)
        if after <= abs(self.platform_quantity) or after <= self.order_quantity:
            return self.order_quantity
        return after  # also where it is unknown (NaN)
