"""Every part of the service, built once from the settings and wired to the others."""

from __future__ import annotations

import random
from functools import partial
from urllib.parse import quote

from model_service.config.clock import Clock, Identifiers
from model_service.config.settings import Settings
from model_service.config.strategy_file import StrategyText
from model_service.consumers.balance_sync import BalanceSync, SyncLimits
from model_service.consumers.dead_letter_office import DeadLetterOffice
from model_service.consumers.executions import ExecutionConsumer
from model_service.consumers.fills import FillDeriver
from model_service.consumers.gateway_client import GatewayClient
from model_service.consumers.market_data import MarketDataConsumer
from model_service.consumers.market_subscriptions import MarketSubscriber
from model_service.consumers.order_reconciliation import OrderReconciler, ReconciliationLimits
from model_service.database.account_balances import BALANCES, AccountBalances
from model_service.database.bars import BarStore
from model_service.database.connection import Database, DatabaseAddress
from model_service.database.dead_letters import DeadLetters
from model_service.database.decision_features import PostgresDecisionSource
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.embedded import EmbeddedPostgres
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
from model_service.models.job import DatabaseCoordinates
from model_service.publishers.signal_publisher import PUBLISHER_ROLE, SignalPublisher
from model_service.publishers.webhook import Webhook
from model_service.runtime import Parts
from model_service.services.alerts import NoAlerts
from model_service.services.asset_watch import AssetWatch
from model_service.services.balance_assets import BalanceAssets
from model_service.services.balances import BalanceReader
from model_service.services.comparison import Comparisons
from model_service.services.conditions import OpeningConditions
from model_service.services.drift import DriftLimits, DriftWatch
from model_service.services.explanations import Explanations
from model_service.services.fallback import Fallback
from model_service.services.labelling import Labeller
from model_service.services.limits import generation_limits, shared_limits, trigger_limits
from model_service.services.loss_limit import LossLimits, LossWatch
from model_service.services.market_watch import MarketWatch
from model_service.services.markets import Markets
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.quality import QualityLimits, QualityWatch
from model_service.services.replay import Replays
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from model_service.services.strategy_control import StrategyControl, StrategySource
from model_service.services.training import TrainingLimits, TrainingService
from model_service.services.triggers import Triggers
from model_service.services.version_files import VersionFiles
from model_service.training_process import ChildLauncher


def assembled(
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
    """The parts of a service that is not connected to anything yet.

    Args:
        source: where the strategies are read anew, from `text`, the file as it was read at first.
        embedded: the server of `database`, when it is our own.
        seed: of the decisions' draws.
        training_seconds: in virtual time, how long a training run lasts.
    """
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
    triggers = Triggers(roster, runs, training, trigger_limits(settings), clock.now())
    control = StrategyControl(roster, source, text, PostgresStrategyStore(database), modes, training, markets)
    found = BalanceAssets(_balances(settings, database), settings.trading_quote_currency)
    shared = shared_tables(settings, database)
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
            roster, markets, modes, decisions, identifiers, generation_limits(settings, seed), conditions
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


def shared_tables(settings: Settings, database: Database) -> SharedTables | None:
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
