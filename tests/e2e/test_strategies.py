"""Strategies of a file, added, changed and removed while the service runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_service.config.clock import SystemClock
from model_service.database.connection import Database
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.transport import OutgoingMessage
from tests.e2e.platform import EXECUTIONS, FastMarket
from tests.e2e.process import KEY, RunningService, command, environment, running
from tests.e2e.test_service import database_settings
from tests.integration.test_account_balances import TABLE

FAST: dict[str, object] = {
    "TRADING_DECISION_INTERVAL_SECONDS": 0.2,
    "MARKET_DATA_BAR_SECONDS": 1,
    "MARKET_DATA_DECLARE_QUEUES": "true",
    "WARMUP_SIGNAL_FREQUENCY": 600,
    "SIGNAL_GENERATION_RATE_LIMIT": 3000,
    "SIGNAL_GENERATION_SKIP_IF_OPEN_ORDER": "false",
    "TRADING_MAX_POSITION_AMOUNT": 1_000_000,
    "TRADING_ORDER_LOOKUP_ENABLED": "false",
}
FIRST = '[strategies.first]\nassets = ["BTCUSDT"]\nhorizon_seconds = 4\n'
SECOND = '[strategies.second]\nassets = ["ETHUSDT"]\n'


@asynccontextmanager
async def moving_market(database: Database) -> AsyncIterator[PostgresTransport]:
    """A gateway that speaks of two assets, and its transport."""
    transport = PostgresTransport(database, clock=SystemClock())
    await transport.start()
    market = FastMarket(("BTCUSDT", "ETHUSDT"), seed=3)

    async def play() -> None:
        while True:
            await transport.publish(market.step(datetime.now(UTC)))
            await asyncio.sleep(0.2)

    playing = asyncio.create_task(play())
    try:
        yield transport
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await transport.close()


async def strategies(service: RunningService) -> dict[str, Any]:
    _, body = await service.get("/api/v1/strategies")
    return {one["strategy_id"]: one for one in body["strategies"]}


def states(body: Any) -> dict[str, str]:
    return {one["strategy_id"]: one["state"] for one in body["strategies"]}


def signals(body: Any, name: str) -> int:
    return next((one["counts"]["signals"] for one in body["strategies"] if one["strategy_id"] == name), 0)


async def test_strategies_come_change_and_go_while_the_service_runs(empty_database: Database, tmp_path: Path) -> None:
    servers = database_settings(empty_database)
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    file = tmp_path / "strategies.toml"
    file.write_text(FIRST)
    settings = {**servers, **FAST, "TRADING_STRATEGIES_FILE": file}
    async with running(tmp_path, **settings) as service, moving_market(empty_database) as transport:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        await service.until("/api/v1/strategies", lambda _, body: signals(body, "first") > 0, 20)

        await an_invalid_file_changes_nothing(service, file, settings)
        await a_change_of_the_file_is_seen(service, file)
        await a_removed_strategy_still_closes_its_positions(service, file, empty_database, transport)
        await it_comes_back_on_a_signal(service, file)

    actions = await empty_database.fetch("SELECT action, subject, actor FROM model_service.audit_log ORDER BY audit_id")
    assert [tuple(row) for row in actions if row["action"].startswith("strategy_")] == [
        ("strategy_added", "first", "start"),
        ("strategy_changed", "first", "file"),
        ("strategy_removed", "first", "http"),
        ("strategy_added", "second", "http"),
        ("strategy_added", "first", "SIGHUP"),
    ]
    log = service.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines if line["level"] == "error"] == ["strategies_refused"]


async def an_invalid_file_changes_nothing(service: RunningService, file: Path, settings: dict[str, object]) -> None:
    file.write_text(FIRST + "horizon = 3\n[strategies.second]\nrandomness = 2\n")
    status, problem = await service.get("/api/v1/strategies/reload", method="POST")
    assert (status, problem["code"]) == (409, "strategies_refused")
    lines = [
        f"{file}: strategies.first.horizon: there is no such key; did you mean horizon_seconds?",
        f"{file}: strategies.second.randomness is 2; allowed: a number from 0 to 1 "
        "(Of the warm-up; 0: heuristics alone, 1: a coin.)",
    ]
    assert problem["details"] == {"faults": lines}
    health = await service.until("/health", lambda _, body: bool(body["notices"]), 5)
    assert health["notices"] == [
        "the strategy file was refused (2 faults, see the log): the strategies of before go on"
    ]
    said = await asyncio.to_thread(
        subprocess.run, command("strategies", "reload"), capture_output=True, text=True,
        env=environment(**settings, MODEL_SERVICE_PORT=service.port, MODEL_SERVICE_API_KEY=KEY),
    )  # fmt: skip
    assert (said.returncode, said.stderr.splitlines()[:2]) == (7, lines)
    before = await strategies(service)
    assert list(before) == ["first"]
    count = before["first"]["counts"]["signals"]
    await service.until("/api/v1/strategies", lambda _, body: signals(body, "first") > count + 3, 20)


async def a_change_of_the_file_is_seen(service: RunningService, file: Path) -> None:
    file.write_text(FIRST + "maximum_amount = 150\n")
    detail = await service.until(
        "/api/v1/strategies/first/definition",
        lambda _, body: {"key": "maximum_amount", "value": "150", "source": "file"} in body["values"],
        10,
    )
    assert (detail["state"], detail["assets"]) == ("enabled", ["BTCUSDT"])
    _, health = await service.get("/health")
    assert health["notices"] == []


async def a_removed_strategy_still_closes_its_positions(
    service: RunningService, file: Path, database: Database, transport: PostgresTransport
) -> None:
    file.write_text(SECOND)
    status, answer = await service.get("/api/v1/strategies/reload", method="POST")
    assert status == 200
    assert [(one["strategy_id"], one["change"]) for one in answer["changes"]] == [
        ("first", "removed"), ("second", "added"),
    ]  # fmt: skip
    removed_at = datetime.now(UTC)
    opening = await database.fetchrow(
        "SELECT signal_id, price FROM model_service.trading_signals "
        "WHERE side = 'buy' AND strategy_id = 'first' LIMIT 1"
    )
    assert opening is not None
    # The order of a signal from before fills after the strategy has gone.
    event = {
        "event_id": "late", "order_id": "late-order", "signal_id": str(opening["signal_id"]), "strategy_id": "first",
        "asset": "BTCUSDT", "side": "buy", "execution_price": float(opening["price"]), "execution_quantity": 0.5,
        "execution_fees": 0.1, "executed_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    await transport.publish([OutgoingMessage("", EXECUTIONS, json.dumps(event).encode(), "late")])
    closed = await service.until(
        "/api/v1/signals?strategy_id=first&limit=1", lambda _, body: body["signals"][0]["intent"] == "exit", 30
    )
    assert closed["signals"][0]["exit"]["cause"] in ("horizon", "stop_loss", "take_profit")
    openings = await database.fetchval(
        "SELECT count(*) FROM model_service.trading_signals "
        "WHERE strategy_id = 'first' AND intent = 'open' AND decided_at > $1",
        removed_at,
    )
    assert openings == 0
    body = await service.until("/api/v1/strategies", lambda _, body: signals(body, "second") > 0, 20)
    assert states(body) == {"first": "removed", "second": "enabled"}
    status, problem = await service.get("/api/v1/training/trigger", method="POST", body={"strategy_id": "first"})
    assert (status, problem["code"]) == (400, "unknown_strategy")


async def it_comes_back_on_a_signal(service: RunningService, file: Path) -> None:
    decisions = "/api/v1/strategies/first/decisions"
    _, before = await service.get(decisions)
    # Within the second that the service lets a changed file settle, so that it is the signal that brings it.
    file.write_text(FIRST + SECOND)
    os.kill(service.process.pid, signal.SIGHUP)
    # Its exit is not filled yet, so it may not open anything; but it ticks.
    await service.until(decisions, lambda _, body: body["ticks"] > before["ticks"] + 5, 20)
    assert {name: one["state"] for name, one in (await strategies(service)).items()} == {
        "first": "enabled",
        "second": "enabled",
    }


async def test_what_the_account_holds_is_traded(empty_database: Database, tmp_path: Path) -> None:
    servers = database_settings(empty_database)
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    await empty_database.execute(TABLE)
    await empty_database.execute(
        "INSERT INTO public.account_balances (coin, wallet_balance, available_balance, frozen)"
        " VALUES ('BTC', 1, 1, 0), ('USDT', 500, 500, 0)"
    )
    settings = {**servers, **FAST, "TRADING_ORDER_LOOKUP_ENABLED": "true", "TRADING_ASSETS": "Account_Balances"}
    async with running(tmp_path, **settings) as service, moving_market(empty_database):
        await service.until("/readyz", lambda status, _: status == 200, 30)
        body = await service.until("/api/v1/strategies", lambda _, body: signals(body, "default") > 0, 20)
        assert body["strategies"][0]["assets"] == ["BTCUSDT"]
        _, detail = await service.get("/api/v1/strategies/default/definition")
        assert {"key": "assets", "value": "account_balances", "source": "environment"} in detail["values"]


async def test_a_strategy_without_assets_says_why(empty_database: Database, tmp_path: Path) -> None:
    servers = database_settings(empty_database)
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    settings = {**servers, **FAST, "TRADING_ASSETS": "account_balances"}
    async with running(tmp_path, **settings) as service:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        _, health = await service.get("/health")
        assert health["notices"] == [
            "1 strategy has no assets: there is no table account_balances without the platform's database and "
            "TRADING_ORDER_LOOKUP_ENABLED"
        ]
        _, why = await service.get("/api/v1/strategies/default/decisions")
        assert (why["ticks"], why["next_checks"]) == (
            0,
            ["It has no assets: account_balances shows none that can be traded; the notices of /health say why."],
        )
