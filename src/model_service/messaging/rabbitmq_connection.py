"""One AMQP connection that can be cut at once and that tells how long the broker has been silent."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import aio_pika
import aiormq.abc
import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPConnectionError
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
)
from yarl import URL

from model_service.messaging.rabbitmq_deliveries import DeliveryTap, Taker
from model_service.messaging.transport import TransportUnavailable

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
CALL_SECONDS = 10.0
CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 10
READ_LIMIT_BYTES = 1 << 16

BROKER_ERRORS = (*CONNECTION_EXCEPTIONS, EOFError, TimeoutError)
REFUSALS = (ChannelNotFoundEntity, ChannelPreconditionFailed, ChannelLockedResource, ChannelAccessRefused)
"""The broker's word on one queue or exchange; the connection is well."""

T = TypeVar("T")


async def ask(call: Awaitable[T], what: str, seconds: float = CALL_SECONDS) -> T:
    """The broker's answer to `call` within `seconds`.

    Raises one of REFUSALS when the broker refuses it, TransportUnavailable when it cannot answer.
    """
    try:
        return await _finish(call, seconds)
    except REFUSALS:
        raise
    except BROKER_ERRORS as error:
        raise TransportUnavailable(f"RabbitMQ did not do: {what} ({describe(error)})") from error


