"""Messages that were refused."""

from __future__ import annotations

from fastapi import APIRouter

from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, Limit, Offset
from model_service.api.schemas import DeadLetter, DeadLetterList
from model_service.database import queries

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])


@router.get("", summary="Refused messages, last seen first", responses=errors(422))
async def list_dead_letters(context: GivenContext, limit: Limit = DEFAULT_LIMIT, offset: Offset = 0) -> DeadLetterList:
    """With the reason, and the beginning of the message."""
    page = await queries.dead_letters(context.database, limit=limit, offset=offset)
    letters = [DeadLetter.model_validate({**row, "body": _as_text(row["body"])}) for row in page.rows]
    return DeadLetterList(dead_letters=letters, total=page.total, limit=limit, offset=offset)


def _as_text(body: bytes) -> str:
    return body.decode("utf-8", errors="replace")
