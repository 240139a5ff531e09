"""One call stops every opening, and one lets them go on."""

from __future__ import annotations

from fastapi import APIRouter

from model_service.api.auth import ACTOR
from model_service.api.documentation import errors
from model_service.api.parameters import GivenContext
from model_service.api.schemas import ChangeRequest, Halt, ResumeResult, StopResult
from model_service.services import halts

router = APIRouter(prefix="/api/v1", tags=["halts"])


@router.post("/stop", summary="Stop everything", responses=errors(413, 422))
async def stop_everything(context: GivenContext, request: ChangeRequest) -> StopResult:
    """No strategy opens anything from here on, in every process on the database; positions are still closed.

    Openings that were not sent yet are taken back. Orders at the exchange stay: order-manager has no call for that.
    """
    stopped = await context.operations.stop(ACTOR, request.reason)
    return StopResult(halt=_halt(stopped.halt), withdrawn=stopped.withdrawn)


@router.post("/resume", summary="End a stop", responses=errors(409, 413, 422))
async def resume_everything(context: GivenContext, request: ChangeRequest) -> ResumeResult:
    """Ends a stop and a loss limit of all strategies together; pauses and loss limits of single ones hold on."""
    resumed = await context.operations.resume_all(ACTOR, request.reason)
    return ResumeResult(ended=[_halt(one) for one in resumed.ended], holding=[_halt(one) for one in resumed.holding])


def _halt(halt: halts.Halt) -> Halt:
    return Halt.model_validate(halt, from_attributes=True)