async def _finish(call: Awaitable[T], seconds: float) -> T:
    """Run a call of the driver in a task of its own.

    The driver ends the calls of a lost connection by cancelling them, and at times turns a cancellation from outside
    into an error. Kept apart, neither is mistaken for the other: ours always passes, the driver's is a ConnectionError.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_take_notice)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if task.cancelled():
        raise ConnectionError("the connection was lost")
    return task.result()


def _take_notice(task: asyncio.Future[T]) -> None:
    """Nobody may be left to hear of the error, which asyncio would then complain about."""
    if not task.cancelled():
        task.exception()


def describe(error: BaseException) -> str:
    """The text of an error, or its type where it has none, without a password."""
    return str(error) or type(error).__name__


class BrokerConnection(aio_pika.Connection):
    """A plain connection of aio-pika over a socket that we hold ourselves."""

    def __init__(self, url: URL, **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self.lost = asyncio.Event()
        self.is_given_up = False
        """Whether it was this side that wanted its end."""
        self._socket = _SocketFactory(self.lost.set)
        self.kwargs["transport_factory"] = self._socket
        self.close_callbacks.add(self._on_lost)

    @classmethod
    async def open(cls, url: str, name: str) -> BrokerConnection:
        """Connect. Raises one of BROKER_ERRORS."""
        address = URL(url).update_query(heartbeat=HEARTBEAT_SECONDS, name=name)
        connection = cls(address)
        attempt = asyncio.ensure_future(connection.connect())
        try:
            await _finish(attempt, CONNECT_SECONDS)
        except InvalidFrameError as error:
            connection.cut()
            raise AMQPConnectionError(
                f"it ended the opening; is there a virtual host {_virtual_host(address)!r}, and may the user use it?"
            ) from error
        except BaseException:
            # The driver may open the connection in spite of a cancellation; nobody would ever close it.
            attempt.add_done_callback(lambda _: connection.cut())
            raise
        return connection

    @property
    def is_ready(self) -> bool:
        """Whether the connection lives and the broker has not blocked it because it lacks memory or disk."""
        return not self.lost.is_set() and self.transport is not None and _is_done_at_once(self.driver.ready())

    @property
    def driver(self) -> aiormq.abc.AbstractConnection:
        """The connection of the layer below. Raises TransportUnavailable when it is closed."""
        if self.transport is None:
            raise TransportUnavailable("RabbitMQ: the connection is closed")
        return self.transport.connection

    @property
    def silent_seconds(self) -> float:
        """How long ago the broker sent its last byte; it sends a heartbeat every five seconds."""
        return self._socket.silent_seconds

    async def channel_for(self, what: str, *, confirms: bool = False) -> aiormq.abc.AbstractChannel:
        """A new channel of the layer below. Raises TransportUnavailable."""
        opening = self.driver.channel(publisher_confirms=confirms, on_return_raises=confirms)
        return await ask(opening, f"open a channel to {what}")

    async def consume(self, channel: aiormq.abc.AbstractChannel, queue: str, taker: Taker) -> None:
        """Consume a queue, and hand what is delivered on `channel` to `taker`, past the driver.

        Raises TransportUnavailable, or one of REFUSALS.
        """
        self._socket.tap.open(channel.number, taker)
        await ask(channel.basic_consume(queue, _past_the_driver), f"consume {queue}")

    def leave_deliveries(self, channel: aiormq.abc.AbstractChannel) -> None:
        """Hand over no more."""
        self._socket.tap.close(channel.number)

    def cut(self) -> None:
        """End it with a reset, so that nothing that still waits in a buffer on this side is sent later."""
        self._socket.reset()
        self.lost.set()

    async def end(self) -> None:
        """Close it in order, or cut it when the broker does not answer."""
        self.is_given_up = not self.lost.is_set()
        try:
            await _finish(self.close(), CLOSE_SECONDS)
        except BROKER_ERRORS:
            pass  # it is cut below
        finally:
            self.cut()

    def _on_lost(self, *_: object) -> None:
        self.lost.set()


class _SocketFactory(TransportFactory):
    """Opens the socket for the driver and keeps hold of it.

    Args:
        on_end: called when nothing more will come over it.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.tap = DeliveryTap()
        self._on_end = on_end
        self._reader: _TimedReader | None = None
        self._transport: asyncio.Transport | None = None

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        provider = options.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        reader = _TimedReader(self.tap, on_end=self._on_end, on_broken=self.reset, limit=READ_LIMIT_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "localhost", url.port or 5672, ssl=context, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self._reader, self._transport = reader, transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    @property
    def silent_seconds(self) -> float:
        return 0.0 if self._reader is None else self._reader.silent_seconds

    def reset(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class _TimedReader(asyncio.StreamReader):
    """A stream that notes when bytes came and when it ended, and that the driver sees without the deliveries.

    Args:
        on_end: called when nothing more will come.
        on_broken: called when what came cannot be read; it has to end the connection.
    """

    def __init__(
        self,
        tap: DeliveryTap,
        *,
        on_end: Callable[[], None],
        on_broken: Callable[[], None],
        limit: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(limit=limit, loop=loop)
        self._tap = tap
        self._on_end = on_end
        self._on_broken = on_broken
        self._has_ended = False
        self._clock = loop.time
        self._last = loop.time()

    @property
    def silent_seconds(self) -> float:
        return self._clock() - self._last

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        if self._has_ended:
            return
        self._last = self._clock()
        try:
            passed = self._tap.feed(data, self._last)
        except Exception as error:
            log.error("broker_stream_unreadable", reason=describe(error), exc_info=error)
            self.feed_eof()
            self._on_broken()
        else:
            super().feed_data(passed)

    def feed_eof(self) -> None:
        # asyncio says it twice: when the other end has said its last word, and when the socket is closed.
        if self._has_ended:
            return
        self._has_ended = True
        super().feed_data(self._tap.drain())
        super().feed_eof()
        self._on_end()

    def set_exception(self, exc: Exception) -> None:
        self._has_ended = True
        super().set_exception(exc)
        self._on_end()


def _virtual_host(address: URL) -> str:
    return address.path.removeprefix("/") or "/"


async def _past_the_driver(message: aiormq.abc.DeliveredMessage) -> None:
    """What the driver would call, if it saw the deliveries."""


def _is_done_at_once(awaitable: Coroutine[Any, Any, object]) -> bool:
    """Whether a coroutine has nothing to wait for; it is not run any further."""
    try:
        awaitable.send(None)
    except StopIteration:
        return True
    finally:
        awaitable.close()
    return False
