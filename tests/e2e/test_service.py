"""The whole loop over a real RabbitMQ and PostgreSQL, with gateway and order-manager played from outside."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from tests.e2e.platform import EXECUTIONS, FastMarket, Platform
from tests.e2e.process import RunningService, command, environment, running

ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOTUSDT")
BAD_MESSAGES = [
    b"this is not JSON",
    b'{"event_id": "bad-1", "order": {}}',
    json.dumps({"event_id": "bad-2", "execution_quantity": -1, "execution_price": 1}).encode(),
    b'{"event_id": "bad-3", "execution_quantity": NaN, "execution_price": 1}',
]
ORPHAN = {
    "event_id": "test-event-001",
    "order_id": "test-order-001",
    "signal_id": "test-signal-001",
    "strategy_id": "momentum_v1",
    "asset": "BTCUSDT",
    "side": "buy",
    "execution_price": 50000.0,
    "execution_quantity": 0.1,
    "execution_fees": 5.0,
    "executed_at": "2025-01-27T10:00:05Z",
}


def database_settings(database: Database) -> dict[str, object]:
    address = database.address
    return {
        "POSTGRES_HOST": address.host,
        "POSTGRES_PORT": address.port,
        "POSTGRES_DB": address.database,
        "POSTGRES_USER": address.user,
    }


def rabbitmq_settings(url: str) -> dict[str, object]:
    from yarl import URL

    place = URL(url)
    return {
        "RABBITMQ_HOST": place.host,
        "RABBITMQ_PORT": place.port,
        "RABBITMQ_USER": place.user,
        "RABBITMQ_PASSWORD": place.password,
    }


FAST_LEARNING: dict[str, object] = {
    "TRADING_STRATEGIES": "momentum_v1",
    "TRADING_ASSETS": ",".join(ASSETS),
    "TRADING_DECISION_INTERVAL_SECONDS": 0.2,
    "TRADING_MAX_POSITION_AMOUNT": 1_000_000,
    "MARKET_DATA_BAR_SECONDS": 1,
    "MARKET_DATA_MAX_AGE_SECONDS": 5,
    "MODEL_PREDICTION_HORIZON_SECONDS": 3,
    "WARMUP_SIGNAL_FREQUENCY": 600,
    "SIGNAL_GENERATION_RATE_LIMIT": 3000,
    "SIGNAL_GENERATION_BURST_ALLOWANCE": 100,
    "MODEL_TRAINING_MIN_DATASET_SIZE": 1400,
    "MODEL_RETRAINING_MIN_NEW_OUTCOMES": 400,
    # How good the model is, is shown elsewhere; here the way that it takes is.
    "MODEL_QUALITY_THRESHOLD_ACCURACY": 0.6,
}


@pytest.mark.timeout(420)
async def test_from_warmup_to_a_model_that_speaks(empty_database: Database, rabbitmq_url: str, tmp_path: Path) -> None:
    servers = {**database_settings(empty_database), **rabbitmq_settings(rabbitmq_url)}
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    platform = Platform(rabbitmq_url, FastMarket(ASSETS, seed=11))
    await platform.declare()
    async with running(tmp_path, **servers, **FAST_LEARNING) as service:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        playing = asyncio.create_task(platform.run())
        try:
            await watch_the_loop(service, platform)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await bad_input_costs_nobody_else(service, platform)
        await stops_in_order(service)
    await nothing_was_sent_twice_or_only_marked(empty_database, platform)
    sets = await empty_database.fetch("SELECT feature_set, names FROM model_service.feature_sets")
    assert [tuple(row) for row in sets] == [(FEATURE_SET, list(FEATURE_NAMES))]


async def watch_the_loop(service: RunningService, platform: Platform) -> None:
    first = await platform.wait_for_signal(lambda signal: True, 30)
    assert first["is_warmup"]
    assert first["model_version"] is None
    refused, problem = await service.get("/api/v1/training/trigger", method="POST", body={"strategy_id": "momentum_v1"})
    assert (refused, problem["code"]) == (400, "not_enough_data")
    models = await service.until("/api/v1/models?is_active=true", lambda _, body: bool(body and body["models"]), 330)
    version = models["models"][0]["version"]
    spoken = await platform.wait_for_signal(lambda signal: signal["model_version"] == version, 30)
    assert not spoken["is_warmup"]
    _, strategies = await service.get("/api/v1/strategies")
    assert strategies["strategies"][0]["mode"] == "model"
    _, detail = await service.get(f"/api/v1/models/{version}")
    assert detail["is_active"]
    assert {metric["metric_name"] for metric in detail["quality_metrics"]} >= {"accuracy", "brier", "average_return"}


async def bad_input_costs_nobody_else(service: RunningService, platform: Platform) -> None:
    for body in BAD_MESSAGES:
        await platform.send(EXECUTIONS, body)
    await platform.send(EXECUTIONS, json.dumps(ORPHAN).encode())

    def all_kept(_: int, body: Any) -> bool:
        letters = body["dead_letters"] if body else []
        return len(letters) >= len(BAD_MESSAGES) and all(letter["copied_at"] for letter in letters)

    letters = await service.until("/api/v1/dead-letters", all_kept, 20)
    assert all(letter["reason"] for letter in letters["dead_letters"])
    await service.until("/readyz", lambda status, _: status == 200, 10)


async def nothing_was_sent_twice_or_only_marked(database: Database, platform: Platform) -> None:
    """What the service says that it has sent is what the order-manager has got or will get, each once."""
    received = [signal["signal_id"] for signal in platform.signals] + await platform.waiting_signals()
    assert len(received) == len(set(received))
    rows = await database.fetch("SELECT signal_id FROM model_service.trading_signals WHERE status = 'published'")
    assert {str(row["signal_id"]) for row in rows} - set(received) == set()


async def stops_in_order(service: RunningService) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(service.process.wait, 10) == 0, service.tail()
