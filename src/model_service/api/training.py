"""Training: what is going on, what came of it, and asking for it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response

from model_service.api.auth import ACTOR
from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, Limit, Offset, StrategyFilter
from model_service.api.schemas import (
    CurrentTraining,
    LastTraining,
    TrainingAccepted,
    TrainingRequest,
    TrainingRun,
    TrainingRunDetail,
    TrainingRunList,
    TrainingStatus,
)
from model_service.database import queries
from model_service.models.verdict import judged, shortfalls
from model_service.services.errors import NotFound, Refused

LEAST_PROGRESS_TO_ESTIMATE_FROM = 0.05

router = APIRouter(prefix="/api/v1/training", tags=["training"])


@router.get("/status", summary="Training now, before and next", responses=errors(422))
async def get_training_status(context: GivenContext, strategy_id: StrategyFilter = None) -> TrainingStatus:
    """Of one strategy, or of all: then the run that has been at work longest, and the next of any."""
    running = await queries.running_training(context.database, strategy_id)
    last = await queries.last_training(context.database, strategy_id)
    return TrainingStatus(
        is_training=running is not None,
        strategy_id=strategy_id,
        current_training=None if running is None else _current(running, context.clock.now()),
        last_training=None if last is None else LastTraining.model_validate(dict(last)),
        next_scheduled_training=context.operations.next_scheduled(strategy_id),
    )


@router.post(
    "/trigger",
    status_code=202,
    summary="Ask for a training",
    responses={
        **errors(400, 409, 413, 422),
        202: {"headers": {"Location": {"description": "Path of the run.", "schema": {"type": "string"}}}},
    },
)
async def trigger_training(context: GivenContext, request: TrainingRequest, response: Response) -> TrainingAccepted:
    """Starts at once or as soon as the run before it has made way."""
    try:
        run_id, state = await context.operations.request_training(
            request.strategy_id, request.training_type, actor=ACTOR
        )
    except NotFound as error:
        # The documented answer to an unknown strategy is 400: it stands in the body, the path exists.
        raise Refused(error.code, error.message, error.details) from error
    response.headers["Location"] = f"/api/v1/training/runs/{run_id}"
    message = f"{request.training_type} training of {request.strategy_id} was {state}"
    return TrainingAccepted(status=state, training_id=run_id, message=message)


@router.get("/runs", summary="Runs, newest first", responses=errors(422))
async def list_training_runs(
    context: GivenContext, strategy_id: StrategyFilter = None, limit: Limit = DEFAULT_LIMIT, offset: Offset = 0
) -> TrainingRunList:
    """Also those that were refused, superseded or failed, with the cause."""
    page = await queries.training_runs(context.database, strategy_id=strategy_id, limit=limit, offset=offset)
    runs = [TrainingRun.model_validate(row) for row in page.rows]
    return TrainingRunList(runs=runs, total=page.total, limit=limit, offset=offset)


@router.get("/runs/{run_id}", summary="One run", responses=errors(404))
async def get_training_run(
    context: GivenContext, run_id: Annotated[UUID, Path(description="Identifier of a run.")]
) -> TrainingRunDetail:
    """With its data set report and the gate's verdict."""
    row = await queries.training_run(context.database, run_id)
    if row is None:
        raise NotFound("unknown_run", f"there is no training run {run_id}; GET /api/v1/training/runs lists them")
    return TrainingRunDetail.model_validate({**row, "shortfalls": shortfalls(judged(row["gate"] or []))})


def _current(row: queries.Row, now: datetime) -> CurrentTraining:
    progress = min(max(float(row["progress"]), 0.0), 1.0)
    return CurrentTraining(
        started_at=row["started_at"],
        estimated_completion=_estimated_completion(row["started_at"], progress, now),
        progress_percent=round(100.0 * progress, 1),
    )


def _estimated_completion(started_at: datetime, progress: float, now: datetime) -> datetime | None:
    """As if the rest went as fast as what is done; never in the past."""
    if progress < LEAST_PROGRESS_TO_ESTIMATE_FROM:
        return None
    return max(now, started_at + (now - started_at) / progress)
