"""Deciding without servers: markets that move, strategies that act, a trained model, and a store that keeps nothing."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from model_service.config.clock import RandomIdentifiers
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.market import BookEvent, TickerEvent
from model_service.learning.run import train_candidate
from model_service.market.state import AssetMarket
from model_service.models.artifact import LoadedModel
from model_service.policies.base import Policy
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import DecidedSignal, DecisionStore
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.builders import strategy
from tests.support.training_rows import imbalance_rows, training_job

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
WARM_BARS = 200


class NothingKept:
    """A decision store that knows of nothing and forgets all, at no cost."""

    def __init__(self) -> None:
        self.signals = 0
        self.silent = 0

    async def open_lots(self) -> Mapping[Any, Any]:
        """None."""
        return {}

    async def exit_states(self) -> Mapping[Any, Any]:
        """None."""
        return {}

    async def open_orders(self, now: datetime) -> Sequence[Any]:
        """None."""
        return ()

    async def foreign_orders(self) -> Sequence[Any]:
        """None."""
        return ()

    async def shared_positions(self) -> Mapping[str, float]:
        """None."""
        return {}

    async def execution_statistics(self) -> Mapping[Any, Any]:
        """None."""
        return {}

    async def record(
        self, signals: Sequence[Any], nones: Sequence[Any], silent: Sequence[Any], *_: Any, **__: Any
    ) -> Sequence[Any]:
        """Count them; none is refused."""
        self.signals += len(signals)
        self.silent += len(silent)
        return ()

    async def took_effect(self) -> Any:
        """Never in doubt."""
        return None


@dataclass(frozen=True, slots=True)
class OnePolicy:
    """The same policy for every strategy, in place of the modes."""

    policy_of_all: Policy
    mode_of_all: str
    is_unsettled: bool = False

    def policy(self, strategy_id: str, now: datetime) -> Policy:
        """It."""
        return self.policy_of_all

    def mode(self, strategy_id: str) -> str:
        """Its mode."""
        return self.mode_of_all


def trained_model() -> tuple[LoadedModel, bytes]:
    """A model of the default settings on 2,000 rows, and its graph."""
    candidate, files = train_candidate(training_job(), imbalance_rows(2000, seed=3), {}, {}, lambda *_: None)
    return LoadedModel.from_files(files, candidate.files), files["serving.onnx"]


def asset_names(count: int) -> tuple[str, ...]:
    """`A00USDT`, `A01USDT`, ..."""
    return tuple(f"A{number:02d}USDT" for number in range(count))


def warm_market(asset: str, at: datetime = START) -> AssetMarket:
    """An asset whose every indicator is known, with a book that leans to the buyers."""
    market = AssetMarket(asset, 60)
    for minute in range(WARM_BARS):
        price = 50_000.0 * (1.0 + 0.001 * math.sin(minute))
        before = at - timedelta(minutes=WARM_BARS - minute)
        market.apply(TickerEvent(asset=asset, at=before, last_price=price, volume_24h=1e6))
    refresh(market, at)
    return market


def refresh(market: AssetMarket, at: datetime) -> None:
    """A new price and book at `at`."""
    market.apply(TickerEvent(asset=market.asset, at=at, last_price=50_000.0, volume_24h=1e6))
    market.apply(BookEvent(market.asset, at, 49_999.0, 5.0, 50_001.0, 1.0, is_snapshot=True))


def acting_strategy(name: str, assets: Sequence[str], signals_per_minute: float) -> StrategyDefinition:
    """A strategy that no limit holds back."""
    return strategy(
        strategy_id=name,
        assets=tuple(assets),
        signals_per_minute=signals_per_minute,
        action_threshold=0.0,
        maximum_position_amount=Decimal(10**12),
    )


def generator(
    strategies: Sequence[StrategyDefinition],
    markets: Mapping[str, AssetMarket],
    modes: OnePolicy,
    store: DecisionStore,
    *,
    tick_seconds: float,
) -> SignalGenerator:
    """The service's own, with a rate limit that never bites."""
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=False, opposite_orders_only=False),
        tick_seconds=tick_seconds,
        expiry_seconds=30.0,
        rate_per_minute=1e9,
        burst=10**9,
        none_sample_rate=0.1,
        seed="7",
        statistics_refresh_seconds=60.0,
    )
    roster = StrategyRoster.of(strategies)
    return SignalGenerator(roster, markets, modes, store, RandomIdentifiers(), limits)  # type: ignore[arg-type]


def at_once(work: Coroutine[Any, Any, Sequence[DecidedSignal]]) -> Sequence[DecidedSignal]:
    """Run what waits for nobody to its end, without an event loop."""
    try:
        while True:
            work.send(None)
    except StopIteration as ended:
        found: Sequence[DecidedSignal] = ended.value
        return found
