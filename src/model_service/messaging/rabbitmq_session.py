"""The supervisor of one AMQP connection: connects, notices the loss, connects again."""

from __future__ import annotations

import asyncio
import time

import structlog
from yarl import URL

from model_service.messaging.backoff import Backoff
from model_service.messaging.rabbitmq_connection import BROKER_ERRORS, BrokerConnection, describe
from model_service.messaging.transport import TransportUnavailable

log = structlog.get_logger()

SILENCE_SECONDS = 25.0
SILENCE_CHECK_SECONDS = 5.0
STABLE_SECONDS = 10.0
"""A connection that lived for less than this does not count as a recovery, so the back-off goes on."""


class BrokerSession:
    """Keeps one connection to the broker for one purpose; the whole of it is new after each loss.

    Args:
        url: amqp or amqps.
        purpose: `publish` or `consume`, for the log and for the broker's list of connections.
    """

    def __init__(self, url: str, purpose: str) -> None:
        self._url = url
        self._purpose = purpose
        place = URL(url)
        self.place = f"{place.host}:{place.port or (5671 if place.scheme == 'amqps' else 5672)}"
        self._log = log.bind(broker=self.place, purpose=purpose)
        self._connection: BrokerConnection | None = None
        self._connected = asyncio.Event()
        self._reason = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin connecting in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"rabbitmq-{self._purpose}")

    async def close(self) -> None:
        """Stop connecting and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_alive(self) -> bool:
        """Whether there is a live connection, blocked or not."""
        return self._connection is not None and not self._connection.lost.is_set()

    @property
    def is_ready(self) -> bool:
        """Whether there is a live connection that the broker has not blocked."""
        return self._connection is not None and self._connection.is_ready

    @property
    def unavailable(self) -> TransportUnavailable:
        """Why there is no connection, as an error to raise."""
        return TransportUnavailable(f"RabbitMQ at {self.place}: {self._reason}")

    async def connection(self, within_seconds: float | None = None) -> BrokerConnection:
        """The live connection, waited for. Raises TransportUnavailable when there is none within the time."""
        try:
            async with asyncio.timeout(within_seconds):
                while (connection := self._connection) is None:
                    await self._connected.wait()
        except TimeoutError:
            raise self.unavailable from None
        return connection

    async def _run(self) -> None:
        backoff = Backoff()
        said_unreachable = False
        while True:
            try:
                connection = await BrokerConnection.open(self._url, f"model-service {self._purpose}")
                said_unreachable = False
                if await self._serve(connection) > STABLE_SECONDS:
                    backoff.reset()
            except Exception as error:  # noqa: BLE001 - what answers need not be a broker, and this loop outlives it
                self._reason = describe(error)
                if not said_unreachable:
                    fault = None if isinstance(error, BROKER_ERRORS) else error
                    self._log.warning("broker_unreachable", reason=self._reason, exc_info=fault)
                said_unreachable = True
            await asyncio.sleep(backoff.next_seconds())

    async def _serve(self, connection: BrokerConnection) -> float:
        """Offer the connection until it is lost; returns for how many seconds that was."""
        began = time.monotonic()
        self._connection = connection
        self._connected.set()
        self._log.info("broker_connected")
        try:
            await self._until_lost(connection)
            if not connection.is_given_up:
                self._log.warning("broker_lost", reason=self._reason)
        finally:
            self._connected.clear()
            self._connection = None
            await connection.end()
        return time.monotonic() - began

    async def _until_lost(self, connection: BrokerConnection) -> None:
        self._reason = "the connection was lost"
        while not connection.lost.is_set():
            if connection.silent_seconds > SILENCE_SECONDS:
                self._reason = f"the broker was silent for {connection.silent_seconds:.0f} s"
                connection.cut()
            try:
                async with asyncio.timeout(SILENCE_CHECK_SECONDS):
                    await connection.lost.wait()
            except TimeoutError:
                continue
