"""Signals, each with its way to the broker and its outcome."""

from __future__ import annotations

from fastapi import APIRouter

from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, Limit, Offset, StrategyFilter
from model_service.api.schemas import Signal, SignalList, SignalOutcome
from model_service.database import queries

router = APIRouter(prefix="/api/v1/signals", tags=["signals"])


@router.get("", summary="Signals, newest first", responses=errors(422))
async def list_signals(
    context: GivenContext, strategy_id: StrategyFilter = None, limit: Limit = DEFAULT_LIMIT, offset: Offset = 0
) -> SignalList:
    """Of one strategy or of all."""
    page = await queries.signals(context.database, strategy_id=strategy_id, limit=limit, offset=offset)
    return SignalList(signals=[_signal(row) for row in page.rows], total=page.total, limit=limit, offset=offset)


def _signal(row: queries.Row) -> Signal:
    outcome = None if row["label"] is None else SignalOutcome.model_validate(dict(row))
    return Signal.model_validate({**row, "outcome": outcome})
