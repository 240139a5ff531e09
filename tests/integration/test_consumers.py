"""What a consumer owes when the database fails in the middle of a batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from model_service.consumers.market_data import MarketDataConsumer
from model_service.database.bars import BarStore
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.dead_letters import DeadLetters
from model_service.market.snapshot import Bar
from model_service.market.state import AssetMarket
from model_service.messaging.transport import Delivery
from tests.support.builders import NOON


def kline(minute: int) -> bytes:
    start = int(NOON.timestamp() * 1000) + minute * 60_000
    payload = {
        "start": start, "end": start + 59_999, "interval": "1", "open": "1", "high": "1", "low": "1", "close": "1",
        "volume": "1", "turnover": "1", "confirm": True, "timestamp": start + 60_000,
    }  # fmt: skip
    moment = NOON.replace(tzinfo=None).isoformat()
    body = {"event_id": str(minute), "event_type": "kline", "topic": "kline.1.BTCUSDT", "timestamp": moment}
    return json.dumps({**body, "received_at": "2026-03-02T13:00:00", "payload": payload, "trace_id": "t"}).encode()


class Queue:
    """A subscription over a list that remembers what was settled how."""

    queue = "ws-gateway.kline"

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self.waiting = [Delivery(tag, body, {}, None, redelivered=False) for tag, body in enumerate(bodies)]
        self.acknowledged = 0

    async def receive(self, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02) -> list[Delivery]:
        taken, self.waiting = self.waiting, []
        return taken

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += len(deliveries)

    async def close(self) -> None:
        self.waiting = []


class FailingOnce:
    """A bar store whose database is away the first time."""

    def __init__(self, inner: BarStore) -> None:
        self._inner = inner
        self.away = True

    async def save(self, bars: Sequence[tuple[str, Bar]]) -> None:
        if self.away:
            self.away = False
            raise DatabaseUnavailable("away")
        await self._inner.save(bars)


async def test_market_data_come_back_and_no_bar_is_lost_while_the_database_is_away(database: Database) -> None:
    queue = Queue([kline(minute) for minute in range(3)])
    store: Any = FailingOnce(BarStore(database, 60))
    markets = {"BTCUSDT": AssetMarket("BTCUSDT", 60)}
    consumer = MarketDataConsumer(queue, markets, store, DeadLetters(database))
    closed = NOON + timedelta(minutes=3)
    with pytest.raises(DatabaseUnavailable):
        await consumer.step(closed)
    assert queue.acknowledged == 0
    assert await consumer.step(closed) == 3
    assert queue.acknowledged == 3
    assert await database.fetchval("SELECT count(*) FROM model_service.market_bars") == 3
