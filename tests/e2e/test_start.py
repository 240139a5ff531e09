"""Starting: waiting for servers that are away, and refusing with one sentence and an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from model_service.database.connection import Database
from model_service.database.embedded import EmbeddedPostgres
from model_service.database.migrations import apply_migrations
from tests.e2e.process import command, environment, free_port, running
from tests.e2e.test_service import database_settings


def start(**values: object) -> tuple[int, str]:
    """Exit code and standard error of a `model-service run` that is expected to refuse."""
    done = subprocess.run(command("run"), env=environment(**values), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


async def test_waits_for_database_and_broker_and_says_so(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "server", durable=False)
    address = await server.start()
    database = Database(address)
    await database.open()
    await apply_migrations(database)
    await database.close()
    await server.stop()
    settings = {**database_settings(database), "RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": free_port()}
    async with running(open_folder, **settings) as service:
        waiting = await service.until("/readyz", lambda status, _: status == 503, 30)
        assert "database" in str(waiting)
        await server.start()
        try:
            # The database is there now; the broker is not, and the service says that instead.
            await service.until("/readyz", lambda status, body: status == 503 and "broker" in str(body), 40)
            status, health = await service.get("/health")
            assert (status, health["database_connected"], health["queue_connected"]) == (503, True, False)
        finally:
            await server.stop()


async def test_a_database_without_the_schema_is_refused_with_what_to_do(empty_database: Database) -> None:
    code, said = start(**database_settings(empty_database))
    assert code == 5
    assert "model-service db up" in said


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"MODEL_SERVICE_PORT": "port"}, 4, ["MODEL_SERVICE_PORT", "'port'"]),
        ({"WARMUP_RANDOMNES_LEVEL": "1"}, 4, ["WARMUP_RANDOMNES_LEVEL", "did you mean WARMUP_RANDOMNESS_LEVEL"]),
        ({"MODEL_RETRAINING_SCHEDULE": "at noon"}, 4, ["MODEL_RETRAINING_SCHEDULE", "at noon"]),
        ({"MODEL_SERVICE_HOST": "0.0.0.0"}, 1, ["MODEL_SERVICE_API_KEY"]),
    ],
)
def test_wrong_settings(values: dict[str, object], code: int, words: list[str], open_folder: Path) -> None:
    got, said = start(MODEL_SERVICE_STATE_PATH=open_folder / "state", **values)
    assert got == code
    assert all(word in said for word in words), said


def test_a_model_folder_that_cannot_be_used(open_folder: Path) -> None:
    (open_folder / "file").write_text("not a folder")
    got, said = start(
        MODEL_SERVICE_STATE_PATH=open_folder / "state",
        MODEL_STORAGE_PATH=open_folder / "file" / "models",
        MODEL_SERVICE_PORT=free_port(),
    )
    assert got == 1
    assert "MODEL_STORAGE_PATH" in said
    assert str(open_folder / "file") in said


async def test_a_taken_port(open_folder: Path) -> None:
    async with running(open_folder) as service:
        await service.until("/livez", lambda status, _: status == 200, 30)
        got, said = start(MODEL_SERVICE_STATE_PATH=open_folder / "other", MODEL_SERVICE_PORT=service.port)
        assert got == 1
        assert f"127.0.0.1:{service.port}" in said
        await service.until("/readyz", lambda status, _: status == 200, 30)


async def test_a_lost_embedded_database_ends_the_service_with_a_sentence(open_folder: Path) -> None:
    async with running(open_folder) as service:
        await service.until("/readyz", lambda status, _: status == 200, 30)
        pid_file = open_folder / "state" / "postgres" / "data" / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        assert await asyncio.to_thread(service.process.wait, 30) == 1
        assert "embedded PostgreSQL has ended" in service.tail()
        assert "Traceback" not in service.tail()


async def test_a_stop_while_it_starts_is_answered_in_order(open_folder: Path) -> None:
    async with running(open_folder) as service:
        # The state folder appears when the program has begun; the first start of the database then takes a second.
        while not (open_folder / "state").exists():
            await asyncio.sleep(0.01)
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 30) == 0, service.tail()
    assert not list((open_folder / "state").glob("postgres/initdb-*"))
