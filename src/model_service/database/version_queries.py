"""What is shown of versions: lists, details, metrics, and the history of activations. Nothing here changes a row."""

# ruff: noqa: S608 - statements are put together from the constants of this file; values travel as parameters

from __future__ import annotations

from uuid import UUID

from model_service.database.connection import Database
from model_service.database.queries import LARGEST_BIGINT, Page, Row

VERSION_COLUMNS = """
    v.id, v.version, v.strategy_id, v.model_type, v.parent_version, v.trained_at, v.training_duration_seconds,
    v.training_dataset_size, v.is_active, v.is_warmup_mode, v.gate_passed, v.feature_set, v.gate, v.files_removed_at,
    quality.accuracy, quality.accuracy_metadata, quality.sharpe_ratio"""

QUALITY = """
    LEFT JOIN LATERAL (
        SELECT max(latest.metric_value) FILTER (WHERE latest.metric_name = 'accuracy') AS accuracy,
               (array_agg(latest.metadata) FILTER (WHERE latest.metric_name = 'accuracy'))[1] AS accuracy_metadata,
               max(latest.metric_value) FILTER (WHERE latest.metric_name = 'sharpe_ratio') AS sharpe_ratio
        FROM (
            SELECT DISTINCT ON (m.metric_name) m.metric_name, m.metric_value, m.metadata
            FROM model_service.model_quality_metrics m
            WHERE m.model_version_id = v.id AND m.metric_name IN ('accuracy', 'sharpe_ratio')
            ORDER BY m.metric_name, m.slice = 'test' DESC, m.evaluated_at DESC
        ) latest
    ) quality ON true"""
NEWEST_FIRST = "ORDER BY v.trained_at DESC, v.id"
ACTIVATION_COLUMNS = """
    activation_id, strategy_id, version, previous_version, actor, reason, forced, activated_at, evidence"""


async def model_versions(
    database: Database,
    *,
    strategy_id: str | None,
    is_active: bool | None,
    model_type: str | None = None,
    limit: int,
    offset: int,
) -> Page:
    """Versions, newest first; `accuracy` and `sharpe_ratio` are of the test, of live trading where there was none.

    `accuracy_metadata` holds the interval of the accuracy, `gate` the conditions.
    """
    where, arguments = versions_where(strategy_id, is_active, model_type)
    return await _page(
        database,
        versions_page(where, len(arguments)),
        f"SELECT count(*) FROM model_service.model_versions v {where}",
        arguments,
        limit,
        offset,
    )


def versions_where(
    strategy_id: str | None, is_active: bool | None, model_type: str | None
) -> tuple[str, tuple[object, ...]]:
    """The condition and its values: only what is asked for stands in it, so that a plan can use its index."""
    given = {"v.strategy_id": strategy_id, "v.model_type": model_type}
    known = {name: value for name, value in given.items() if value is not None}
    terms = [f"{name} = ${number}" for number, name in enumerate(known, 1)]
    if is_active is not None:
        terms.append("v.is_active" if is_active else "NOT v.is_active")
    return f"WHERE {' AND '.join(terms)}" if terms else "", tuple(known.values())


def versions_page(where: str, arguments: int) -> str:
    """The page first, then its metrics: not those of all versions."""
    page = f"LIMIT ${arguments + 1} OFFSET ${arguments + 2}"
    return f"""
        SELECT {VERSION_COLUMNS}
        FROM (SELECT * FROM model_service.model_versions v {where} {NEWEST_FIRST} {page}) v {QUALITY} {NEWEST_FIRST}"""


async def model_version(database: Database, version: str) -> Row | None:
    """The columns of the list and `file_path`, `training_config`, `report`, and `features`, the names of its set.

    None for an unknown version.
    """
    record = await database.fetchrow(
        f"""
        SELECT {VERSION_COLUMNS}, v.file_path, v.training_config, v.report, f.names AS features
        FROM model_service.model_versions v {QUALITY}
        LEFT JOIN model_service.feature_sets f ON f.feature_set = v.feature_set
        WHERE v.version = $1""",
        version,
    )
    return None if record is None else dict(record)


async def version_identifier(database: Database, version: str) -> UUID | None:
    """The identifier of a version's row; None when there is no such version."""
    identifier: UUID | None = await database.fetchval(
        "SELECT id FROM model_service.model_versions WHERE version = $1", version
    )
    return identifier


async def quality_metrics(database: Database, model_version_id: UUID, metric_type: str | None = None) -> list[Row]:
    """The latest value of each metric, of the test and of live trading (column `slice`)."""
    records = await database.fetch(
        """
        SELECT DISTINCT ON (slice, metric_type, metric_name)
               id, metric_name, metric_value, metric_type, slice, evaluated_at, evaluation_dataset_size, metadata
        FROM model_service.model_quality_metrics
        WHERE model_version_id = $1 AND ($2::text IS NULL OR metric_type = $2)
        ORDER BY slice DESC, metric_type, metric_name, evaluated_at DESC, id
        """,
        model_version_id,
        metric_type,
    )
    return [dict(record) for record in records]


async def activations(
    database: Database, *, strategy_id: str | None = None, version: str | None = None, limit: int, offset: int = 0
) -> Page:
    """Which version took the word when, from which one, by whom and why; newest first."""
    where, arguments = activations_where(strategy_id, version)
    return await _page(
        database,
        activations_page(where, len(arguments)),
        f"SELECT count(*) FROM model_service.activations {where}",
        arguments,
        limit,
        offset,
    )


def activations_where(strategy_id: str | None, version: str | None) -> tuple[str, tuple[object, ...]]:
    """The condition and its values, as `versions_where`."""
    given = {"coalesce(strategy_id, '')": strategy_id, "version": version}
    known = {name: value for name, value in given.items() if value is not None}
    terms = [f"{name} = ${number}" for number, name in enumerate(known, 1)]
    return f"WHERE {' AND '.join(terms)}" if terms else "", tuple(known.values())


def activations_page(where: str, arguments: int) -> str:
    """A page of the history."""
    page = f"LIMIT ${arguments + 1} OFFSET ${arguments + 2}"
    return f"SELECT {ACTIVATION_COLUMNS} FROM model_service.activations {where} ORDER BY activation_id DESC {page}"


async def _page(
    database: Database, select: str, count: str, arguments: tuple[object, ...], limit: int, offset: int
) -> Page:
    async with database.acquire() as connection:
        total = await connection.fetchval(database.sql(count), *arguments)
        rows = await connection.fetch(database.sql(select), *arguments, limit, min(offset, LARGEST_BIGINT))
    return Page([dict(row) for row in rows], int(total))
