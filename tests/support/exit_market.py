"""A position, a price and orders that fill, in part, late or not at all: what an exit policy has to live with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from model_service.config.exits import ExitParameters
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.policies.exit import ExitDecision, LargestOrder, decide_exit
from model_service.policies.exit_state import ExitState
from model_service.trades.ledger import Fill, Lot, apply_fill
from tests.support.builders import NOON, strategy

ENTRY = Decimal(100)
TICK = timedelta(seconds=5)


@dataclass(frozen=True)
class Step:
    """One tick: the price, what is opened before it, and what becomes of the exit orders after it."""

    price: Decimal
    opens: Decimal
    fills: Decimal
    ends: bool


@dataclass
class ExitMarket:
    """Runs `decide_exit` over steps as the service does: state, lots and open orders go from tick to tick.

    Attributes:
        asked: time, side, quantity and cause of every exit.
        stops: the trailing stop after each tick, with its position.
    """

    definition: StrategyDefinition
    side: Side
    entry: Decimal | None = ENTRY
    largest: LargestOrder | None = None
    now: datetime = NOON
    lots: list[Lot] = field(default_factory=list)
    state: ExitState | None = None
    orders: list[Decimal] = field(default_factory=list)
    asked: list[tuple[datetime, Side, Decimal, str]] = field(default_factory=list)
    stops: list[tuple[int, Decimal | None]] = field(default_factory=list)
    _next_lot: int = 1

    def open(self, quantity: Decimal, price: Decimal) -> None:
        """A fill of an opening."""
        self._fill(self.side, quantity, price)

    def step(self, step: Step) -> ExitDecision:
        """One tick; the orders fill afterwards, the oldest first."""
        if step.opens:
            self.open(step.opens, step.price if self.entry is None else self.entry)
        decision = decide_exit(
            self.definition, self.lots, self.state, list(self.orders), float(step.price), self.now, self.largest
        )
        self.state = decision.state or self.state
        if decision.proposal is not None:
            proposal = decision.proposal
            self.orders.append(proposal.quantity)
            self.asked.append((self.now, proposal.side, proposal.quantity, proposal.cause.value))
        if decision.state is not None:
            self.stops.append((decision.state.position_id, decision.state.stop_price))
        self.work(step)
        self.now += TICK
        return decision

    def work(self, step: Step) -> None:
        """What becomes of the orders."""
        filled = [quantity * step.fills for quantity in self.orders]
        for quantity in filled:
            if quantity:
                self._fill(self.side.opposite, quantity, step.price)
        left = [quantity - done for quantity, done in zip(self.orders, filled, strict=True)]
        self.orders = [] if step.ends else [quantity for quantity in left if quantity]

    def _fill(self, side: Side, quantity: Decimal, price: Decimal) -> None:
        fill = Fill(UUID(int=1), "momentum_v1", "BTCUSDT", side, quantity, price, Decimal(0), self.now)
        change = apply_fill(self.lots, fill)
        reduced = {lot.lot_id: lot for lot in change.reduced}
        self.lots = [new for lot in self.lots if (new := reduced.get(lot.lot_id, lot)).remaining_quantity > 0]
        if change.opened is not None:
            position_id = self.lots[0].position_id if self.lots else self._next_lot
            self.lots.append(replace(change.opened, lot_id=self._next_lot, position_id=position_id))
            self._next_lot += 1

    @property
    def quantity(self) -> Decimal:
        """Base units that are open; below 0 when the position lies on the other side."""
        return sum((lot.side.sign * self.side.sign * lot.remaining_quantity for lot in self.lots), Decimal(0))


def exit_parameters() -> st.SearchStrategy[ExitParameters]:
    """Every exit, alone and together."""
    return st.builds(
        ExitParameters,
        trailing_activation_percent=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        trailing_distance_percent=st.none() | st.sampled_from([0.5, 1.0, 3.0]),
        take_profit_part_percent=st.none() | st.sampled_from([10.0, 50.0, 90.0]),
        maximum_holding_hours=st.none() | st.sampled_from([0.02, 24.0]),
        holding_profit_percent=st.none() | st.just(1.0),
        cooldown_seconds=st.sampled_from([0.0, 6.0, 20.0]),
    )


def definitions(**fixed: Any) -> st.SearchStrategy[StrategyDefinition]:
    """Strategies with near barriers, so that prices around 100 reach them."""
    values = {
        "horizon_seconds": st.sampled_from([30, 300]),
        "take_profit_percent": st.none() | st.sampled_from([1.0, 3.0]),
        "stop_loss_percent": st.none() | st.sampled_from([1.0, 2.0]),
        "exits": exit_parameters(),
    }
    return st.builds(strategy, **{**values, **{name: st.just(value) for name, value in fixed.items()}})


def step_lists(*, opens: Sequence[str] = ("0", "0", "0", "0.3", "2")) -> st.SearchStrategy[list[Step]]:
    """Up to forty ticks with prices from 94 to 106 in halves, and orders that fill wholly, in part or not."""
    one = st.builds(
        Step,
        price=st.integers(188, 212).map(lambda halves: Decimal(halves) / 2),
        opens=st.sampled_from(opens).map(Decimal),
        fills=st.sampled_from(["0", "0.5", "1", "1"]).map(Decimal),
        ends=st.booleans(),
    )
    return st.lists(one, min_size=1, max_size=40)
