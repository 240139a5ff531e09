"""The newest labelled openings of a strategy with the features that decided them."""

from __future__ import annotations

import math

import asyncpg
import numpy as np

from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.services.fallback import RecentTrades

RECENT = """
    SELECT * FROM (
        SELECT DISTINCT ON (s.signal_id) s.signal_id, s.decided_us, s.side, s.label, s.feature_set, s.features
        FROM model_service.samples AS s
        WHERE s.strategy_id = $1 AND s.decided_us >= (
            SELECT coalesce(min(decided_us), 0) FROM (
                SELECT decided_us FROM model_service.samples
                WHERE strategy_id = $1 AND revision = 1 ORDER BY decided_us DESC LIMIT $2) AS newest)
        ORDER BY s.signal_id, s.revision DESC) AS latest
    ORDER BY decided_us, signal_id
"""
SETS = "SELECT feature_set, names FROM model_service.feature_sets"


class PostgresRecentTrades:
    """Recent trades in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_trades(self, strategy_id: str, limit: int) -> RecentTrades:
        """The newest `limit` outcomes of the strategy, in the order of their decisions."""
        rows = await self._database.fetch(RECENT, strategy_id, limit)
        sets = {row["feature_set"]: tuple(row["names"]) for row in await self._database.fetch(SETS)}
        read = [(row, vector) for row in rows if (vector := _vector(row, sets)) is not None]
        return RecentTrades(
            decided_us=np.array([row["decided_us"] for row, _ in read], dtype=np.int64),
            side_signs=np.array([row["side"] for row, _ in read], dtype=np.int8),
            labels=np.array([row["label"] for row, _ in read], dtype=np.int8),
            features=np.array([vector for _, vector in read], dtype=np.float32).reshape(len(read), len(FEATURE_NAMES)),
        )


def _vector(row: asyncpg.Record, sets: dict[str, tuple[str, ...]]) -> np.ndarray | None:
    """The features in today's order; None where nobody knows what they are."""
    names = FEATURE_NAMES if row["feature_set"] == FEATURE_SET else sets.get(row["feature_set"])
    if names is None or len(row["features"]) != 4 * len(names):
        return None
    values = np.frombuffer(row["features"], dtype="<f4")
    if names == FEATURE_NAMES:
        return values
    known = dict(zip(names, values.tolist(), strict=True))
    return np.array([known.get(name, math.nan) for name in FEATURE_NAMES], dtype=np.float32)
