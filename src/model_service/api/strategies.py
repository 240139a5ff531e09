"""Strategies: how they stand, why they are silent, and pause, resume, rollback."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.auth import ACTOR
from model_service.api.documentation import errors
from model_service.api.parameters import Context, GivenContext, Moment, StrategyId
from model_service.api.schemas import (
    ChangeRequest,
    DecisionReason,
    DecisionReasons,
    RollbackResult,
    Strategy,
    StrategyCounts,
    StrategyList,
)
from model_service.database import queries
from model_service.services.errors import NotFound

DEFAULT_LOOK_BACK = timedelta(hours=1)
CHANGE_ERRORS = errors(400, 404, 409, 413, 422)

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])


@router.get("", summary="All strategies", responses=errors())
async def list_strategies(context: GivenContext) -> StrategyList:
    """Mode, since when and why, active version, counts."""
    rows = await queries.strategies(context.database)
    return StrategyList(strategies=[_strategy(row) for row in rows], total=len(rows))


@router.post("/{strategy_id}/pause", summary="Stop openings", responses=CHANGE_ERRORS)
async def pause_strategy(context: GivenContext, strategy_id: StrategyId, request: ChangeRequest) -> Strategy:
    """Until somebody resumes it; positions are still closed at their barriers."""
    await context.operations.pause(strategy_id, ACTOR, request.reason)
    return await _known(context, strategy_id)


@router.post("/{strategy_id}/resume", summary="End a pause", responses=CHANGE_ERRORS)
async def resume_strategy(context: GivenContext, strategy_id: StrategyId, request: ChangeRequest) -> Strategy:
    """Back to the active version, or to warm-up where there is none."""
    await context.operations.resume(strategy_id, ACTOR, request.reason)
    return await _known(context, strategy_id)


@router.post("/{strategy_id}/rollback", summary="Put the version before back", responses=CHANGE_ERRORS)
async def roll_back_strategy(context: GivenContext, strategy_id: StrategyId, request: ChangeRequest) -> RollbackResult:
    """Answers with the version that is active now."""
    version = await context.operations.rollback(strategy_id, ACTOR, request.reason)
    return RollbackResult(strategy_id=strategy_id, version=version)


@router.get("/{strategy_id}/decisions", summary="Why there was no signal", responses=errors(404, 422))
async def get_decisions(
    context: GivenContext,
    strategy_id: StrategyId,
    since: Annotated[
        Moment | SkipJsonSchema[None], Query(description="From this minute on; an hour ago when it is left out.")
    ] = None,
) -> DecisionReasons:
    """Ticks without a signal by reason, with the number that was last looked at and its threshold."""
    await _known(context, strategy_id)
    until = context.clock.now()
    start = since or until - DEFAULT_LOOK_BACK
    rows = await queries.decision_reasons(context.database, strategy_id, start)
    reasons = [DecisionReason.model_validate(row) for row in rows]
    return DecisionReasons(strategy_id=strategy_id, since=start, until=until, reasons=reasons)


async def _known(context: Context, strategy_id: str) -> Strategy:
    row = await queries.strategy(context.database, strategy_id)
    if row is None:
        raise NotFound("unknown_strategy", "there is no such strategy; GET /api/v1/strategies lists them")
    return _strategy(row)


def _strategy(row: queries.Row) -> Strategy:
    return Strategy.model_validate({**row, "counts": StrategyCounts.model_validate(dict(row))})
