"""Versions: list, detail, metrics, activation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.activations import expectation, named
from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, IfMatch, Limit, Offset, StrategyFilter, Version
from model_service.api.schemas import (
    ActivationRequest,
    FileVerification,
    MetricType,
    ModelList,
    ModelMetrics,
    ModelType,
    ModelVerification,
    ModelVersionDetail,
    ModelVersionSummary,
    QualityMetric,
    QualityMetricsSummary,
)
from model_service.database import queries, version_queries
from model_service.database.connection import Database
from model_service.models.verdict import judged, rejection, shortfalls
from model_service.services.errors import NotFound
from model_service.services.ports import FileCheck
from model_service.services.version_files import fault_of

router = APIRouter(prefix="/api/v1/models", tags=["models"])


@router.get("", summary="Versions, newest first", responses=errors(422))
async def list_models(
    context: GivenContext,
    strategy_id: StrategyFilter = None,
    is_active: Annotated[
        bool | SkipJsonSchema[None], Query(description="Only active or only inactive versions.")
    ] = None,
    model_type: Annotated[ModelType | SkipJsonSchema[None], Query(description="Only of this type.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ModelList:
    """Filtered by strategy, by being active, and by type."""
    page = await version_queries.model_versions(
        context.database,
        strategy_id=strategy_id,
        is_active=is_active,
        model_type=model_type,
        limit=limit,
        offset=offset,
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
    context: GivenContext,
    version: Version,
    request: Annotated[ActivationRequest | None, Body()] = None,
    if_match: IfMatch = None,
) -> ModelVersionDetail:
    """Make it the one that decides. A version that the gate refused needs `force`."""
    wish = request or ActivationRequest()
    await context.operations.activate(
        version,
        strategy_id=wish.strategy_id,
        force=wish.force,
        actor=named(wish.actor),
        reason=wish.reason or "activated over HTTP",
        expected=expectation(wish.expected_version, if_match),
    )
    return await _detail(context.database, version)


@router.get("/{version}/metrics", summary="Metrics of a version", responses=errors(404, 422))
async def get_model_metrics(
    context: GivenContext,
    version: Version,
    metric_type: Annotated[MetricType | SkipJsonSchema[None], Query(description="Only of this type.")] = None,
) -> ModelMetrics:
    """The latest value of each, of the test and of live trading."""
    identifier = await version_queries.version_identifier(context.database, version)
    if identifier is None:
        raise _no_such(version)
    rows = await version_queries.quality_metrics(context.database, identifier, metric_type)
    metrics = [QualityMetric.model_validate(row) for row in rows]
    return ModelMetrics(model_version_id=identifier, version=version, metrics=metrics)


@router.get("/{version}/verification", summary="Read and check every file of a version", responses=errors(404))
async def verify_model(context: GivenContext, version: Version) -> ModelVerification:
    """Bytes and sha256 as they are now, against what was judged."""
    found = await context.verifications.verify(version)
    return ModelVerification(
        version=version,
        state=found.state,
        files_removed_at=found.files_removed_at,
        files=[_file(check) for check in found.files],
    )


def _file(check: FileCheck) -> FileVerification:
    return FileVerification(
        name=check.name,
        state=check.state,
        recorded_sha256=check.recorded_sha256,
        recorded_bytes=check.recorded_bytes,
        found_sha256=check.found_sha256,
        found_bytes=check.found_bytes,
        fault=None if check.state == "intact" else fault_of(check),
    )


async def _detail(database: Database, version: str) -> ModelVersionDetail:
    row = await version_queries.model_version(database, version)
    if row is None:
        raise _no_such(version)
    metrics = await version_queries.quality_metrics(database, row["id"])
    history = await version_queries.activations(database, version=version, limit=DEFAULT_LIMIT)
    return ModelVersionDetail.model_validate(
        {
            **_summary(row),
            "quality_metrics": metrics,
            "shortfalls": shortfalls(judged(row["gate"])),
            "activations": history.rows,
        }
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
