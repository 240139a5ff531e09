"""Private servers for benchmarks: RabbitMQ on a free port, PostgreSQL that flushes to the disk; gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from model_service.database.connection import Database
from model_service.database.embedded import EmbeddedPostgres
from model_service.database.migrations import apply_migrations
from tests.support.postgres import make_open_folder
from tests.support.rabbitmq import PrivateBroker
from tests.support.rabbitmq_binaries import find_binaries


@dataclass(frozen=True, slots=True)
class Servers:
    """A broker and a migrated database of the benchmark's own."""

    amqp_url: str
    database: Database


@asynccontextmanager
async def private_servers() -> AsyncIterator[Servers]:
    """Both servers, running. Raises NoRabbitmq where there is no RabbitMQ to start."""
    async with _broker() as amqp_url, private_database() as database:
        yield Servers(amqp_url, database)


@asynccontextmanager
async def _broker() -> AsyncIterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="model-service-bench-"))
    broker = PrivateBroker(find_binaries(), folder)
    try:
        await broker.start()
        yield broker.url
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def private_database() -> AsyncIterator[Database]:
    """The database alone."""
    folder = make_open_folder()
    server = EmbeddedPostgres(folder / "postgres", durable=True)
    try:
        database = Database(await server.start())
        await database.open()
        await apply_migrations(database)
        yield database
        await database.close()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
