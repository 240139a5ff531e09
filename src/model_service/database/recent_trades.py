"""The newest labelled openings of a strategy with the features that decided them."""

from __future__ import annotations

import numpy as np

from model_service.database.connection import Database
from model_service.database.vectors import Vectors
from model_service.services.fallback import RecentTrades

RECENT = """
    SELECT * FROM (
        SELECT DISTINCT ON (s.signal_id) s.signal_id, s.decided_us, s.side, s.label, s.net_return, s.feature_set,
               s.features
        FROM model_service.samples AS s
        WHERE s.strategy_id = $1 AND s.decided_us >= (
            SELECT coalesce(min(decided_us), 0) FROM (
                SELECT decided_us FROM model_service.samples
                WHERE strategy_id = $1 AND revision = 1 ORDER BY decided_us DESC LIMIT $2) AS newest)
        ORDER BY s.signal_id, s.revision DESC) AS latest
    ORDER BY decided_us, signal_id
"""


class PostgresRecentTrades:
    """Recent trades in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_trades(self, strategy_id: str, limit: int) -> RecentTrades:
        """The newest `limit` outcomes of the strategy, in the order of their decisions."""
        rows = await self._database.fetch(RECENT, strategy_id, limit)
        read, features = (await Vectors.of(self._database)).readable(rows)
        return RecentTrades(
            decided_us=np.array([row["decided_us"] for row in read], dtype=np.int64),
            side_signs=np.array([row["side"] for row in read], dtype=np.int8),
            labels=np.array([row["label"] for row in read], dtype=np.int8),
            features=features,
            net_returns=np.array([row["net_return"] for row in read], dtype=np.float64),
        )
