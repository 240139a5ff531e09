"""A stop does nothing that a kill would miss: after either, the next start has the same to take up, and takes it up."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from model_service.config.clock import SystemClock
from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.database.connection import Database
from model_service.demo.gateway import BOOK_QUEUE, TICKER_QUEUE
from model_service.messaging.postgres import PostgresTransport
from tests.e2e.platform import EXECUTIONS, STEP_SECONDS, FastMarket
from tests.e2e.process import RunningService, running
from tests.e2e.test_service import ASSETS, ORPHAN, database_settings
from tests.integration.test_training_worker import store
from tests.support.training_rows import imbalance_rows
from tests.support.transports import to_queue

EVENTS_PER_STEP = 20
SETTINGS: dict[str, object] = {
    "TRADING_STRATEGIES": "momentum_v1",
    "TRADING_ASSETS": ",".join(ASSETS),
    "TRADING_DECISION_INTERVAL_SECONDS": 0.2,
    "MARKET_DATA_QUEUES": f"{TICKER_QUEUE},{BOOK_QUEUE}",
    "WARMUP_SIGNAL_FREQUENCY": 600,
    "SIGNAL_GENERATION_RATE_LIMIT": 3000,
    "SIGNAL_GENERATION_BURST_ALLOWANCE": 100,
    "SIGNAL_GENERATION_SKIP_IF_OPEN_ORDER": "false",
    "SIGNAL_EXPIRY_SECONDS": 300,
    "MODEL_TRAINING_MIN_DATASET_SIZE": 1400,
}
RECOVERED = {
    "events lost": 0,
    "messages held": 0,
    "signals in doubt": 0,
    "signals twice in the queue": 0,
    "signals published and not in the queue": 0,
    "run": ("failed", "interrupted"),
    "folder of the run": False,
}


class Traffic:
    """Market data and order events, sent until `stopping`, and not broken off in between."""

    def __init__(self, transport: PostgresTransport) -> None:
        self._transport = transport
        self._market = FastMarket(ASSETS, seed=5)
        self.events = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            await self._transport.publish(self._market.step(datetime.now(UTC)))
            numbers = range(self.events, self.events + EVENTS_PER_STEP)
            await self._transport.publish(to_queue(EXECUTIONS, *(event(number) for number in numbers)))
            self.events += EVENTS_PER_STEP
            await asyncio.sleep(STEP_SECONDS)


def event(number: int) -> bytes:
    return json.dumps({**ORPHAN, "event_id": f"event-{number}", "order_id": f"order-{number}"}).encode()


@asynccontextmanager
async def traffic(database: Database) -> Any:
    transport = PostgresTransport(database, clock=SystemClock())
    await transport.start()
    for queue in (TICKER_QUEUE, BOOK_QUEUE, EXECUTIONS):
        await transport.declare_queue(queue)
    sending = Traffic(transport)
    task = asyncio.create_task(sending.run())
    try:
        yield sending
    finally:
        sending.stopping = True
        await task
        await transport.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_the_next_start_takes_up_the_same(database: Database, tmp_path: Path, how: signal.Signals) -> None:
    await store(database, imbalance_rows(20_000, seed=3), strategy_id="momentum_v1")
    settings = {**database_settings(database), **SETTINGS}
    async with traffic(database) as sending:
        async with running(tmp_path, **settings) as service, no_new_versions(database):
            run_id = await run_under_way(service)
            await asyncio.sleep(random.uniform(0.0, 2.0))
            service.process.send_signal(how)
            code = await asyncio.to_thread(service.process.wait, 30)
            assert code == (0 if how is signal.SIGTERM else -how), service.tail()
        assert await until_nobody_works_for(service.process.pid), "the child ends with its parent"
        await asyncio.sleep(0.5)
    async with running(tmp_path, **settings) as service:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        await until_taken(database)
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 30) == 0, service.tail()
    assert await database.fetchval("SELECT count(*) FROM model_service.trading_signals") > 0
    assert await what_is_there(database, sending.events, run_id, tmp_path) == RECOVERED


@asynccontextmanager
async def no_new_versions(database: Database) -> Any:
    """Reads of the registry go on and no version can be added, so that no machine is too fast for "during a run"."""
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE model_service.model_versions IN EXCLUSIVE MODE")
        yield


async def run_under_way(service: RunningService) -> str:
    """The run that a child works on."""

    def fitting(status: int, body: Any) -> bool:
        return status == 200 and any(run["state"] in ("preparing", "fitting") for run in body["runs"])

    runs = await service.until("/api/v1/training/runs", fitting, 60)
    return str(runs["runs"][0]["run_id"])


async def until_nobody_works_for(parent: int) -> bool:
    """Whether the training children of a process are gone within five seconds."""
    words = f"--parent\0{parent}\0".encode()
    for _ in range(100):
        if not any(words in content for content in map(command_line, Path("/proc").glob("[0-9]*/cmdline"))):
            return True
        await asyncio.sleep(0.05)
    return False


def command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def until_taken(database: Database) -> None:
    """Wait until every event has been taken from its queue and no signal waits to be sent."""
    left = (
        "SELECT (SELECT count(*) FROM model_service.messages WHERE queue = $1)"
        " + (SELECT count(*) FROM model_service.trading_signals WHERE status IN ('pending', 'sending'))"
    )
    async with asyncio.timeout(60):
        while await database.fetchval(left, EXECUTIONS):
            await asyncio.sleep(0.1)


async def what_is_there(database: Database, events: int, run_id: str, folder: Path) -> dict[str, object]:
    run = await database.fetchrow(
        "SELECT state, error_code FROM model_service.training_runs WHERE run_id = $1::text::uuid", run_id
    )
    assert run is not None
    recorded = await database.fetchval("SELECT count(*) FROM model_service.execution_events")
    queued = "SELECT message_id FROM model_service.messages WHERE queue = $1"
    statuses = "SELECT count(*) FROM model_service.trading_signals WHERE status = "
    return {
        "events lost": events - recorded,
        "messages held": await database.fetchval(
            "SELECT count(*) FROM model_service.messages WHERE consumer_id IS NOT NULL"
        ),
        "signals in doubt": await database.fetchval(statuses + "'sending'"),
        "signals twice in the queue": await database.fetchval(
            f"SELECT count(*) - count(DISTINCT message_id) FROM ({queued}) AS queued", SIGNAL_QUEUE
        ),
        "signals published and not in the queue": await database.fetchval(
            f"{statuses}'published' AND signal_id::text NOT IN ({queued})", SIGNAL_QUEUE
        ),
        "run": (run["state"], run["error_code"]),
        "folder of the run": any(folder.rglob(f".run-{run_id}")),
    }
