"""The running service: every role has a `step`; production loops over each, virtual time walks them in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from model_service.api.ports import HealthState
from model_service.config.clock import Clock
from model_service.config.settings import Settings
from model_service.consumers.balance_sync import BalanceSync
from model_service.consumers.dead_letter_office import DeadLetterOffice
from model_service.consumers.executions import ExecutionConsumer
from model_service.consumers.fills import FillDeriver
from model_service.consumers.market_data import MarketDataConsumer
from model_service.consumers.market_subscriptions import MarketSubscriber
from model_service.consumers.order_reconciliation import OrderReconciler
from model_service.database import queries
from model_service.database.bars import BarStore
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.embedded import EmbeddedPostgres
from model_service.database.feature_rows import CURRENT, register_feature_set
from model_service.database.migrations import apply_migrations, check_schema
from model_service.database.model_files import ModelFolder
from model_service.messaging.transport import Transport, TransportUnavailable
from model_service.publishers.signal_publisher import SignalPublisher
from model_service.publishers.webhook import Webhook
from model_service.roles import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Role, RoleLoops
from model_service.services.asset_watch import AssetWatch
from model_service.services.comparison import Comparisons
from model_service.services.conditions import OpeningConditions
from model_service.services.drift import DriftWatch
from model_service.services.explanations import Explanations
from model_service.services.halts import halt_notice
from model_service.services.labelling import Labeller
from model_service.services.market_watch import MarketWatch
from model_service.services.markets import Markets
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.quality import QualityWatch
from model_service.services.replay import Replays
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from model_service.services.strategy_control import StrategyControl
from model_service.services.training import TrainingService
from model_service.services.triggers import Triggers
from model_service.services.version_files import VersionFiles

log = structlog.get_logger()

FULL_BATCH = 200
DRAIN_SECONDS = 8.0
"""How long a stop waits for steps under way; what remains is cancelled, and left as a kill would leave it."""
CLOSE_SECONDS = 2.0
HEALTH_SECONDS = 1.5
SUBSCRIBE_LOOK_SECONDS = 1.0
"""So soon is a new asset subscribed to."""
BALANCE_LOOK_SECONDS = 1.0
AWAY = (DatabaseUnavailable, TransportUnavailable)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Counts since the start, over all strategies; `realized_pnl` is quote currency after fees, of all closed lots."""

    strategies: Sequence[Mapping[str, Any]]
    signals: int
    model_signals: int
    published: int
    fills: int
    outcomes: int
    runs: int
    realized_pnl: Decimal
    training: Mapping[str, Any] | None
    gates: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(slots=True)
class Parts:
    """Everything that the composition root has built, each part once."""

    settings: Settings
    roster: StrategyRoster
    strategies: StrategyControl
    asset_watch: AssetWatch
    clock: Clock
    database: Database
    embedded: EmbeddedPostgres | None
    transport: Transport
    markets: Markets
    bars: BarStore
    files: ModelFolder
    version_files: VersionFiles
    modes: Modes
    generator: SignalGenerator
    conditions: OpeningConditions
    publisher: SignalPublisher
    executions: ExecutionConsumer
    fills: FillDeriver
    reconciler: OrderReconciler | None
    market_data: Sequence[MarketDataConsumer]
    market_watch: MarketWatch
    subscriber: MarketSubscriber | None
    balance_sync: BalanceSync | None
    dead_letters: DeadLetterOffice
    labeller: Labeller
    training: TrainingService
    triggers: Triggers
    quality: QualityWatch
    drift: DriftWatch
    webhook: Webhook | None
    comparisons: Comparisons
    operations: ServiceOperations
    explanations: Explanations
    replays: Replays


