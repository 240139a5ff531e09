"""The composition root: reads settings, builds every part once, and runs them with the HTTP interface."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import signal
import socket
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from model_service.config.clock import Clock, Identifiers, RandomIdentifiers, SystemClock
from model_service.config.doubts import doubts
from model_service.config.extras import missing_for_dask, missing_for_search
from model_service.config.settings import Settings
from model_service.config.strategies import StrategyDefinition, strategy_from
from model_service.config.strategy_file import StrategyText
from model_service.config.strategy_source import FixedStrategies, StrategyFile
from model_service.consumers.balance_sync import BalanceSync, SyncLimits
from model_service.consumers.dead_letter_office import DeadLetterOffice
from model_service.consumers.executions import ExecutionConsumer
from model_service.consumers.fills import FillDeriver
from model_service.consumers.gateway_client import GatewayClient
from model_service.consumers.market_data import MarketDataConsumer
from model_service.consumers.market_subscriptions import MarketSubscriber
from model_service.consumers.order_reconciliation import OrderReconciler, ReconciliationLimits
from model_service.database.account_balances import BALANCES, AccountBalances
from model_service.database.addresses import embedded_folder, external_address
from model_service.database.bars import BarStore
from model_service.database.connection import Database, DatabaseAddress
from model_service.database.dead_letters import DeadLetters
from model_service.database.decision_features import PostgresDecisionSource
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from model_service.database.executions import ExecutionStore
from model_service.database.live_quality import PostgresQualityStore
from model_service.database.loss_levels import PostgresLossStore
from model_service.database.model_files import ModelFolder
from model_service.database.outbox import Outbox
from model_service.database.outcomes import PostgresOutcomeStore
from model_service.database.recent_decisions import PostgresRecentDecisions
from model_service.database.recent_trades import PostgresRecentTrades
from model_service.database.reconciliation import ReconciliationStore
from model_service.database.registry import PostgresRegistry
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from model_service.database.signal_detail import PostgresOpenings
from model_service.database.strategy_store import PostgresStrategyStore
from model_service.database.training_runs import PostgresTrainingStore
from model_service.database.version_files import PostgresVersionFiles
from model_service.explanation_process import ExplanationLauncher
from model_service.market.state import AssetMarket
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.transport import Transport
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import DatabaseCoordinates
from model_service.policies.exit import LargestOrder
from model_service.publishers.signal_publisher import PUBLISHER_ROLE, SignalPublisher
from model_service.publishers.webhook import Webhook
from model_service.runtime import Parts, Service
from model_service.services.alerts import NoAlerts
from model_service.services.asset_watch import AssetWatch
from model_service.services.balance_assets import BalanceAssets
from model_service.services.balances import BalanceReader
from model_service.services.comparison import Comparisons
from model_service.services.conditions import OpeningConditions
from model_service.services.decision_pass import GenerationLimits
from model_service.services.drift import DriftLimits, DriftWatch
from model_service.services.explanations import Explanations
from model_service.services.fallback import Fallback
from model_service.services.guards import GuardLimits
from model_service.services.labelling import Labeller
from model_service.services.live_view import LiveAnswers
from model_service.services.loss_limit import LossLimits, LossWatch
from model_service.services.market_watch import MarketWatch
from model_service.services.markets import Markets
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.quality import QualityLimits, QualityWatch
from model_service.services.replay import Replays
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.shared_limits import SharedLimits
from model_service.services.signal_generation import SignalGenerator
from model_service.services.strategy_control import StrategyControl, StrategySource
from model_service.services.training import TrainingLimits, TrainingService
from model_service.services.triggers import TriggerLimits, Triggers
from model_service.services.version_files import VersionFiles
from model_service.training_process import ChildLauncher

if TYPE_CHECKING:
    import uvicorn

log = structlog.get_logger()
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StartRefused(Exception):  # noqa: N818 - an answer to the operator, not a fault
    """The service does not start; the text says which thing is in the way and what to do."""


async def build_service(
    settings: Settings,
    *,
    strategies: Sequence[StrategyDefinition] | None = None,
    clock: Clock | None = None,
    identifiers: Identifiers | None = None,
    seed: int | None = None,
    training_seconds: float | None = None,
    durable: bool = True,
) -> Service:
    """Every part of the service, built and wired, with nothing connected but the embedded PostgreSQL.

    Args:
        seed: of the decisions' draws; a random one when None. Each signal stores the seed of its own draw.
        training_seconds: in virtual time, how long a training run lasts.
        durable: False for an embedded database that may be lost with the machine.

    Raises:
        EmbeddedPostgresError: when the embedded database cannot be started.
    """
    clock = clock or SystemClock()
    identifiers = identifiers or RandomIdentifiers()
    source = StrategyFile(settings, FEATURE_NAMES) if strategies is None else FixedStrategies(strategies)
    text = await source.read()
    configured = source.parse(text)
    embedded, address = await _database_address(settings, durable)
    # In virtual time nothing may depend on how fast the machine is, and the database is the service's own.
    in_real_time = isinstance(clock, SystemClock)
    if in_real_time:
        _warn(settings, [one.definition for one in configured if one.enabled])
    database = Database(address, pool_size=settings.model_service_database_pool_size, watched=in_real_time)
    try:
        return Service(
            _parts(
                settings,
                StrategyRoster(configured, partial(strategy_from, settings)),
                source,
                text,
                clock,
                identifiers,
                database,
                embedded,
                str(seed if seed is not None else secrets.randbits(63)),
                training_seconds,
            )
        )
    except BaseException:
        if embedded is not None:
            await embedded.stop()
        raise


def _warn(settings: Settings, strategies: Sequence[StrategyDefinition]) -> None:
    limits = settings.trading_decision_interval_seconds, settings.signal_generation_rate_limit
    for doubt in doubts(strategies, *limits):
        log.warning("setting_out_of_reach", detail=doubt)


async def serve(settings: Settings) -> None:
    """Run the service with its HTTP interface until SIGTERM or SIGINT.

    Raises:
        StartRefused, EmbeddedPostgresError, SchemaOutdated, StorageError: each with one sentence for the operator.
    """
    stop = asyncio.create_task(_stop_signal().wait(), name="stop")
    require_extras(settings)
    key = api_key(settings)
    listener = bind(settings.model_service_host, settings.model_service_port)
    service = await _built_unless(stop, settings)
    if service is None:
        listener.close()
        return
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload_strategies, "SIGHUP")
    server = http_server(service, key)
    web = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    work = asyncio.create_task(_work(service), name="service")
    lost = asyncio.create_task(_database_lost(service), name="database")
    log.info("listening", host=settings.model_service_host, port=listener.getsockname()[1])
    try:
        await asyncio.wait({web, work, stop, lost}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            # The HTTP interface answers meanwhile, /readyz with 503.
            await service.drain(work)
    finally:
        for task in (stop, work, lost):
            task.cancel()
        ended = await asyncio.gather(work, stop, lost, return_exceptions=True)
        server.should_exit = True
        closed = await asyncio.gather(web, service.stop(), return_exceptions=True)
    for result in (*ended, *closed):
        if isinstance(result, Exception):
            raise result


async def _built_unless(stop: asyncio.Task[bool], settings: Settings) -> Service | None:
    """The service, or None when `stop` came first; the embedded database takes seconds the first time."""
    building = asyncio.create_task(build_service(settings), name="build")
    await asyncio.wait({building, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not building.done():
        building.cancel()
        await asyncio.wait({building})
        log.info("stopped_before_start")
        return None
    return building.result()


async def _database_lost(service: Service) -> None:
    """End with an error when the embedded database ends by itself: whoever started the service starts it again."""
    embedded = service.parts.embedded
    if embedded is None:
        await asyncio.Event().wait()
        return
    await embedded.wait_until_lost()
    raise EmbeddedPostgresError("The embedded PostgreSQL has ended by itself; see postgres.log, and start again.")


async def _work(service: Service) -> None:
    await service.start_when_possible()
    await service.run()


def require_extras(settings: Settings) -> None:
    """Raises StartRefused when a run could never work with what is installed."""
    missing = missing_for_dask() if settings.training_engine == "dask" else None
    if settings.model_training_search_trials:
        missing = missing or missing_for_search()
    if missing is not None:
        raise StartRefused(missing)


def http_server(service: Service, key: str) -> uvicorn.Server:
    """The HTTP interface of a service; the caller gives it a socket and ends it through `should_exit`."""
    # Imported here: a demo without a port starts a second sooner.
    from model_service.api.server import QuietServer

    parts = service.parts
    live = LiveAnswers(parts.quality, parts.drift)
    asked = (parts.explanations, parts.replays, live, parts.version_files, parts.comparisons)
    return QuietServer.of(parts.database, parts.operations, service, *asked, key, parts.clock)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StartRefused when the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StartRefused(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set MODEL_SERVICE_PORT."
        ) from error
    return listener


def api_key(settings: Settings) -> str:
    """The key of X-API-Key: from the settings, or on loopback one that is made once and kept in the state folder.

    Raises:
        StartRefused: when the address is not loopback and no key is set.
    """
    if settings.model_service_api_key is not None:
        return settings.model_service_api_key.get_secret_value()
    if settings.model_service_host not in LOOPBACK:
        raise StartRefused(
            f"MODEL_SERVICE_HOST is {settings.model_service_host}, which others can reach, and no key is set. "
            "Set MODEL_SERVICE_API_KEY, or listen on 127.0.0.1."
        )
    return _kept_key(settings.model_service_state_path / "api-key")


def _kept_key(path: Path) -> str:
    try:
        if path.exists():
            return path.read_text().strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        key = secrets.token_urlsafe(24)
        path.write_text(key + "\n")
    except OSError as error:
        raise StartRefused(
            f"The key file {path} cannot be used: {error.strerror}. "
            "Set MODEL_SERVICE_STATE_PATH to a folder that can be written, or MODEL_SERVICE_API_KEY."
        ) from error
    return key


async def _database_address(settings: Settings, durable: bool) -> tuple[EmbeddedPostgres | None, DatabaseAddress]:
    if settings.uses_embedded_database:
        embedded = EmbeddedPostgres(embedded_folder(settings), durable=durable)
        return embedded, await embedded.start()
    return None, external_address(settings)


def _parts(
    settings: Settings,
    roster: StrategyRoster,
    source: StrategySource,
    text: StrategyText | None,
    clock: Clock,
    identifiers: Identifiers,
    database: Database,
    embedded: EmbeddedPostgres | None,
    seed: str,
    training_seconds: float | None,
) -> Parts:
    transport = _transport(settings, database, clock)
    office = DeadLetterOffice(DeadLetters(database), transport)
    bars = BarStore(database, settings.market_data_bar_seconds)
    markets = Markets(bars, partial(_market, settings))
    files = ModelFolder(settings.storage_path, settings.dataset_path)
    registry = PostgresRegistry(database)
    runs = PostgresTrainingStore(database)
    webhook = _webhook(settings, identifiers)
    alerts = webhook or NoAlerts()
    modes = Modes(roster, registry, files, warmup=settings.warmup_mode_enabled, alerts=alerts)
    training_limits = _training_limits(settings, database.address, training_seconds)
    records = PostgresVersionFiles(database)
    retention = Retention(records, files, settings.model_retention_versions)
    training = TrainingService(
        runs, registry, files, ChildLauncher(), modes, identifiers, training_limits, retention, alerts
    )
    triggers = Triggers(roster, runs, training, _trigger_limits(settings), clock.now())
    control = StrategyControl(roster, source, text, PostgresStrategyStore(database), modes, training, markets)
    found = BalanceAssets(_balances(settings, database), settings.trading_quote_currency)
    shared = _shared_tables(settings, database)
    decisions = PostgresDecisionStore(database, shared, shared_limits(settings))
    losses = PostgresLossStore(database)
    balances = _balance_reader(shared)
    conditions = OpeningConditions(losses, _loss_watch(settings, losses), balances)
    return Parts(
        settings=settings,
        roster=roster,
        strategies=control,
        asset_watch=AssetWatch(roster, found, markets, registry),
        clock=clock,
        database=database,
        embedded=embedded,
        transport=transport,
        markets=markets,
        bars=bars,
        files=files,
        version_files=VersionFiles(records, registry, files, retention),
        modes=modes,
        generator=SignalGenerator(
            roster, markets, modes, decisions, identifiers, _generation_limits(settings, seed), conditions
        ),
        conditions=conditions,
        publisher=SignalPublisher(Outbox(database, PUBLISHER_ROLE), transport),
        executions=_execution_consumer(settings, transport, database, office),
        fills=FillDeriver(ExecutionStore(database)),
        reconciler=_reconciler(settings, database, shared),
        market_data=_market_consumers(settings, transport, markets, bars, office),
        market_watch=MarketWatch(settings.market_data_stale_warning_threshold_seconds),
        subscriber=_subscriber(settings, seed),
        balance_sync=_balance_sync(settings, balances),
        dead_letters=office,
        labeller=Labeller(PostgresOutcomeStore(database, bars), settings.market_data_bar_seconds),
        training=training,
        triggers=triggers,
        quality=QualityWatch(
            roster,
            modes,
            PostgresQualityStore(database),
            training,
            Fallback(registry, files, PostgresRecentTrades(database), settings.model_live_window_outcomes),
            QualityLimits(settings.model_live_window_outcomes),
            alerts,
        ),
        drift=DriftWatch(
            roster,
            modes,
            PostgresRecentDecisions(database),
            training,
            runs,
            DriftLimits(threshold=settings.model_drift_psi_threshold),
        ),
        webhook=webhook,
        comparisons=Comparisons(modes, registry, files, PostgresRecentTrades(database)),
        operations=ServiceOperations(modes, registry, training, triggers, roster, control, clock, losses),
        explanations=Explanations(PostgresDecisionSource(database), registry, files, ExplanationLauncher()),
        replays=Replays(PostgresOpenings(database), registry, files),
    )


def _shared_tables(settings: Settings, database: Database) -> SharedTables | None:
    """The siblings' tables; an embedded database has none."""
    if settings.uses_embedded_database or not settings.trading_order_lookup_enabled:
        return None
    return SharedTables(SharedSchema(database, settings.model_service_shared_schema, USES))


