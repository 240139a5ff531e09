"""Versions, activations, modes and the audit log as rows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg

from model_service.database.connection import Connection, Database
from model_service.models.job import Candidate, Metric
from model_service.services.ports import (
    GATE_PASSED,
    NOBODY,
    QUALITY_DEGRADED,
    ActiveVersionChanged,
    ModelVersion,
    NothingToActivate,
)

VERSION_COLUMNS = """
    id, version, strategy_id, feature_set, files, file_sizes, files_removed_at, gate_passed, is_active, trained_at,
    (training_config ->> 'trained_until_us')::bigint AS trained_until_us,
    (SELECT metric_value FROM model_service.model_quality_metrics AS m
     WHERE m.model_version_id = v.id AND m.slice = 'test' AND m.metric_name = 'accuracy_at_threshold' LIMIT 1)
        AS accuracy_at_threshold
"""
GET = f"SELECT {VERSION_COLUMNS} FROM model_service.model_versions AS v WHERE version = $1"  # noqa: S608 - constants
ACTIVE = f"""
    SELECT {VERSION_COLUMNS} FROM model_service.model_versions AS v
    WHERE is_active AND coalesce(strategy_id, '') IN ($1, '') ORDER BY strategy_id NULLS LAST LIMIT 1
"""  # noqa: S608 - constants of this file
ACTIVATED = """
    SELECT version FROM model_service.activations
    WHERE coalesce(strategy_id, '') = $1 AND version IS NOT NULL ORDER BY activation_id
"""
NEXT_NUMBER = "SELECT nextval('model_service.model_version_numbers')"
NEXT_INCREMENT = """
    INSERT INTO model_service.model_version_increments AS known (base, last) VALUES ($1, 1)
    ON CONFLICT (base) DO UPDATE SET last = known.last + 1 RETURNING last
"""
INSERT_VERSION = """
    INSERT INTO model_service.model_versions (
        id, version, strategy_id, model_type, parent_version, file_path, files, feature_set, trained_at,
        training_duration_seconds, training_dataset_size, training_config, report, gate, gate_passed, file_sizes,
        created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $9)
