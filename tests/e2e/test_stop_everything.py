"""One call stops every opening of a real process: over HTTP and from the terminal, over a restart, until resumed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from model_service.database.connection import Database
from tests.e2e.platform import FastMarket, Platform
from tests.e2e.process import RunningService, command, environment, running
from tests.e2e.test_remote_commands import ask
from tests.e2e.test_service import FAST_LEARNING, database_settings, rabbitmq_settings

ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
SETTINGS = {**FAST_LEARNING, "TRADING_ASSETS": ",".join(ASSETS), "MODEL_TRAINING_MIN_DATASET_SIZE": 100_000}


def opens(signal: Mapping[str, Any]) -> bool:
    return bool(signal["metadata"]["intent"] != "exit")


async def silent_ticks(service: RunningService, reason: str) -> int:
    _, body = await service.get("/api/v1/strategies/momentum_v1/decisions")
    return sum(one["occurrences"] for one in body["reasons"] if one["reason"] == reason)


@asynccontextmanager
async def playing(platform: Platform) -> AsyncIterator[None]:
    task = asyncio.create_task(platform.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(300)
async def test_a_stop_holds_over_a_restart_and_closes_what_is_open(
    empty_database: Database, rabbitmq_url: str, tmp_path: Path
) -> None:
    servers = {**database_settings(empty_database), **rabbitmq_settings(rabbitmq_url)}
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    platform = Platform(rabbitmq_url, FastMarket(ASSETS, seed=11))
    await platform.declare()
    async with playing(platform):
        async with running(tmp_path, **servers, **SETTINGS) as service:
            await platform.wait_for_signal(opens, 40)
            status, stopped = await service.get("/api/v1/stop", method="POST", body={"reason": "a drill"})
            assert (status, stopped["halt"]["reason"]) == (200, "a drill")
            # Exits of what is open still come: the horizon is three seconds.
            await platform.wait_for_signal(lambda signal: not opens(signal), 30)
            while not await silent_ticks(service, "stopped"):
                await asyncio.sleep(0.2)
            _, health = await service.get("/health")
            assert "every strategy opens nothing since" in health["notices"][0]
            assert "a drill" not in health["notices"][0], "health is open to everybody"
            before = await openings(empty_database)
        async with running(tmp_path, **servers, **SETTINGS) as service:
            await service.until("/readyz", lambda status, _: status == 200, 40)
            counted = await silent_ticks(service, "stopped")
            while await silent_ticks(service, "stopped") <= counted + 10:
                await asyncio.sleep(0.2)
            assert await openings(empty_database) == before, "nothing was opened by the new process either"
            code, output, errors = await ask(service.port, "status")
            assert (code, "STOPPED: every strategy opens nothing" in output) == (0, True), errors
            code, output, errors = await ask(service.port, "resume", "--reason", "the drill is over")
            assert (code, output) == (0, "resumed: every strategy\n"), errors
            assert (await ask(service.port, "resume"))[0] == 7, "there is nothing to resume"
            while await openings(empty_database) == before:
                await asyncio.sleep(0.2)
            code, output, errors = await ask(service.port, "stop", "--reason", "at the terminal")
            assert (code, output.startswith("stopped since ")) == (0, True), errors
    sent = {signal["signal_id"] for signal in platform.signals if opens(signal)}
    unsent = await empty_database.fetch(
        "SELECT signal_id FROM model_service.trading_signals WHERE status = 'stopped' AND intent <> 'exit'"
    )
    assert not sent & {str(row["signal_id"]) for row in unsent}, "what is marked as stopped was never delivered"
    actions = await empty_database.fetch(
        "SELECT action FROM model_service.audit_log WHERE actor = 'http' ORDER BY audit_id"
    )
    assert [row["action"] for row in actions] == ["stop", "resume", "stop"]


async def openings(database: Database) -> int:
    """How many were decided and not taken back."""
    return int(
        await database.fetchval(
            "SELECT count(*) FROM model_service.trading_signals WHERE intent <> 'exit' AND status <> 'stopped'"
        )
    )
