"""Live outcomes of a version, what its test said, and its live metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from model_service.database.connection import Database
from model_service.database.registry import INSERT_METRIC
from model_service.models.job import Metric
from model_service.services.ports import Activation, LiveOutcome

ACTIVATION = """
    SELECT activated_at, reason FROM model_service.activations
    WHERE coalesce(strategy_id, '') IN ($1, '') AND version = $2 ORDER BY activation_id DESC LIMIT 1
"""
TEST_METRICS = """
    SELECT DISTINCT ON (metric_name) metric_name, metric_value, (metadata ->> 'upper')::float8 AS upper
    FROM model_service.model_quality_metrics WHERE model_version_id = $1 AND slice = 'test'
    ORDER BY metric_name, evaluated_at DESC, id
"""
LIVE = """
    SELECT o.signal_id, o.revision, o.asset, o.entry_at, o.available_at, o.label, o.net_return, s.confidence
    FROM model_service.outcomes AS o JOIN model_service.trading_signals AS s USING (signal_id)
    WHERE o.strategy_id = $1 AND o.model_version = $2 AND o.entry_at >= $3
      AND o.available_at >= $4 AND (o.available_at, o.entry_at, o.signal_id) > ($4, $5, $6)
    ORDER BY o.available_at, o.entry_at, o.signal_id LIMIT $7
"""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_LOWEST = UUID(int=0)


class PostgresQualityStore:
    """Live quality in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def activation(self, strategy_id: str, version: str) -> Activation:
        """The last one of the version; the beginning of time where none is recorded."""
        row = await self._database.fetchrow(ACTIVATION, strategy_id, version)
        return Activation(_LONG_AGO, "") if row is None else Activation(row["activated_at"], row["reason"])

    async def test_metrics(self, version_id: UUID) -> Mapping[str, tuple[float, float | None]]:
        """Of slice `test`, by name: value and upper bound."""
        rows = await self._database.fetch(TEST_METRICS, version_id)
        return {row["metric_name"]: (row["metric_value"], row["upper"]) for row in rows}

    async def live_outcomes(
        self, strategy_id: str, version: str, since: datetime, after: LiveOutcome | None, limit: int
    ) -> Sequence[LiveOutcome]:
        """Outcomes of the version's openings filled from `since` on, in the order in which they became available."""
        place = (
            (_LONG_AGO, _LONG_AGO, _LOWEST) if after is None else (after.available_at, after.entry_at, after.signal_id)
        )
        rows = await self._database.fetch(LIVE, strategy_id, version, since, *place, limit)
        return [LiveOutcome(*row) for row in rows]

    async def store_metrics(
        self, version_id: UUID, metrics: Sequence[Metric], n: int, now: datetime, window: Mapping[str, Any]
    ) -> None:
        """One set of metrics of slice `live`; nothing when it is there already."""
        rows = [
            (
                uuid5(version_id, f"live:{now.isoformat()}:{metric.name}"), version_id, metric.name, metric.value,
                metric.type, "live", now, n, {"dataset_split": "live", **window, **_interval(metric)},
            )
            for metric in metrics
        ]  # fmt: skip
        await self._database.executemany(f"{INSERT_METRIC} ON CONFLICT (id) DO NOTHING", rows)


def _interval(metric: Metric) -> dict[str, Any]:
    given = {"lower": metric.lower, "upper": metric.upper, "level": metric.level, "method": metric.method}
    return {name: value for name, value in given.items() if value is not None}