"""
INSERT_METRIC = """
    INSERT INTO model_service.model_quality_metrics (
        id, model_version_id, metric_name, metric_value, metric_type, slice, evaluated_at, evaluation_dataset_size,
        metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
LOCK_ACTIVATION = "SELECT pg_advisory_xact_lock(hashtextextended('model-service:activation:' || $1, 0))"
LOCK_FILES = "SELECT pg_advisory_xact_lock{shared}(hashtextextended('model-service:model-files', 0))"
ACTIVE_NAME = """
    SELECT version FROM model_service.model_versions WHERE is_active AND coalesce(strategy_id, '') = $1
"""
DEACTIVATE = """
    UPDATE model_service.model_versions SET is_active = false WHERE is_active AND coalesce(strategy_id, '') = $1
"""
ACTIVATE = """
    UPDATE model_service.model_versions SET is_active = true
    WHERE version = $1 AND coalesce(strategy_id, '') = $2 AND files_removed_at IS NULL RETURNING version
"""
INSERT_ACTIVATION = """
    INSERT INTO model_service.activations
        (strategy_id, version, previous_version, actor, reason, forced, activated_at, evidence)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
LOST_FOR_QUALITY = """
    SELECT lost.version FROM (
        SELECT previous_version AS version, max(activation_id) AS activation_id FROM model_service.activations
        WHERE coalesce(strategy_id, '') = $1 AND reason = $2 AND previous_version IS NOT NULL
        GROUP BY previous_version) AS lost
    WHERE NOT EXISTS (
        SELECT FROM model_service.activations AS later
        WHERE coalesce(later.strategy_id, '') = $1 AND later.version = lost.version
          AND later.activation_id > lost.activation_id AND later.actor <> 'service')
"""
HAS_SPOKEN = "SELECT EXISTS (SELECT FROM model_service.activations WHERE version = $1)"
IN_MODE_SINCE = "SELECT strategy_id, since FROM model_service.strategy_modes"
MODES = "SELECT strategy_id, mode FROM model_service.strategy_modes"
TRANSITION = """
    WITH before AS (SELECT mode FROM model_service.strategy_modes WHERE strategy_id = $1),
    recorded AS (
        INSERT INTO model_service.mode_transitions (strategy_id, from_mode, to_mode, reason, evidence, transitioned_at)
        SELECT $1, (SELECT mode FROM before), $2, $3, $4, $5
        WHERE (SELECT mode FROM before) IS DISTINCT FROM $2)
    INSERT INTO model_service.strategy_modes AS modes (strategy_id, mode, reason, since) VALUES ($1, $2, $3, $5)
    ON CONFLICT (strategy_id) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, since = excluded.since
    WHERE modes.mode <> excluded.mode
"""
CANDIDATES = """
    SELECT count(*) FROM model_service.model_versions AS v WHERE v.strategy_id = $1 AND v.trained_at > coalesce(
        (SELECT max(activated_at) FROM model_service.activations
         WHERE coalesce(strategy_id, '') = $1 AND version IS NOT NULL AND reason = $2),
        '-infinity')
"""
AUDIT = """
    INSERT INTO model_service.audit_log (actor, action, subject, details, occurred_at) VALUES ($1, $2, $3, $4, $5)
"""


class PostgresRegistry:
    """The registry in PostgreSQL. Metrics' identifiers follow from the version's, so that a run is reproducible."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_version(self, *, parent: str | None) -> str:
        """`vN`, or `vN.M` for an increment of `parent`; a number of a failed registration is not used again."""
        if parent is None:
            return f"v{await self._database.fetchval(NEXT_NUMBER)}"
        base = parent.split(".")[0]
        return f"{base}.{await self._database.fetchval(NEXT_INCREMENT, base)}"

    @asynccontextmanager
    async def registering(self) -> AsyncIterator[None]:
        """While inside, no start of a process takes a folder whose row is not written yet for a leftover."""
        async with self._database.transaction() as connection:
            await connection.execute(self._database.sql(LOCK_FILES.format(shared="_shared")))
            yield

    async def add(
        self,
        version_id: UUID,
        version: str,
        strategy_id: str | None,
        file_path: str,
        candidate: Candidate,
        *,
        parent: str | None,
        trained_at: datetime,
        duration_seconds: float,
    ) -> None:
        """The version's row and its test metrics, in one transaction."""
        config = {**candidate.training_config, "trained_until_us": candidate.trained_until_us}
        gate = [condition.model_dump() for condition in candidate.gate]
        async with self._database.transaction() as connection:
            await connection.execute(
                self._database.sql(INSERT_VERSION), version_id, version, strategy_id, candidate.model_type, parent,
                file_path, candidate.files, candidate.feature_set, trained_at, round(duration_seconds),
                candidate.dataset_size, config, candidate.report, gate, candidate.gate_passed,
                candidate.file_sizes or None,
            )  # fmt: skip
            await self._insert_metrics(connection, version_id, candidate, trained_at)

    async def _insert_metrics(
        self, connection: Connection, version_id: UUID, candidate: Candidate, now: datetime
    ) -> None:
        n = candidate.report["rows_test"]
        rows = [
            (
                uuid5(version_id, f"test:{metric.name}"), version_id, metric.name, metric.value, metric.type, "test",
                now, n, _metadata(metric),
            )
            for metric in candidate.metrics
            if math.isfinite(metric.value)
        ]  # fmt: skip
        await connection.executemany(self._database.sql(INSERT_METRIC), rows)

    async def get(self, version: str) -> ModelVersion | None:
        """One version."""
        row = await self._database.fetchrow(GET, version)
        return _version(row) if row is not None else None

    async def active(self, strategy_id: str) -> ModelVersion | None:
        """The version that speaks for the strategy; a general one (strategy NULL) where it has none of its own."""
        row = await self._database.fetchrow(ACTIVE, strategy_id)
        return _version(row) if row is not None else None

    async def previous(self, strategy_id: str, before: str | None) -> ModelVersion | None:
        """The version that `before` took the word from; with None, the one that spoke last."""
        rows = await self._database.fetch(ACTIVATED, strategy_id)
        name = version_under([row["version"] for row in rows], before)
        return await self.get(name) if name is not None else None

    async def lost_for_quality(self, strategy_id: str) -> Collection[str]:
        """Versions that lost the word for their quality, and that no person has given it back to since."""
        rows = await self._database.fetch(LOST_FOR_QUALITY, strategy_id, QUALITY_DEGRADED)
        return {row["version"] for row in rows}

    async def activate(
        self, strategy_id: str | None, version: str | None, *, actor: str, reason: str, forced: bool, now: datetime,
        expected: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Make `version` the active one (None: no version), with its row of history, in one transaction.

        Nothing when it is that already: whoever does not know whether it took effect tries again, and history shows
        one change. Raises ActiveVersionChanged, NothingToActivate.
        """
        sql, slot = self._database.sql, strategy_id or ""
        async with self._database.transaction() as connection:
            await connection.execute(sql(LOCK_ACTIVATION), slot)
            before = await connection.fetchval(sql(ACTIVE_NAME), slot)
            if before == version:
                return
            if expected is not None and (before or NOBODY) != expected:
                raise ActiveVersionChanged(before)
            await connection.execute(sql(DEACTIVATE), slot)
            if version is not None and await connection.fetchval(sql(ACTIVATE), version, slot) is None:
                raise NothingToActivate(version)
            await connection.execute(
                sql(INSERT_ACTIVATION), strategy_id, version, before, actor, reason, forced, now,
                None if evidence is None else dict(evidence),
            )  # fmt: skip

    async def has_spoken(self, version: str) -> bool:
        """Whether the version was ever active."""
        return bool(await self._database.fetchval(HAS_SPOKEN, version))

    async def modes(self) -> Mapping[str, str]:
        """Mode by strategy."""
        return {row["strategy_id"]: row["mode"] for row in await self._database.fetch(MODES)}

    async def in_mode_since(self) -> Mapping[str, datetime]:
        """When each strategy entered its mode, by strategy."""
        return {row["strategy_id"]: row["since"] for row in await self._database.fetch(IN_MODE_SINCE)}

    async def set_mode(
        self, strategy_id: str, mode: str, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> None:
        """A transition with its evidence; nothing when the mode is the same."""
        await self._database.execute(TRANSITION, strategy_id, mode, reason, dict(evidence), now)

    async def candidates_since_promotion(self, strategy_id: str) -> int:
        """How many candidates were judged since one last passed the gate: going back, or force, ends no search."""
        return int(await self._database.fetchval(CANDIDATES, strategy_id, GATE_PASSED))

    async def audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any], now: datetime) -> None:
        """One row of who did what."""
        await self._database.execute(AUDIT, actor, action, subject, dict(details), now)


def version_under(activated: Sequence[str], version: str | None) -> str | None:
    """The version to go back to from `version`, given all activations in order; None when there is none.

    Going back to a version takes away what stood above it, so that a second step back goes further back.

    Example:
        >>> version_under(["v1", "v2", "v3", "v2"], "v2"), version_under(["v1", "v2"], None)
        ('v1', 'v2')
    """
    stack: list[str] = []
    for name in activated:
        if name in stack:
            del stack[stack.index(name) :]
        stack.append(name)
    if version is None:
        return stack[-1] if stack else None
    below = stack[: stack.index(version)] if version in stack else stack
    return below[-1] if below else None


def _metadata(metric: Metric) -> dict[str, Any]:
    bounds = {"lower": metric.lower, "upper": metric.upper, "level": metric.level, "method": metric.method}
    known = {name: value for name, value in bounds.items() if value is not None and value == value}
    return {"dataset_split": "test", **known}


def _version(row: asyncpg.Record) -> ModelVersion:
    return ModelVersion(**{name: row[name] for name in ModelVersion.__dataclass_fields__})
