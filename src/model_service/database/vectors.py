"""Stored feature vectors in today's order of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import asyncpg
import numpy as np
from numpy.typing import NDArray

from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET

_SETS = "SELECT feature_set, names FROM model_service.feature_sets"


class Vectors:
    """Reads the few vectors that the service itself asks for; a run's rows come by `feature_rows`."""

    def __init__(self, sets: Mapping[str, tuple[str, ...]]) -> None:
        self._sets = {**sets, FEATURE_SET: FEATURE_NAMES}

    @classmethod
    async def of(cls, database: Database) -> Vectors:
        """With all feature sets that are known. Raises DatabaseUnavailable."""
        return cls({row["feature_set"]: tuple(row["names"]) for row in await database.fetch(_SETS)})

    def readable(self, rows: Sequence[asyncpg.Record]) -> tuple[list[asyncpg.Record], NDArray[np.float32]]:
        """Rows with `feature_set` and `features` that can be read, and their vectors, (n, F)."""
        read = [(row, vector) for row in rows if (vector := self._vector(row)) is not None]
        vectors = np.array([vector for _, vector in read], dtype=np.float32).reshape(len(read), len(FEATURE_NAMES))
        return [row for row, _ in read], vectors

    def _vector(self, row: asyncpg.Record) -> NDArray[np.float32] | None:
        names = self._sets.get(row["feature_set"])
        if names is None or len(row["features"]) != 4 * len(names):
            return None
        values = np.frombuffer(row["features"], dtype="<f4")
        if names == FEATURE_NAMES:
            return values.astype(np.float32)
        known = dict(zip(names, values.tolist(), strict=True))
        return np.array([known.get(name, math.nan) for name in FEATURE_NAMES], dtype=np.float32)
