"""Recent decisions of a strategy with their features: signals, and the stored share of the draws of `none`."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from model_service.database.connection import Database
from model_service.database.vectors import Vectors
from model_service.services.drift import RecentDecisions

NEW = """
    SELECT (SELECT count(*) FROM (SELECT FROM model_service.trading_signals
                                  WHERE strategy_id = $1 AND decided_at > $2 LIMIT $3) AS s)
         + (SELECT count(*) FROM (SELECT FROM model_service.decisions
                                  WHERE strategy_id = $1 AND decided_at > $2 LIMIT $3) AS d)
"""
RECENT = """
    SELECT decided_at, feature_set, features, weight FROM (
        (SELECT decided_at, feature_set, features, 1.0::float8 AS weight FROM model_service.trading_signals
         WHERE strategy_id = $1 AND decided_at > $2 AND intent <> 'exit' ORDER BY decided_at DESC LIMIT $3)
        UNION ALL
        (SELECT decided_at, feature_set, features, 1.0 / sample_rate FROM model_service.decisions
         WHERE strategy_id = $1 AND decided_at > $2 ORDER BY decided_at DESC LIMIT $3)) AS recent
    ORDER BY decided_at DESC LIMIT $3
"""


class PostgresRecentDecisions:
    """Recent decisions in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_since(self, strategy_id: str, since: datetime, most: int) -> int:
        """Signals and stored draws after this moment; of each kind at most `most` are counted."""
        return int(await self._database.fetchval(NEW, strategy_id, since, most))

    async def recent_decisions(self, strategy_id: str, since: datetime, limit: int) -> RecentDecisions:
        """The newest `limit` after `since`."""
        rows = await self._database.fetch(RECENT, strategy_id, since, limit)
        read, features = (await Vectors.of(self._database)).readable(rows)
        weights = np.array([row["weight"] for row in read], dtype=np.float64)
        return RecentDecisions(features, weights, read[0]["decided_at"] if read else None)
