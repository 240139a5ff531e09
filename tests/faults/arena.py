"""Where a scenario plays: a database and a virtual host of its own on servers that it may break, behind proxies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from model_service.database.connection import Database, DatabaseAddress
from model_service.database.migrations import apply_migrations
from tests.faults.ledger import ASSETS, STRATEGIES
from tests.faults.postgres_node import PostgresNode
from tests.faults.proxy import FaultProxy
from tests.faults.service import ServiceProcess
from tests.support.rabbitmq import PrivateBroker

EXECUTIONS = "order-manager.execution_events"
METADATA_SECONDS = 3.0
"""RabbitMQ itself may forget what was declared within two to three seconds of a SIGKILL."""
ALL = '<<".*">>'
ACTOR = '<<"tests">>'


@dataclass
class Arena:
    """Addresses past the proxies are for the test; the service only knows those of the proxies."""

    broker: PrivateBroker
    postgres: PostgresNode
    folder: Path
    name: str
    amqp: FaultProxy
    sql: FaultProxy
    services: list[ServiceProcess] = field(default_factory=list)
    _declared_at: float = 0.0

    @property
    def amqp_url(self) -> str:
        """Straight to the broker."""
        return f"{self.broker.url}{self.name}"

    @property
    def address(self) -> DatabaseAddress:
        """Straight to the database."""
        return self.postgres.address(self.name)

    def service(self, program: Sequence[str] | None = None, **settings: object) -> ServiceProcess:
        """A replica, not started yet; it ends with the arena."""
        values = {**self._servers(), **PLAIN, **settings}
        made = ServiceProcess(self.folder / f"replica-{len(self.services)}", values, program)
        self.services.append(made)
        return made

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """An open Database, past the proxy."""
        database = Database(self.address)
        await database.open()
        try:
            yield database
        finally:
            await database.close()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """A channel of somebody else, past the proxy."""
        async with await aio_pika.connect(self.amqp_url, timeout=10) as connection:
            yield await connection.channel()

    async def declare_queue(self, queue: str, arguments: dict[str, Any] | None = None) -> None:
        """A durable queue."""
        async with self.channel() as channel:
            await channel.declare_queue(queue, durable=True, arguments=arguments)
        self._declared_at = time.monotonic()

    async def delete_queue(self, queue: str) -> None:
        """Whatever it holds; nothing when there is none."""
        async with self.channel() as channel:
            await channel.queue_delete(queue)

    async def delete_and_declare(self, queue: str, arguments: dict[str, Any]) -> None:
        """Put a durable queue with arguments in the place of whatever is there."""
        while True:
            try:
                async with self.channel() as channel:
                    await channel.queue_delete(queue)
                    await channel.declare_queue(queue, durable=True, arguments=arguments)
                break
            except ChannelPreconditionFailed:
                continue  # the service was quicker
        self._declared_at = time.monotonic()

    async def depth(self, queue: str) -> int | None:
        """Messages that nobody has taken; None when there is no such queue."""
        state = await self._look(queue)
        return None if state is None else state[0]

    async def until_consumers(self, queue: str, count: int, seconds: float = 30.0) -> None:
        """Until it is there and so many consume it. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while (state := await self._look(queue)) is None or state[1] != count:
                await asyncio.sleep(0.1)

    async def until_metadata_are_written(self) -> None:
        """Before a SIGKILL of the broker."""
        await asyncio.sleep(max(0.0, self._declared_at + METADATA_SECONDS - time.monotonic()))

    async def _look(self, queue: str) -> tuple[int, int] | None:
        """Messages that nobody has taken, and consumers; None when there is no such queue."""
        async with self.channel() as channel:
            try:
                found = (await channel.declare_queue(queue, passive=True)).declaration_result
            except ChannelNotFoundEntity:
                return None
            return found.message_count or 0, found.consumer_count or 0

    def _servers(self) -> dict[str, object]:
        address = self.address
        return {
            "POSTGRES_HOST": address.host,
            "POSTGRES_PORT": self.sql.port,
            "POSTGRES_DB": address.database,
            "POSTGRES_USER": address.user,
            "RABBITMQ_HOST": "127.0.0.1",
            "RABBITMQ_PORT": self.amqp.port,
            "RABBITMQ_VHOST": self.name,
        }


PLAIN: dict[str, object] = {
    "TRADING_STRATEGIES": ",".join(STRATEGIES),
    "TRADING_ASSETS": ",".join(ASSETS),
    "MARKET_DATA_QUEUES": "none",
    "TRADING_ORDER_LOOKUP_ENABLED": "false",
}
"""No market: nothing is decided, so whatever the outbox and the book hold is the test's. No tables of siblings."""


@asynccontextmanager
async def make_arena(broker: PrivateBroker, postgres: PostgresNode, folder: Path) -> AsyncIterator[Arena]:
    """An arena with a migrated schema; at the end the servers run again and nothing of it is left."""
    arena = Arena(broker, postgres, folder, f"faults_{uuid4().hex}", FaultProxy(broker.port), FaultProxy(postgres.port))
    await _make_virtual_host(arena)
    await postgres.execute(f"CREATE DATABASE {arena.name}")
    async with arena.database() as database:
        await apply_migrations(database)
    await arena.amqp.start()
    await arena.sql.start()
    try:
        yield arena
    finally:
        await _clear(arena)


async def _make_virtual_host(arena: Arena) -> None:
    name = f'<<"{arena.name}">>'
    await arena.broker.evaluate(
        f"rabbit_vhost:add({name}, {ACTOR}), "
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, {name}, {ALL}, {ALL}, {ALL}, {ACTOR})'
    )
    arena._declared_at = time.monotonic()


async def _clear(arena: Arena) -> None:
    for service in arena.services:
        service.kill()
    await arena.amqp.close()
    await arena.sql.close()
    await ensure_servers(arena.broker, arena.postgres)
    await arena.postgres.execute(f"DROP DATABASE {arena.name} WITH (FORCE)")
    await arena.broker.evaluate(f'rabbit_vhost:delete(<<"{arena.name}">>, {ACTOR})')


async def ensure_servers(broker: PrivateBroker, postgres: PostgresNode) -> None:
    """Both run, and none is frozen, whatever a scenario has left."""
    if broker.is_running:
        broker.resume()
    else:
        await broker.start()
    postgres.resume()
    if not postgres.is_running:
        postgres.kill()
        await postgres.start()


def through(address: DatabaseAddress, proxy: FaultProxy) -> DatabaseAddress:
    """The same database behind a proxy."""
    return replace(address, port=proxy.port)
