"""Live outcomes of a version, and its live metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from model_service.database.connection import Database
from model_service.database.registry import INSERT_METRIC
from model_service.services.ports import LiveOutcome

LIVE = """
    SELECT available_at, label, net_return, confidence FROM (
        SELECT DISTINCT ON (o.signal_id) o.signal_id, o.available_at, o.entry_at, o.label, o.net_return, s.confidence
        FROM model_service.outcomes AS o JOIN model_service.trading_signals AS s USING (signal_id)
        WHERE o.strategy_id = $1 AND o.model_version = $2
        ORDER BY o.signal_id, o.revision DESC) AS latest
    ORDER BY entry_at DESC, signal_id LIMIT $3
"""


class PostgresQualityStore:
    """Live quality in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def live_outcomes(self, strategy_id: str, version: str, limit: int) -> Sequence[LiveOutcome]:
        """The newest openings of the version that have an outcome, oldest first."""
        rows = await self._database.fetch(LIVE, strategy_id, version, limit)
        return [
            LiveOutcome(row["available_at"], row["label"], row["net_return"], row["confidence"])
            for row in reversed(rows)
        ]

    async def store_metrics(
        self, version_id: UUID, values: Mapping[str, float], n: int, now: datetime, metadata: Mapping[str, Any]
    ) -> None:
        """Metrics of slice `live`."""
        rows = [
            (
                uuid5(version_id, f"live:{now.isoformat()}:{name}"), version_id, name, value,
                "trading_performance" if name == "average_return" else "classification", "live", now, n,
                {"dataset_split": "live", **metadata},
            )
            for name, value in values.items()
        ]  # fmt: skip
        await self._database.executemany(INSERT_METRIC, rows)
