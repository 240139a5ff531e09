"""PostgreSQL falls silent under the running service: it says so, goes on by itself, and stops in time all the same."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from model_service.database.connection import Database
from tests.e2e.process import running
from tests.support.black_hole import black_hole

STOP_SECONDS = 10.0


def names(word: str) -> Any:
    """Whether an answer is a 503 that has the word in it."""
    return lambda status, body: status == 503 and word in str(body)


async def test_it_waits_for_a_silent_database_and_goes_on_by_itself(database: Database, tmp_path: Path) -> None:
    async with black_hole(database.address) as hole:
        address = hole.address
        servers = {
            "POSTGRES_HOST": address.host,
            "POSTGRES_PORT": address.port,
            "POSTGRES_DB": address.database,
            "POSTGRES_USER": address.user,
        }
        async with running(tmp_path, **servers, TRADING_DECISION_INTERVAL_SECONDS=0.2) as service:
            await service.until("/readyz", lambda status, _: status == 200, 30)
            hole.swallow()
            await service.until("/readyz", names("decide"), 10)
            assert (await service.get("/livez"))[0] == 200
            assert (await service.get("/health"))[1]["database_connected"] is False
            hole.pass_on()
            await service.until("/readyz", lambda status, _: status == 200, 15)
            hole.swallow()
            service.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            await service.until("/readyz", names("stopping"), 5)
            assert await asyncio.to_thread(service.process.wait, 30) == 0, service.tail()
            assert time.monotonic() - started < STOP_SECONDS
            said = service.log.read_text()
    assert said.count("database_back") == 1
    assert "service_stopped" in said
    assert "Traceback" not in said
