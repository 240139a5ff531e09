"""A process that starts anew at any moment exits as one that went on: what it knows stands in the database."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any
from uuid import UUID

import pytest

from model_service.config.clock import SeededIdentifiers
from model_service.config.exits import ExitParameters
from model_service.contracts.executions import ObservationKind
from model_service.contracts.market import TickerEvent
from model_service.contracts.types import OrderStatus, Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.market.state import AssetMarket
from model_service.policies.exit_state import ExitState
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.ports import DecidedSignal, DueTicks, NoneDraw, PositionKey, RefusedOpening, SilentTick
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.integration.test_stores import decided, increment, record, with_signals
from tests.support.builders import NOON, strategy

STEPS = 80
STEP = timedelta(seconds=2)
"""Some of them are ticks, the others lie in between."""
LOT = Decimal("0.00001")
LIMITS = GenerationLimits(
    guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False),
    tick_seconds=5.0,
    expiry_seconds=30.0,
    rate_per_minute=60.0,
    burst=1,
    none_sample_rate=0.5,
    seed="7",
    statistics_refresh_seconds=60.0,
)
EXITS = ExitParameters(
    trailing_activation_percent=0.6,
    trailing_distance_percent=0.5,
    take_profit_part_percent=40,
    maximum_holding_hours=0.04,
    cooldown_seconds=8,
)
FATES = ("filled", "filled", "part", "cancelled", "waits", "rejected")


class Killed(Exception):
    """The process ends here."""


class DyingStore(PostgresDecisionStore):
    """Ends the process before or after a pass is stored, when `dies` says so."""

    dies: str | None = None

    async def record(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw],
        silent: Sequence[SilentTick],
        exit_states: Mapping[PositionKey, ExitState] | None = None,
        *,
        prices: Mapping[str, float] | None = None,
        spare: Mapping[UUID, NoneDraw] | None = None,
        due: Mapping[tuple[str, str], Sequence[DueTicks]] | None = None,
    ) -> Sequence[RefusedOpening]:
        dies, self.dies = self.dies, None
        if dies == "before":
            raise Killed
        refused = await super().record(signals, nones, silent, exit_states, prices=prices, spare=spare, due=due)
        if dies == "after":
            raise Killed
        return refused


class Paused:
    """Nobody opens: what is opened comes from the test."""

    is_unsettled = False

    def policy(self, strategy_id: str, now: datetime) -> Reason:
        return Reason(ReasonCode.PAUSED)

    def mode(self, strategy_id: str) -> str:
        return "paused"


@dataclass
class Order:
    """An exit at the exchange; quantities in base units."""

    signal: DecidedSignal
    filled: Decimal = Decimal(0)

    @property
    def quantity(self) -> Decimal:
        return (self.signal.signal.amount / self.signal.price).quantize(LOT, ROUND_DOWN)


@dataclass
class Trader:
    """One strategy on one database, whose process may end at any moment; the exchange goes on."""

    database: Database
    strategy_id: str
    seed: int
    restarts: random.Random | None
    orders: list[Order] = field(default_factory=list)
    exits: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._identifiers = SeededIdentifiers(100 * self.seed + len(self.strategy_id))
        self._events = (f"{self.strategy_id}-{number}" for number in range(10_000))
        self._start()

    def _start(self) -> None:
        """A process that knows nothing but what is in the database."""
        definition = strategy(strategy_id=self.strategy_id, take_profit_percent=0.9, stop_loss_percent=0.8, exits=EXITS)
        self._store = DyingStore(self.database)
        self._market = AssetMarket("BTCUSDT", 60)
        modes: Any = Paused()
        markets = {"BTCUSDT": self._market}
        self._generator = SignalGenerator(
            StrategyRoster.of([definition]), markets, modes, self._store, self._identifiers, LIMITS
        )

    async def run(self, side: Side) -> list[tuple[Any, ...]]:
        for number, price in enumerate(self._prices()):
            now = NOON + number * STEP
            if self._draw.random() < 0.25 or number == 0:
                await self._open(side, now, price)
            await self._tick(now, price)
            await self._exchange(now, price)
        return self.exits

    def _prices(self) -> Iterator[float]:
        price = 50_000.0
        for _ in range(STEPS):
            yield round(price, 1)
            price *= 1 + self._draw.gauss(0, 0.003)

    async def _tick(self, now: datetime, price: float) -> None:
        if self.restarts is not None:
            kind = self.restarts.choice(["none", "between", "before", "after"])
            if kind != "none":
                self._start()
            self._store.dies = kind
        self._market.apply(TickerEvent(asset="BTCUSDT", at=now, last_price=price))
        try:
            await self._generator.step(now)
        except Killed:
            self._start()
            self._market.apply(TickerEvent(asset="BTCUSDT", at=now, last_price=price))
            await self._generator.step(now)
        await self._take_exits(now)

    async def _take_exits(self, now: datetime) -> None:
        """What is in the outbox, whichever process has put it there."""
        rows = await self.database.fetch(
            "SELECT signal_id, side, amount, price, metadata -> 'exit' AS exit FROM model_service.trading_signals"
            " WHERE strategy_id = $1 AND decided_at = $2 AND intent = 'exit'",
            self.strategy_id,
            now,
        )
        for row in rows:
            reached = row["exit"]
            self.exits.append((now, row["side"], row["amount"], *(reached[name] for name in sorted(reached))))
            one = decided(row["signal_id"], Side(row["side"]))
            signal = replace(one.signal, amount=row["amount"])
            self.orders.append(Order(replace(one, signal=signal, price=row["price"])))

    async def _exchange(self, now: datetime, price: float) -> None:
        for order in list(self.orders):
            fate = self._draw.choice(FATES)
            share = {"filled": Decimal(1), "part": Decimal("0.4"), "cancelled": Decimal("0.3")}.get(fate, Decimal(0))
            order.filled += ((order.quantity - order.filled) * share).quantize(LOT, ROUND_DOWN)
            if fate == "rejected" and order.filled:
                fate = "cancelled"
            status = {
                "filled": OrderStatus.FILLED,
                "cancelled": OrderStatus.CANCELLED,
                "rejected": OrderStatus.REJECTED,
            }.get(fate, OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.PENDING)
            if fate in ("filled", "cancelled", "rejected"):
                self.orders.remove(order)
            await self._report(order, status, now, price)

    async def _report(self, order: Order, status: OrderStatus, now: datetime, price: float) -> None:
        signal = order.signal.signal
        one = increment(next(self._events), str(signal.signal_id), signal.side, "1", str(price))
        reported = replace(
            one,
            kind=ObservationKind.CHECKPOINT,
            status=status,
            quantity=order.filled,
            price=Decimal(str(price)) if order.filled else None,
            executed_at=now,
        )
        await record(self.database, reported)

    async def _open(self, side: Side, now: datetime, price: float) -> None:
        one = decided(self._identifiers.new(), side)
        signal = replace(one.signal, strategy_id=self.strategy_id, timestamp=now)
        await with_signals(self.database, replace(one, signal=signal))
        quantity = str(self._draw.choice(["0.01", "0.004", "0.0003"]))
        filled = increment(next(self._events), str(signal.signal_id), side, quantity, str(price))
        await record(self.database, replace(filled, executed_at=now))


@pytest.mark.parametrize("seed", range(8))
async def test_a_restart_at_any_moment_changes_no_exit(database: Database, seed: int) -> None:
    side = Side.BUY if seed % 2 else Side.SELL
    steady = await Trader(database, "steady", seed, None).run(side)
    restarted = await Trader(database, "restarted", seed, random.Random(seed)).run(side)
    assert steady == restarted
    assert len(steady) >= 5
    sides = {row["side"] for row in await database.fetch("SELECT side FROM model_service.lots")}
    assert sides == {side.value}, "no exit has turned a position round"


async def test_without_what_is_remembered_the_exits_would_differ(database: Database) -> None:
    """The test above can fail: a process that forgets decides otherwise."""
    steady = await Trader(database, "steady", 3, None).run(Side.BUY)
    forgetful = Trader(database, "forgetful", 3, None)
    await database.execute(
        "CREATE FUNCTION model_service.forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
    )
    await database.execute(
        "CREATE TRIGGER forget BEFORE INSERT ON model_service.exit_states FOR EACH ROW"
        " EXECUTE FUNCTION model_service.forget()"
    )
    assert await forgetful.run(Side.BUY) != steady
