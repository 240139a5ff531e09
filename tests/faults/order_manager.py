"""order-manager as the taker of signals: straight from the broker, counting what arrives, how often and when."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aio_pika
import asyncpg
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from model_service.contracts.signals import SIGNAL_QUEUE
from model_service.database.connection import DatabaseAddress
from tests.faults.book import Verdict, read

RETRY_SECONDS = 0.2
TIMING_TOLERANCE = timedelta(seconds=0.25)
"""How long this process may take to look at a message that the broker has handed over in time."""
FAILURES = (*CONNECTION_EXCEPTIONS, EOFError, TimeoutError, asyncio.CancelledError)
ROWS = "SELECT signal_id::text, status FROM model_service.trading_signals"


@dataclass
class OrderManager:
    """Consumes as the sibling does: its queue durable and without arguments, an acknowledgement for each message.

    Attributes:
        arrivals: deliveries by signal_id that the broker does not call a redelivery.
        seen: what was delivered at all; the first delivery may be lost with the connection, and is not counted then.
        late: signals that arrived after their `expires_at`, with by how many seconds.
    """

    url: str
    arrivals: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    late: dict[str, float] = field(default_factory=dict)
    is_consuming: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background, and return when it consumes."""
        self._task = asyncio.create_task(self._run(), name="order-manager")
        async with asyncio.timeout(30.0):
            await self.is_consuming.wait()

    async def stop(self) -> None:
        """End at once; what is not acknowledged goes back to the queue."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.is_consuming.clear()

    async def _run(self) -> None:
        while True:
            try:
                connection = await aio_pika.connect(self.url, timeout=5.0)
                async with connection:
                    await self._consume(await connection.channel())
            except FAILURES as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _consume(self, channel: aio_pika.abc.AbstractChannel) -> None:
        """Until the channel is lost or the queue is deleted."""
        queue = await channel.declare_queue(SIGNAL_QUEUE, durable=True)
        ended = asyncio.Event()
        channel.close_callbacks.add(lambda *_: ended.set())
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lambda _: ended.set())
        await queue.consume(self._on_message)
        self.is_consuming.set()
        await ended.wait()

    async def _on_message(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        signal = json.loads(message.body)
        expires_at = datetime.fromisoformat(signal["expires_at"])
        self.take(signal["signal_id"], expires_at, datetime.now(UTC), is_redelivery=bool(message.redelivered))
        await message.ack()

    def take(self, signal_id: str, expires_at: datetime, now: datetime, *, is_redelivery: bool) -> None:
        """Note a delivery."""
        self.seen.add(signal_id)
        if not is_redelivery:
            self.arrivals[signal_id] += 1
        if now - expires_at > TIMING_TOLERANCE:
            self.late[signal_id] = (now - expires_at).total_seconds()


async def check_signals(address: DatabaseAddress, manager: OrderManager, *, final: frozenset[str]) -> Verdict:
    """What became of all signals, against what arrived.

    Args:
        final: the states that a signal may have in the end; any other is unexpected.
    """
    verdict = Verdict()
    rows = {row["signal_id"]: row["status"] for row in await read(address, ROWS)}
    for signal_id, status in rows.items():
        _judge(verdict, signal_id, status, manager, final)
    verdict.unexpected += [f"signal {one} that is no row" for one in manager.seen - rows.keys()]
    verdict.unexpected += [f"signal {one} {seconds:.2f} s after its expiry" for one, seconds in manager.late.items()]
    return verdict


def _judge(verdict: Verdict, signal_id: str, status: str, manager: OrderManager, final: frozenset[str]) -> None:
    if (arrivals := manager.arrivals[signal_id]) > 1:
        verdict.duplicated.append(f"signal {signal_id}, {arrivals} times")
    if status not in final:
        verdict.unexpected.append(f"signal {signal_id} ended as {status}")
    elif status == "published" and signal_id not in manager.seen:
        verdict.lost.append(f"signal {signal_id}, published and never delivered")
    elif status != "published" and signal_id in manager.seen:
        verdict.unexpected.append(f"signal {signal_id} is {status} and was delivered")


async def count_states(address: DatabaseAddress) -> Counter[str]:
    """Signals by status; empty while the database is away."""
    try:
        return Counter(row["status"] for row in await read(address, ROWS))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return Counter()
