"""The registry over HTTP at size: 100 strategies with 100 versions each, every version with twenty metrics.

p99 of single requests by one client over a kept connection, beside `/livez` on the same server in the same run: what
HTTP costs by itself. Promised are 50 ms.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

import structlog

from benchmarks.figure import Figure
from benchmarks.servers import private_database
from model_service.api.app import create_app
from model_service.api.server import QuietServer
from model_service.config.clock import SystemClock
from model_service.database.connection import Database
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.database.version_files import PostgresVersionFiles
from model_service.learning.run import train_candidate
from model_service.models.artifact import sha256_of
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.version_files import VersionFiles
from tests.support.api import KEY, FakeComparisons, FakeExplanations, FakeHealth, FakeLive, FakeReplays
from tests.support.builders import strategy
from tests.support.training_rows import imbalance_rows, training_job

STRATEGIES, VERSIONS, METRICS = 100, 100, 20
LIMIT_MS = 50.0
REQUESTS = 300
ACTIVATIONS = 200
WARM = 20

FILL_VERSIONS = """
    INSERT INTO model_service.model_versions (
        id, version, strategy_id, model_type, file_path, files, feature_set, trained_at, training_duration_seconds,
        training_dataset_size, training_config, report, gate, gate_passed, created_at)
    SELECT gen_random_uuid(), 'v' || n, 'strategy_' || n % $1::integer,
           CASE WHEN n % 7 = 0 THEN 'random_forest' ELSE 'xgboost' END, '/models/v' || n, $3, $4,
           now() - (100000 - n) * interval '1 minute', 12, 2000, $5, $6, $7, true, now()
    FROM generate_series(1, $1::integer * $2::integer) AS n
"""
FILL_METRICS = """
    INSERT INTO model_service.model_quality_metrics (
        id, model_version_id, metric_name, metric_value, metric_type, slice, evaluated_at, evaluation_dataset_size,
        metadata)
    SELECT gen_random_uuid(), v.id, CASE m WHEN 1 THEN 'accuracy' WHEN 2 THEN 'sharpe_ratio' ELSE 'metric_' || m END,
           0.5, 'classification', CASE WHEN m % 2 = 1 THEN 'test' ELSE 'live' END, now(), 400,
           '{"lower": 0.4, "upper": 0.6}'
    FROM model_service.model_versions v, generate_series(1, $1::integer) AS m
"""
FILL_HISTORY = """
    INSERT INTO model_service.activations (strategy_id, version, previous_version, actor, reason, forced, activated_at)
    SELECT strategy_id, version, NULL, 'bench', 'filled', false, trained_at FROM model_service.model_versions
"""


def run() -> Iterator[Figure]:
    """`registry_list_p99`, `..._filter_p99`, `..._detail_p99`, `..._history_p99`, `..._activate_p99`."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield from asyncio.run(_measure())


async def _measure() -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="model-service-bench-"))
    try:
        async with private_database() as database:
            files = await _fill(database, folder)
            return await _serve(database, files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _fill(database: Database, folder: Path) -> ModelFolder:
    """Rows for all, and whole artifacts for the two newest versions of each strategy."""
    candidate, contents = train_candidate(training_job(), imbalance_rows(2000, 3, assets=3), {}, {}, lambda *_: None)
    hashes = {name: sha256_of(content) for name, content in contents.items()}
    gate = [condition.model_dump() for condition in candidate.gate]
    await database.execute(
        FILL_VERSIONS, STRATEGIES, VERSIONS, hashes, candidate.feature_set, candidate.training_config, candidate.report,
        gate,
    )  # fmt: skip
    await database.execute(FILL_METRICS, METRICS)
    await database.execute(FILL_HISTORY)
    await database.execute("ANALYZE")
    files = ModelFolder(folder)
    files.prepare()
    first = _last_version() - 2 * STRATEGIES + 1
    for number in range(first, _last_version() + 1):
        files.folder(f"v{number}").mkdir()
        for name, content in contents.items():
            place = files.folder(f"v{number}") / name
            if number == first:
                place.write_bytes(content)
            else:
                os.link(files.folder(f"v{first}") / name, place)
    return files


async def _serve(database: Database, files: ModelFolder) -> list[Figure]:
    registry, records = PostgresRegistry(database), PostgresVersionFiles(database)
    strategies = [strategy(strategy_id=f"strategy_{number}") for number in range(STRATEGIES)]
    modes = Modes(StrategyRoster.of(strategies), registry, files, warmup=True)
    await modes.restore(SystemClock().now())
    app = create_app(
        database=database, operations=_operations(modes, registry), health=FakeHealth(),
        explanations=FakeExplanations(), replays=FakeReplays(), live=FakeLive(),
        verifications=VersionFiles(records, registry, files, Retention(records, files, VERSIONS)),
        comparisons=FakeComparisons(), api_key=KEY, clock=SystemClock(),
    )  # fmt: skip
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(QuietServer.quiet(app))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        return await asyncio.to_thread(_figures, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await serving


def _figures(port: int) -> list[Figure]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    floor, _ = _p99(connection, REQUESTS, lambda _: ("GET", "/livez", None))
    last = _last_version()
    asked: Mapping[str, Callable[[int], tuple[str, str, Any]]] = {
        "list": lambda n: ("GET", f"/api/v1/models?limit=100&offset={n * 7 % 2000}", None),
        "filter": lambda n: ("GET", f"/api/v1/models?strategy_id=strategy_{n % STRATEGIES}&model_type=xgboost", None),
        "active": lambda n: ("GET", "/api/v1/models?is_active=true", None),
        "detail": lambda n: ("GET", f"/api/v1/models/v{1 + n * 37 % last}", None),
        "history": lambda n: ("GET", f"/api/v1/strategies/strategy_{n % STRATEGIES}/activations", None),
        "activate": lambda n: ("POST", f"/api/v1/models/v{last - n % (2 * STRATEGIES)}", {"reason": "bench"}),
    }
    return [
        _figure(name, _p99(connection, ACTIVATIONS if name == "activate" else REQUESTS, wish), floor)
        for name, wish in asked.items()
    ]


def _figure(name: str, measured: tuple[float, float], floor: float) -> Figure:
    p99, p50 = measured
    requests = ACTIVATIONS if name == "activate" else REQUESTS
    unit = f"ms, p99 of {requests} requests (p50 {p50:.1f}); at most {LIMIT_MS:g} ms; floor: /livez"
    return Figure(f"registry_{name}_p99", round(p99 / floor, 2), round(p99, 2), round(floor, 2), unit, requests)


def _p99(
    connection: http.client.HTTPConnection, requests: int, wish: Callable[[int], tuple[str, str, Any]]
) -> tuple[float, float]:
    """p99 and p50 in milliseconds."""
    for number in range(WARM):
        _ask(connection, *wish(number))
    parts = quantiles((_ask(connection, *wish(number)) for number in range(WARM, WARM + requests)), n=100)
    return parts[98], parts[49]


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> float:
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    began = time.perf_counter()
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    took = 1000.0 * (time.perf_counter() - began)
    if answer.status != 200:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {content[:500]!r}")
    return took


def _operations(modes: Modes, registry: PostgresRegistry) -> ServiceOperations:
    unused: Any = None
    return ServiceOperations(modes, registry, unused, unused, unused, unused, SystemClock(), unused)


def _last_version() -> int:
    return STRATEGIES * VERSIONS
