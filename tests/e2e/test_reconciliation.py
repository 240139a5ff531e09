"""The service as a process beside the platform's tables: fills from `orders`, a lost signal, a missing table."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from tests.e2e.process import command, environment, running
from tests.e2e.test_service import database_settings
from tests.integration.test_stores import BUY_ID, SELL_ID, decided
from tests.support.platform_tables import ORDERS, Platform

FAST: dict[str, object] = {
    "EXECUTION_RECONCILIATION_INTERVAL_SECONDS": 0.2,
    "EXECUTION_RECONCILIATION_GRACE_SECONDS": 0.5,
    "SIGNAL_LOST_AFTER_SECONDS": 1,
}

MISSING = ("account_balances", "account_margin_balances", "positions")
"""Tables of the platform that this database lacks."""


async def published(database: Database, signal_id: UUID, side: Side, at: datetime) -> None:
    one = decided(signal_id, side)
    signal = replace(one.signal, timestamp=at, expires_at=at + timedelta(seconds=30))
    await PostgresDecisionStore(database).record([replace(one, signal=signal)], (), ())
    await database.execute(
        "UPDATE model_service.trading_signals SET status = 'published', published_at = $2 WHERE signal_id = $1",
        signal_id,
        at,
    )


async def test_orders_are_taken_up_and_what_cannot_be_read_is_said(empty_database: Database, tmp_path: Path) -> None:
    servers = database_settings(empty_database)
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    await empty_database.execute(ORDERS)
    now = datetime.now(UTC)
    await published(empty_database, BUY_ID, Side.BUY, now)
    await published(empty_database, SELL_ID, Side.SELL, now)
    created_at = now.replace(tzinfo=None)
    await Platform(empty_database).put("exchange-1", BUY_ID, "partially_filled", "2", created_at=created_at)
    async with running(tmp_path, **servers, **FAST) as service:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        signals = await service.until(
            "/api/v1/signals", lambda _, body: all(one["order_state"] for one in body["signals"]), 20
        )
        states = {UUID(one["signal_id"]): one["order_state"] for one in signals["signals"]}
        assert states == {BUY_ID: "partially_filled", SELL_ID: "lost"}
        status, health = await service.get("/health")
        assert (status, health["status"]) == (200, "healthy")
        assert sorted(notice.rpartition(": ")[2] for notice in health["notices"]) == [
            f"there is no table public.{table}" for table in MISSING
        ]
    assert await empty_database.fetchval("SELECT sum(quantity) FROM model_service.fills") == 2
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    alerts = [line for line in lines if line["level"] == "error"]
    assert sorted(line["event"] for line in alerts) == [*["shared_table_unusable"] * len(MISSING), "signal_lost"]
