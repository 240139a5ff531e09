"""Bars: the price path of labels, and the warm start of indicators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from model_service.database.connection import Database
from model_service.market.snapshot import Bar

INSERT = """
    INSERT INTO model_service.market_bars (asset, interval_seconds, start_at, open, high, low, close, volume)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""
RANGE = """
    SELECT start_at, open, high, low, close, volume FROM model_service.market_bars
    WHERE asset = $1 AND interval_seconds = $2 AND start_at >= $3 AND start_at < $4 ORDER BY start_at
"""
NEWEST = """
    SELECT start_at, open, high, low, close, volume FROM model_service.market_bars
    WHERE asset = $1 AND interval_seconds = $2 AND start_at <= $3 ORDER BY start_at DESC LIMIT $4
"""


class BarStore:
    """Bars of one length."""

    def __init__(self, database: Database, interval_seconds: int) -> None:
        self._database = database
        self._interval = interval_seconds

    async def save(self, bars: Sequence[tuple[str, Bar]]) -> None:
        """Keep closed bars; one that is there already stays as it is."""
        rows = [
            (asset, self._interval, bar.start, bar.open, bar.high, bar.low, bar.close, bar.volume)
            for asset, bar in bars
        ]
        if rows:
            await self._database.executemany(INSERT, rows)

    async def between(self, asset: str, start: datetime, end: datetime) -> list[Bar]:
        """Bars that overlap [start, end), in order."""
        earliest = start - timedelta(seconds=self._interval)
        rows = await self._database.fetch(RANGE, asset, self._interval, earliest, end)
        return [self._bar(*row) for row in rows]

    async def newest(self, asset: str, until: datetime, count: int) -> list[Bar]:
        """The last `count` bars before `until`, in order."""
        rows = await self._database.fetch(NEWEST, asset, self._interval, until, count)
        return [self._bar(*row) for row in reversed(rows)]

    def _bar(self, start: datetime, open_: float, high: float, low: float, close: float, volume: float) -> Bar:
        return Bar(start, start + timedelta(seconds=self._interval), open_, high, low, close, volume)