def _balances(settings: Settings, database: Database) -> AccountBalances | None:
    """The table account_balances. Not one of USES: where no strategy asks for it, nobody has to have it."""
    if settings.uses_embedded_database or not settings.trading_order_lookup_enabled:
        return None
    return AccountBalances(SharedSchema(database, settings.model_service_shared_schema, (BALANCES,)))


def _webhook(settings: Settings, identifiers: Identifiers) -> Webhook | None:
    if settings.alert_webhook_url is None:
        return None
    secret = settings.alert_webhook_secret
    return Webhook(settings.alert_webhook_url, secret.get_secret_value() if secret else None, identifiers)


def _balance_reader(shared: SharedTables | None) -> BalanceReader | None:
    return None if shared is None else BalanceReader(shared.balances)


def _reconciler(settings: Settings, database: Database, tables: SharedTables | None) -> OrderReconciler | None:
    if tables is None:
        return None
    limits = ReconciliationLimits(
        grace_seconds=settings.execution_reconciliation_grace_seconds,
        sweep_seconds=settings.execution_reconciliation_sweep_seconds,
        lost_after_seconds=settings.signal_lost_after_seconds,
    )
    return OrderReconciler(tables, ReconciliationStore(database), ExecutionStore(database), limits)


def _execution_consumer(
    settings: Settings, transport: Transport, database: Database, office: DeadLetterOffice
) -> ExecutionConsumer:
    subscription = transport.subscribe(settings.execution_queue, declare=settings.execution_queue_is_ours)
    return ExecutionConsumer(subscription, ExecutionStore(database), office)


