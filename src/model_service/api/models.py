"""Versions: list, detail, metrics, activation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.auth import ACTOR
from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, Limit, Offset, StrategyFilter, Version
from model_service.api.schemas import (
    ActivationRequest,
    MetricType,
    ModelList,
    ModelMetrics,
    ModelVersionDetail,
    ModelVersionSummary,
    QualityMetric,
    QualityMetricsSummary,
)
from model_service.database import queries
from model_service.database.connection import Database
from model_service.models.verdict import judged, rejection, shortfalls
from model_service.services.errors import NotFound

router = APIRouter(prefix="/api/v1/models", tags=["models"])


@router.get("", summary="Versions, newest first", responses=errors(422))
async def list_models(
    context: GivenContext,
    strategy_id: StrategyFilter = None,
    is_active: Annotated[
        bool | SkipJsonSchema[None], Query(description="Only active or only inactive versions.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ModelList:
    """Filtered by strategy and by being active."""
    page = await queries.model_versions(
        context.database, strategy_id=strategy_id, is_active=is_active, limit=limit, offset=offset
    )
    models = [ModelVersionSummary.model_validate(_summary(row)) for row in page.rows]
    return ModelList(models=models, total=page.total, limit=limit, offset=offset)


@router.get("/{version}", summary="One version", responses=errors(404))
async def get_model(context: GivenContext, version: Version) -> ModelVersionDetail:
    """With configuration, report, the gate's verdict and metrics."""
    return await _detail(context.database, version)


@router.post("/{version}", summary="Activate a version", responses=errors(400, 404, 409, 413, 422))
@router.post("/{version}/activate", summary="Activate a version (alias)", responses=errors(400, 404, 409, 413, 422))
async def activate_model(
    context: GivenContext, version: Version, request: Annotated[ActivationRequest | None, Body()] = None
) -> ModelVersionDetail:
    """Make it the one that decides. A version that the gate refused needs `force`."""
    wish = request or ActivationRequest()
    await context.operations.activate(
        version,
        strategy_id=wish.strategy_id,
        force=wish.force,
        actor=ACTOR,
        reason=wish.reason or "activated over HTTP",
    )
    return await _detail(context.database, version)


@router.get("/{version}/metrics", summary="Metrics of a version", responses=errors(404, 422))
async def get_model_metrics(
    context: GivenContext,
    version: Version,
    metric_type: Annotated[MetricType | SkipJsonSchema[None], Query(description="Only of this type.")] = None,
) -> ModelMetrics:
    """The latest value of each, of the test and of live trading."""
    identifier = await queries.version_identifier(context.database, version)
    if identifier is None:
        raise _no_such(version)
    rows = await queries.quality_metrics(context.database, identifier, metric_type)
    metrics = [QualityMetric.model_validate(row) for row in rows]
    return ModelMetrics(model_version_id=identifier, version=version, metrics=metrics)


async def _detail(database: Database, version: str) -> ModelVersionDetail:
    row = await queries.model_version(database, version)
    if row is None:
        raise _no_such(version)
    metrics = await queries.quality_metrics(database, row["id"])
    return ModelVersionDetail.model_validate(
        {**_summary(row), "quality_metrics": metrics, "shortfalls": shortfalls(judged(row["gate"]))}
    )


def _summary(row: queries.Row) -> dict[str, object]:
    interval = row["accuracy_metadata"] or {}
    summary = QualityMetricsSummary(
        accuracy=row["accuracy"],
        accuracy_lower=interval.get("lower"),
        accuracy_upper=interval.get("upper"),
        sharpe_ratio=row["sharpe_ratio"],
    )
    return {**row, "quality_metrics_summary": summary, "rejection": rejection(judged(row["gate"]))}


def _no_such(version: str) -> NotFound:
    return NotFound("unknown_version", f"there is no version {version}; GET /api/v1/models lists those that exist")