class Service:
    """One process of the model service."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.database = parts.database
        self.transport = parts.transport
        self._started = False
        self._waiting_for: dict[str, str] = {"start": "the service is starting"}
        self._publish_now = asyncio.Event()
        self._derive_now = asyncio.Event()
        self._reload_now = asyncio.Event()
        self._loops = RoleLoops(self._roles(), AWAY)

    # -- start and stop

    async def start(self) -> None:
        """Connect and recover; starting is recovering. Raises DatabaseUnavailable, SchemaOutdated, StorageError."""
        parts = self.parts
        parts.files.prepare()
        await parts.database.open()
        if parts.embedded is not None:
            await apply_migrations(parts.database)
        else:
            await check_schema(parts.database)
        await parts.transport.start()
        now = parts.clock.now()
        await register_feature_set(parts.database, CURRENT, now)
        await parts.training.recover(now)
        parts.files.sweep()
        await parts.version_files.take_stock(now)
        await parts.strategies.start(now)
        await parts.asset_watch.step(now)
        await parts.modes.restore(now)
        await parts.fills.recover(now)
        self._started = True
        self._waiting_for.pop("start", None)
        log.info("service_started", strategies=[strategy.strategy_id for strategy in parts.roster.current])

    async def start_when_possible(self) -> None:
        """`start`, waiting with back-off while the database is away."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                await self.start()
                return
            except DatabaseUnavailable as error:
                self._waiting_for["start"] = "the database cannot be reached"
                log.warning("waiting_for_database", error=str(error), retry_seconds=delay)
                await self.parts.database.close()
                await asyncio.sleep(delay)
                delay = min(LAST_RETRY_SECONDS, 2 * delay)

    async def drain(self, running: asyncio.Task[None]) -> None:
        """Begin nothing new and let `running`, the task of `run`, finish its steps: commit, then acknowledge.

        It is done within eight seconds, or not at all: the next start recovers what a killed process leaves, and relies
        on nothing that is done here. A start that is under way is not waited for.
        """
        self._waiting_for["stop"] = "the service is stopping"
        self._loops.drain()
        log.info("service_stopping", started=self._started)
        if self._started:
            await asyncio.wait({running}, timeout=DRAIN_SECONDS)
        if not running.done() and self._loops.working:
            log.warning("drain_cut_short", roles=self._loops.working, seconds=DRAIN_SECONDS)

    async def stop(self) -> None:
        """Stop the child, the broker, the database; what is unfinished is taken up by the next start."""
        await self.parts.training.close()
        await asyncio.gather(
            _within(CLOSE_SECONDS, "broker", self._close_broker()),
            _within(CLOSE_SECONDS, "database", self.parts.database.close()),
        )
        if self.parts.embedded is not None:
            await self.parts.embedded.stop()
        log.info("service_stopped")

    async def _close_broker(self) -> None:
        await self.parts.publisher.close()
        await self.parts.dead_letters.close()
        await self.parts.transport.close()

    def reload_strategies(self, actor: str) -> None:
        """Take the strategy file as it is now, at the next step of the role; for a signal handler."""
        self.parts.strategies.reload_soon(actor)
        self._reload_now.set()

    # -- virtual time

    async def step(self) -> None:
        """One pass of every role in a fixed order, over everything that has arrived: deterministic in virtual time."""
        parts, now = self.parts, self.parts.clock.now()
        await parts.strategies.step(now)
        await parts.asset_watch.step(now)
        for consumer in parts.market_data:
            while await consumer.step(now) >= FULL_BATCH:
                pass
        if taken := await parts.executions.step(now):
            while taken >= FULL_BATCH:
                taken = await parts.executions.step(now)
            await parts.fills.catch_up(now)
        await parts.dead_letters.step(now)
        if parts.reconciler is not None:
            await parts.reconciler.step(now)
        await parts.labeller.step(now)
        await parts.quality.step(now)
        await parts.drift.step(now)
        await parts.triggers.step(now)
        await parts.training.step(now)
        if await self._decide():
            await parts.publisher.step(now)

    # -- real time

    async def run(self) -> None:
        """Every role in its own loop until cancelled or drained; one that cannot go on waits, and the others go on."""
        await self._loops.run()

    def _roles(self) -> list[Role]:
        parts, clock = self.parts, self.parts.clock

        async def decide() -> bool:
            if await self._decide():
                self._publish_now.set()
            return False

        async def label() -> bool:
            return await parts.labeller.step(clock.now()) > 0

        async def publish() -> bool:
            return await parts.publisher.step(clock.now()) > 0

        async def learn() -> bool:
            now = clock.now()
            await parts.quality.step(now)
            await parts.drift.step(now)
            await parts.triggers.step(now)
            await parts.training.step(now)
            return False

        async def take_executions() -> bool:
            if await parts.executions.step(clock.now(), wait_seconds=1.0):
                self._derive_now.set()
            return True

        async def derive_fills() -> bool:
            return await parts.fills.step(clock.now()) > 0

        async def watch_strategies() -> bool:
            now = clock.now()
            await parts.strategies.step(now)
            await parts.asset_watch.step(now)
            return False

        async def copy_dead_letters() -> bool:
            return await parts.dead_letters.step(clock.now()) > 0

        roles = [
            Role("decide", decide, lambda: min(1.0, parts.generator.seconds_to_next_tick(clock.now()))),
            Role("publish", publish, lambda: 1.0, wake=self._publish_now),
            Role("label", label, lambda: 1.0),
            Role("learn", learn, lambda: 0.5),
            Role("executions", take_executions, lambda: 0.0),
            Role("fills", derive_fills, lambda: 1.0, wake=self._derive_now),
            Role("dead_letters", copy_dead_letters, lambda: 1.0),
            Role("strategies", watch_strategies, lambda: 1.0, wake=self._reload_now),
        ]
        if parts.webhook is not None:
            roles.append(_alerting_role(parts.webhook, clock))
        if parts.reconciler is not None:
            roles.append(self._reconciling_role(parts.reconciler))
        if parts.subscriber is not None:
            roles.append(self._subscribing_role(parts.subscriber))
        if parts.balance_sync is not None:
            roles.append(_balance_role(parts.balance_sync, clock))
        return roles + [self._market_role(consumer) for consumer in parts.market_data]

    def _reconciling_role(self, reconciler: OrderReconciler) -> Role:
        async def reconcile() -> bool:
            await reconciler.step(self.parts.clock.now())
            return False

        return Role("reconcile", reconcile, lambda: self.parts.settings.execution_reconciliation_interval_seconds)

    def _subscribing_role(self, subscriber: MarketSubscriber) -> Role:
        async def subscribe() -> bool:
            await subscriber.step(self.parts.markets.keys(), self.parts.clock.now())
            return False

        return Role("subscribe", subscribe, lambda: SUBSCRIBE_LOOK_SECONDS)

    async def _decide(self) -> bool:
        now = self.parts.clock.now()
        self.parts.market_watch.observe(self.parts.markets, now)
        decided = await self.parts.generator.step(now)
        if self.parts.generator.missing_markets:
            # A position of an asset that no strategy names any more: what closes it has to know the price.
            await self.parts.markets.ensure(self.parts.generator.missing_markets, now)
            self.parts.generator.missing_markets.clear()
        return bool(decided)

    def _market_role(self, consumer: MarketDataConsumer) -> Role:
        async def take() -> bool:
            return await consumer.step(self.parts.clock.now(), wait_seconds=1.0) >= 0

        return Role(f"market:{consumer.queue}", take, lambda: 0.0)

    # -- looking at it

    async def health(self) -> HealthState:
        """What works now; never raises."""
        parts = self.parts
        database = await self._database_answers()
        queue = self._started and self.transport.is_connected
        storage = parts.files.is_accessible
        reasons = [*self._waiting_for.values(), *self._loops.waiting_for.values()]
        reasons += ["the database does not answer"] if self._started and not database else []
        reasons += ["the message broker is not connected"] if self._started and not queue else []
        reasons += [] if storage else ["the model folder cannot be used"]
        active = sum(parts.modes.active(one.strategy_id) is not None for one in parts.roster.current)
        advisers = (parts.strategies, parts.asset_watch, parts.reconciler, parts.subscriber, parts.balance_sync)
        notices = [notice for one in advisers if one is not None for notice in one.notices]
        halts = map(halt_notice, parts.conditions.halts)
        return HealthState(database, queue, storage, active, not reasons, tuple(reasons), (*halts, *notices))

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                return bool(await self.database.fetchval("SELECT true"))
        except (DatabaseUnavailable, TimeoutError):
            return False

    async def status(self) -> ServiceStatus:
        """Counts and modes. Raises DatabaseUnavailable."""
        parts = self.parts
        totals = await self.database.fetchrow(
            "SELECT (SELECT coalesce(sum(realized_pnl), 0) FROM model_service.lot_closures) AS realized_pnl,"
            " (SELECT count(*) FROM model_service.training_runs) AS runs"
        )
        assert totals is not None, "a SELECT of scalars has one row"
        results = await queries.warmup_results(self.database)
        return ServiceStatus(
            strategies=[await self._strategy_status(one.strategy_id, results) for one in parts.roster.current],
            signals=parts.generator.signals,
            model_signals=parts.generator.model_signals,
            published=parts.publisher.published,
            fills=parts.fills.fills + (parts.reconciler.fills if parts.reconciler is not None else 0),
            outcomes=parts.labeller.labelled,
            runs=totals["runs"],
            realized_pnl=totals["realized_pnl"],
            training=self._training_status(),
            gates=parts.training.last_gate,
        )

    async def _strategy_status(self, strategy_id: str, results: Mapping[str, Decimal]) -> dict[str, Any]:
        version = self.parts.modes.active(strategy_id)
        return {
            "strategy_id": strategy_id,
            "mode": self.parts.modes.mode(strategy_id),
            "version": version.version if version is not None else None,
            "warmup_result": results.get(strategy_id, Decimal(0)),
            "outcomes_wanted": await self.parts.triggers.outcomes_wanted(strategy_id),
        }

    def _training_status(self) -> dict[str, Any] | None:
        current = self.parts.training.current
        if current is None:
            return None
        return {
            "strategy_id": current.run.strategy_id,
            "run_id": str(current.run.run_id),
            **current.progress.model_dump(exclude={"kind"}),
        }


def _alerting_role(webhook: Webhook, clock: Clock) -> Role:
    async def deliver() -> bool:
        return await webhook.step(clock.now())

    return Role("alerts", deliver, lambda: 1.0, wake=webhook.wake)


def _balance_role(sync: BalanceSync, clock: Clock) -> Role:
    async def keep_fresh() -> bool:
        await sync.step(clock.now())
        return False

    return Role("balances", keep_fresh, lambda: BALANCE_LOOK_SECONDS)


async def _within(seconds: float, part: str, closing: Awaitable[None]) -> None:
    """Let `closing` take that long; what is left then ends with the process, as after a kill."""
    try:
        async with asyncio.timeout(seconds):
            await closing
    except TimeoutError:
        log.warning("stop_cut_short", part=part, seconds=seconds)