def _market(settings: Settings, asset: str) -> AssetMarket:
    return AssetMarket(
        asset,
        settings.market_data_bar_seconds,
        jump_limit_percent=settings.market_data_max_jump_percent,
        longest_gap_bars=settings.market_data_indicators_max_age_bars,
    )


def _market_consumers(
    settings: Settings,
    transport: Transport,
    markets: Markets,
    bars: BarStore,
    office: DeadLetterOffice,
) -> list[MarketDataConsumer]:
    declare = settings.market_data_declare_queues
    return [
        MarketDataConsumer(transport.subscribe(queue, declare=declare), markets, bars, office)
        for queue in settings.market_data_queues
    ]


def _subscriber(settings: Settings, seed: str) -> MarketSubscriber | None:
    if settings.ws_gateway_host is None or not settings.market_data_subscribe:
        return None
    gateway = GatewayClient(settings.ws_gateway_host, settings.ws_gateway_port, settings.ws_gateway_api_key)
    jitter = random.Random(seed)  # noqa: S311 - spreads retries, no secret
    return MarketSubscriber(gateway, settings.market_data_queues, jitter)


def _balance_sync(settings: Settings, balances: BalanceReader | None) -> BalanceSync | None:
    """None where nobody can be asked, or where no balance is looked at."""
    if settings.ws_gateway_host is None or not settings.balance_sync_enabled or balances is None:
        return None
    gateway = GatewayClient(
        settings.ws_gateway_host,
        settings.ws_gateway_port,
        settings.ws_gateway_api_key,
        timeout_seconds=settings.balance_sync_timeout_seconds,
    )
    limits = SyncLimits(settings.balance_data_max_age_seconds, settings.balance_sync_min_interval_seconds)
    return BalanceSync(gateway, balances, limits)


