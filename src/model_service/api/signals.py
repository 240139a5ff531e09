"""Signals, each with its way to the broker and its outcome."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api import signal_detail, signal_replay
from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, VERSION_PATTERN, GivenContext, Limit, Offset, StrategyFilter
from model_service.api.schemas import Signal, SignalList, SignalOutcome
from model_service.api.signal_detail import SignalDetail
from model_service.api.signal_explanation import DecisionExplanation, answer
from model_service.api.signal_replay import DecisionReplay
from model_service.database import queries
from model_service.database.signal_detail import stored_signal
from model_service.services.errors import NotFound

SignalId = Annotated[UUID, Path(description="Identifier of a signal.")]

router = APIRouter(prefix="/api/v1/signals", tags=["signals"])


@router.get("", summary="Signals, newest first", responses=errors(422))
async def list_signals(
    context: GivenContext, strategy_id: StrategyFilter = None, limit: Limit = DEFAULT_LIMIT, offset: Offset = 0
) -> SignalList:
    """Of one strategy or of all."""
    page = await queries.signals(context.database, strategy_id=strategy_id, limit=limit, offset=offset)
    return SignalList(signals=[_signal(row) for row in page.rows], total=page.total, limit=limit, offset=offset)


@router.get("/{signal_id}", summary="One signal", responses=errors(404))
async def get_signal(context: GivenContext, signal_id: SignalId) -> SignalDetail:
    """What it was decided from, by whom and past which guards, and what became of it."""
    stored = await stored_signal(context.database, signal_id)
    if stored is None:
        raise NotFound("unknown_signal", f"there is no signal {signal_id}; GET /api/v1/signals lists them")
    return signal_detail.answer(stored)


@router.get("/{signal_id}/explanation", summary="Why a model decided so", responses=errors(404, 409, 422))
async def explain_signal(
    context: GivenContext,
    signal_id: Annotated[UUID, Path(description="Identifier of a signal, or of a stored draw of `none`.")],
    version: Annotated[
        str | SkipJsonSchema[None],
        Query(pattern=VERSION_PATTERN, description="Version to ask; the one that decided when it is left out."),
    ] = None,
) -> DecisionExplanation:
    """What each feature added to what the version says of either side, asked of its native model in a child process.

    503 while others are being explained. Signals of the warm-up and exits were decided by no model: 409 without
    `version`.
    """
    return answer(await context.explanations.explain(signal_id, version))


@router.get("/{signal_id}/replay", summary="The decision made again", responses=errors(404, 409))
async def replay_signal(context: GivenContext, signal_id: SignalId) -> DecisionReplay:
    """From the stored features, seed, settings and version, by the code that decides; identical or where it differs.

    409 for exits, which are not drawn, and for what too little was kept of.
    """
    return signal_replay.answer(await context.replays.replay(signal_id))


def _signal(row: queries.Row) -> Signal:
    outcome = None if row["label"] is None else SignalOutcome.model_validate(dict(row))
    return Signal.model_validate({**row, "outcome": outcome})
