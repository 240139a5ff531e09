"""One pass over the strategies: what it starts from, and what it has decided so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.features import market_features
from model_service.models.inputs import Vector
from model_service.policies.exit import LargestOrder
from model_service.policies.exit_state import ExitState
from model_service.services.conditions import Conditions
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import DecidedSignal, DueTicks, NoneDraw, OpenOrder, PositionKey, SilentTick
from model_service.trades.ledger import Lot


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """How signals are made, for every strategy."""

    guards: GuardLimits
    tick_seconds: float
    expiry_seconds: float
    rate_per_minute: float
    burst: int
    none_sample_rate: float
    seed: str
    statistics_refresh_seconds: float
    largest_order: LargestOrder | None = None


@dataclass
class DecisionPass:
    """What one pass starts from, and what it has decided so far; between two ticks only exits are decided."""

    now: datetime
    is_tick: bool
    strategies: Sequence[StrategyDefinition]
    position_limits: Mapping[str, float]
    snapshots: Mapping[str, MarketSnapshot]
    lots: Mapping[PositionKey, Sequence[Lot]]
    orders: Sequence[OpenOrder]
    exit_states: Mapping[PositionKey, ExitState]
    platform_positions: Mapping[str, float] | None = None
    conditions: Conditions | None = None
    signals: list[DecidedSignal] = field(default_factory=list)
    nones: list[NoneDraw] = field(default_factory=list)
    silent: list[SilentTick] = field(default_factory=list)
    changed_exits: dict[PositionKey, ExitState] = field(default_factory=dict)
    spare: dict[UUID, NoneDraw] = field(default_factory=dict)
    due: dict[PositionKey, list[DueTicks]] = field(default_factory=dict)
    platform_unread_seconds: float | None = None
    asked: dict[Side, Decimal] = field(default_factory=lambda: dict.fromkeys(Side, Decimal(0)))

    def part(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw] = (),
        silent: Sequence[SilentTick] = (),
        changed_exits: Mapping[PositionKey, ExitState] | None = None,
    ) -> DecisionPass:
        """The same pass with only this of what it has decided."""
        states = dict(changed_exits or {})
        return replace(self, signals=list(signals), nones=list(nones), silent=list(silent), changed_exits=states)

    @cached_property
    def stamp(self) -> str:
        """The moment, as seeds have it."""
        return self.now.isoformat()

    def orders_of(self, strategy_id: str, asset: str) -> Sequence[OpenOrder]:
        """Open orders of the strategy on the asset, and those of which nobody knows whose they are."""
        return [order for order in self._orders_by_asset.get(asset, ()) if order.strategy_id in (None, strategy_id)]

    def exits_of(self, asset: str) -> int:
        """Orders of any strategy that close a position in the asset: open ones, and those of this pass."""
        is_open = sum(order.intent == "exit" for order in self._orders_by_asset.get(asset, ()))
        return is_open + sum(one.intent == "exit" and one.signal.asset == asset for one in self.signals)

    def book_quantity(self, asset: str) -> float:
        """Signed base units that all strategies hold of the asset."""
        return self._book.get(asset, 0.0)

    def asked_of_balance(self, side: Side) -> float:
        """Quote currency that openings of the side ask for: those under way, of every strategy, and of this pass."""
        return self._under_way[side] + float(self.asked[side])

    def market_features(self, asset: str) -> Vector:
        """Of the asset's snapshot; worked out once for all strategies."""
        found = self._features_by_asset.get(asset)
        if found is None:
            found = self._features_by_asset[asset] = market_features(self.snapshots[asset])
        return found

    @cached_property
    def _book(self) -> Mapping[str, float]:
        found: dict[str, float] = defaultdict(float)
        for (_, asset), lots in self.lots.items():
            found[asset] += float(sum((lot.side.sign * lot.remaining_quantity for lot in lots), Decimal(0)))
        return found

    @cached_property
    def _under_way(self) -> Mapping[Side, float]:
        return {side: under_way_amount(self.orders, side) for side in Side}

    @cached_property
    def _orders_by_asset(self) -> Mapping[str, Sequence[OpenOrder]]:
        found: dict[str, list[OpenOrder]] = defaultdict(list)
        for order in self.orders:
            found[order.asset].append(order)
        return found

    @cached_property
    def _features_by_asset(self) -> dict[str, Vector]:
        return {}


def under_way_amount(orders: Sequence[OpenOrder], side: Side) -> float:
    """Quote currency of our own openings of the side that may still fill; nobody knows how much others ask for."""
    amounts = (order.amount for order in orders if order.side is side and order.intent in ("open", "reduce"))
    return float(sum((amount for amount in amounts if amount is not None), Decimal(0)))