def _transport(settings: Settings, database: Database, clock: Clock) -> Transport:
    if not settings.uses_rabbitmq:
        return PostgresTransport(database, clock=clock)
    # Imported here, so that the embedded default does not carry a broker's client.
    from model_service.messaging.rabbitmq import RabbitTransport

    user, password = (
        quote(settings.rabbitmq_user, safe=""),
        quote(settings.rabbitmq_password.get_secret_value(), safe=""),
    )
    place = f"{settings.rabbitmq_host}:{settings.rabbitmq_port}/{quote(settings.rabbitmq_vhost, safe='')}"
    return RabbitTransport(f"amqp://{user}:{password}@{place}", clock=clock)


def _generation_limits(settings: Settings, seed: str) -> GenerationLimits:
    largest = largest_order(settings)
    return GenerationLimits(
        guards=GuardLimits(
            settings.market_data_max_age_seconds,
            settings.signal_generation_skip_if_open_order,
            settings.signal_generation_check_opposite_orders_only,
            settings.market_data_indicators_max_age_bars * settings.market_data_bar_seconds,
            balance_share=settings.balance_adaptation_safety_margin,
            balance_max_age_seconds=settings.balance_data_max_age_seconds,
            order_amount=_or_infinite(largest.amount),
            order_quantity=_or_infinite(largest.quantity),
        ),
        tick_seconds=settings.trading_decision_interval_seconds,
        expiry_seconds=settings.signal_expiry_seconds,
        rate_per_minute=settings.signal_generation_rate_limit,
        burst=settings.signal_generation_burst_allowance,
        none_sample_rate=settings.signal_none_sample_rate,
        seed=seed,
        # Averages over hundreds of executions: every tenth tick is often enough.
        statistics_refresh_seconds=max(60.0, 10 * settings.trading_decision_interval_seconds),
        largest_order=largest,
    )


