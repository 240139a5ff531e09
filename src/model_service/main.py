"""The composition root: reads settings, builds every part once, and runs them with the HTTP interface."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from model_service.assembly import assembled
from model_service.config.clock import Clock, Identifiers, RandomIdentifiers, SystemClock
from model_service.config.doubts import doubts
from model_service.config.extras import missing_for_dask, missing_for_search
from model_service.config.settings import Settings
from model_service.config.strategies import StrategyDefinition, strategy_from
from model_service.config.strategy_source import FixedStrategies, StrategyFile
from model_service.database.addresses import embedded_folder, external_address
from model_service.database.connection import Database, DatabaseAddress
from model_service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from model_service.models.features import FEATURE_NAMES
from model_service.runtime import Service
from model_service.services.live_view import LiveAnswers
from model_service.services.roster import StrategyRoster

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
            assembled(
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


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
