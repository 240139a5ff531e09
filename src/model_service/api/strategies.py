"""Strategies: how they stand, why they are silent, and pause, resume, rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.activations import expectation, named
from model_service.api.auth import ACTOR
from model_service.api.decisions import LONGEST, DecisionReasons, answer, span
from model_service.api.documentation import errors
from model_service.api.parameters import Asset, Context, GivenContext, IfMatch, Moment, StrategyId
from model_service.api.schemas import (
    ChangedValue,
    ChangeRequest,
    Halt,
    ReloadResult,
    RollbackRequest,
    RollbackResult,
    Strategy,
    StrategyChangeDetail,
    StrategyCounts,
    StrategyDefinitionDetail,
    StrategyList,
    StrategyValue,
    Warmup,
)
from model_service.database import queries
from model_service.services.errors import NotFound
from model_service.services.strategy_changes import StrategyChange

CHANGE_ERRORS = errors(400, 404, 409, 413, 422)

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])


@router.get("", summary="All strategies", responses=errors())
async def list_strategies(context: GivenContext) -> StrategyList:
    """Mode, since when and why, active version, counts, and what keeps it from opening anything."""
    rows = await queries.strategies(context.database)
    halts = await open_halts(context)
    strategies = [await _strategy(context, row, halts) for row in rows]
    return StrategyList(strategies=strategies, total=len(rows), halts=halts)


@router.post("/reload", summary="Take the strategy file as it is now", responses=errors(400, 409))
async def reload_strategies(context: GivenContext) -> ReloadResult:
    """All of it or nothing; a file that cannot be used answers 409 with a line for each fault in `details.faults`."""
    changes = await context.operations.reload_strategies(ACTOR)
    return ReloadResult(changes=[_change(one) for one in changes])


@router.get("/{strategy_id}/definition", summary="Parameters, and where each came from", responses=errors(404, 422))
async def get_definition(context: GivenContext, strategy_id: StrategyId) -> StrategyDefinitionDetail:
    """In force now; of a strategy that was taken away, those by which its positions are closed."""
    view = context.operations.strategy_view(strategy_id)
    values = [StrategyValue(key=key, value=value, source=view.sources.get(key)) for key, value in view.values.items()]
    return StrategyDefinitionDetail(strategy_id=strategy_id, state=view.state, assets=list(view.assets), values=values)


@router.post("/{strategy_id}/pause", summary="Stop openings", responses=CHANGE_ERRORS)
async def pause_strategy(context: GivenContext, strategy_id: StrategyId, request: ChangeRequest) -> Strategy:
    """Until somebody resumes it; positions are still closed at their barriers."""
    await context.operations.pause(strategy_id, ACTOR, request.reason)
    return await _known(context, strategy_id)


@router.post("/{strategy_id}/resume", summary="End a pause", responses=CHANGE_ERRORS)
async def resume_strategy(context: GivenContext, strategy_id: StrategyId, request: ChangeRequest) -> Strategy:
    """Back to the active version, or to warm-up where there is none; ends a halt by its own loss limit too."""
    await context.operations.resume(strategy_id, ACTOR, request.reason)
    return await _known(context, strategy_id)


@router.post("/{strategy_id}/rollback", summary="Put an earlier version back", responses=CHANGE_ERRORS)
async def roll_back_strategy(
    context: GivenContext, strategy_id: StrategyId, request: RollbackRequest, if_match: IfMatch = None
) -> RollbackResult:
    """The one that spoke before, or any that is named. Answers with the version that is active now."""
    version = await context.operations.rollback(
        strategy_id,
        named(request.actor),
        request.reason,
        to=request.version,
        expected=expectation(request.expected_version, if_match),
    )
    return RollbackResult(strategy_id=strategy_id, version=version)


@router.get("/{strategy_id}/decisions", summary="From ticks to orders, and why not", responses=errors(404, 422))
async def get_decisions(
    context: GivenContext,
    strategy_id: StrategyId,
    since: Annotated[
        Moment | SkipJsonSchema[None], Query(description="From this minute on; an hour before `until` when left out.")
    ] = None,
    until: Annotated[
        Moment | SkipJsonSchema[None], Query(description="Up to the end of this minute; now when left out.")
    ] = None,
    last_seconds: Annotated[
        int | SkipJsonSchema[None],
        Query(ge=1, le=int(LONGEST.total_seconds()), description="In the place of `since`: so long before `until`."),
    ] = None,
    asset: Annotated[Asset | SkipJsonSchema[None], Query(description="Only this asset.")] = None,
) -> DecisionReasons:
    """Every tick as a signal or a reason, with the number that was last looked at, its threshold, and what it means."""
    strategy = await _found(context, strategy_id)
    start, end = span(since, until, last_seconds, context.clock.now())
    return await answer(context, strategy, asset, start, end)


async def _known(context: Context, strategy_id: str) -> Strategy:
    return await _strategy(context, await _found(context, strategy_id), await open_halts(context))


async def _found(context: Context, strategy_id: str) -> queries.Row:
    row = await queries.strategy(context.database, strategy_id)
    if row is None:
        raise NotFound("unknown_strategy", "there is no such strategy; GET /api/v1/strategies lists them")
    return row


async def open_halts(context: Context) -> list[Halt]:
    """The halts that hold now."""
    return [Halt.model_validate(row) for row in await queries.open_halts(context.database)]


async def _strategy(context: Context, row: queries.Row, halts: Sequence[Halt]) -> Strategy:
    try:
        view = context.operations.strategy_view(row["strategy_id"])
        state, assets = view.state, list(view.assets)
    except NotFound:
        state, assets = "removed", []
    strategy_id = row["strategy_id"]
    wanted = await context.operations.outcomes_wanted(strategy_id)
    members = {
        "state": state,
        "assets": assets,
        "counts": StrategyCounts.model_validate(dict(row)),
        "halts": [halt for halt in halts if halt.strategy_id in (None, strategy_id)],
        "warmup": Warmup(result=row["warmup_result"], outcomes_wanted=wanted),
    }
    return Strategy.model_validate({**row, **members})


def _change(change: StrategyChange) -> StrategyChangeDetail:
    values = [ChangedValue(key=key, before=before, after=after) for key, (before, after) in change.values.items()]
    return StrategyChangeDetail(
        strategy_id=change.strategy_id,
        change=change.kind,
        values=values,
        label_rule_changed=change.label_rule_changed,
    )