def _or_infinite(limit: Decimal | None) -> float:
    return math.inf if limit is None else float(limit)


def largest_order(settings: Settings) -> LargestOrder:
    """What order-manager takes in one order, as far as its limits are known here."""
    exposure, ratio = settings.ordermanager_max_exposure, settings.ordermanager_max_order_size_ratio
    size = settings.ordermanager_max_position_size
    return LargestOrder(
        amount=None if exposure is None or ratio is None else Decimal(str(exposure)) * Decimal(str(ratio)),
        quantity=None if size is None else Decimal(str(size)),
    )


def shared_limits(settings: Settings) -> SharedLimits:
    """The limits of openings over all strategies and processes."""
    exposure = settings.trading_max_exposure_amount
    return SharedLimits(
        maximum_exposure=math.inf if exposure is None else exposure,
        conflict_window_seconds=settings.signal_conflict_window_seconds,
        rate_per_minute=settings.signal_generation_total_rate_limit,
        burst=settings.signal_generation_total_burst_allowance,
    )


def _loss_watch(settings: Settings, store: PostgresLossStore) -> LossWatch | None:
    limits = LossLimits(settings.trading_daily_loss_limit_amount, settings.trading_total_daily_loss_limit_amount)
    return None if limits == LossLimits() else LossWatch(store, limits)


def _training_limits(settings: Settings, address: DatabaseAddress, training_seconds: float | None) -> TrainingLimits:
    coordinates = DatabaseCoordinates(
        host=address.host,
        port=address.port,
        database=address.database,
        user=address.user,
        password=address.password,
        schema_name=address.schema,
    )
    return TrainingLimits(
        coordinates,
        settings.model_training_threads,
        settings.model_training_max_duration_seconds,
        training_seconds,
        settings.model_training_device,
        settings.training_engine,
        settings.dask_scheduler_address,
        settings.trading_decision_interval_seconds,
    )


def _trigger_limits(settings: Settings) -> TriggerLimits:
    return TriggerLimits(
        settings.model_retraining_schedule, settings.model_retraining_timezone, settings.model_retraining_interval_days
    )


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
