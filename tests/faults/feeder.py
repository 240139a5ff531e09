"""order-manager as the source of execution events: persistent, confirmed, and sent again until it is confirmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError

from tests.faults.ledger import Event, Poison

TICK_SECONDS = 0.05
RETRY_SECONDS = 0.2
CONNECT_SECONDS = 5.0
CONFIRM_SECONDS = 10.0
Message = Event | Poison
FAILURES = (*CONNECTION_EXCEPTIONS, EOFError, TimeoutError, asyncio.CancelledError)


class Feeder:
    """Sends events to a queue, straight to the broker, at a steady rate, until stopped or until there are no more.

    Attributes:
        confirmed: what the broker has taken, in order: none of these may be missing in the end.
        sent_at: when each was sent first, in seconds since 1970.
    """

    def __init__(self, url: str, queue: str, events: Iterable[Message], *, per_second: float) -> None:
        self._url = url
        self._queue = queue
        self._events: Iterator[Message] = iter(events)
        self._per_tick = max(1, round(per_second * TICK_SECONDS))
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.confirmed: list[Message] = []
        self.sent_at: dict[str, float] = {}

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="feeder")

    async def stop(self) -> None:
        """Send no more, and return when all that was begun is confirmed."""
        self._stopping.set()
        await self.wait()

    async def wait(self) -> None:
        """Until all is sent and confirmed."""
        assert self._task is not None, "the feeder was not started"
        await self._task

    async def abandon(self) -> None:
        """End at once; for the end of a test."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        waiting: list[Message] = []
        while waiting or not self._stopping.is_set():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await aio_pika.connect(self._url)
            except FAILURES as error:
                await self._pause_unless_cancelled(error)
                continue
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                if await self._feed(channel.default_exchange, waiting):
                    return
            except FAILURES as error:
                await self._pause_unless_cancelled(error)
            finally:
                await _close(connection)

    async def _feed(self, exchange: aio_pika.abc.AbstractExchange, waiting: list[Message]) -> bool:
        """Send until there is no more, which is True, or raise one of FAILURES when the connection is lost."""
        while True:
            began = time.monotonic()
            if not self._stopping.is_set():
                waiting += [event for _, event in zip(range(self._per_tick - len(waiting)), self._events, strict=False)]
            if not waiting:
                return True
            answers = await asyncio.gather(*(self._send(exchange, event) for event in waiting), return_exceptions=True)
            self.confirmed += [event for event, answer in zip(waiting, answers, strict=True) if answer is True]
            waiting[:] = [event for event, answer in zip(waiting, answers, strict=True) if answer is not True]
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            await asyncio.sleep(max(TICK_SECONDS - (time.monotonic() - began), RETRY_SECONDS if waiting else 0.0))

    async def _send(self, exchange: aio_pika.abc.AbstractExchange, event: Message) -> bool:
        """Whether the broker has it in the queue. Raises one of FAILURES."""
        self.sent_at.setdefault(event.event_id, time.time())
        message = aio_pika.Message(
            event.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, content_type="application/json"
        )
        try:
            await exchange.publish(message, routing_key=self._queue, timeout=CONFIRM_SECONDS)
        except (DeliveryError, PublishError):
            return False  # no such queue, or the broker could not: it is sent again
        return True

    async def _pause_unless_cancelled(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        # The driver also ends the calls of a lost connection by cancelling them.
        await asyncio.sleep(RETRY_SECONDS)


async def _close(connection: aio_pika.abc.AbstractConnection) -> None:
    try:
        async with asyncio.timeout(1.0):
            await connection.close()
    except FAILURES:
        return
