"""Messages that were refused."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.documentation import errors
from model_service.api.parameters import DEFAULT_LIMIT, GivenContext, Limit, Offset, Text
from model_service.api.schemas import DeadLetter, DeadLetterList
from model_service.database import queries

Source = Annotated[Text | SkipJsonSchema[None], Query(description="Only from this queue.")]
ReasonCode = Annotated[Text | SkipJsonSchema[None], Query(description="Only with this reason_code.")]
Closed = Annotated[bool, Query(description="Also those that were requeued or dropped.")]

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])


@router.get("", summary="Refused messages, last seen first", responses=errors(422))
async def list_dead_letters(
    context: GivenContext,
    source: Source = None,
    reason_code: ReasonCode = None,
    closed: Closed = False,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> DeadLetterList:
    """With the reason, and the beginning of the message."""
    page = await queries.dead_letters(
        context.database, source=source, reason_code=reason_code, closed=closed, limit=limit, offset=offset
    )
    letters = [DeadLetter.model_validate({**row, "body": _as_text(row["body"])}) for row in page.rows]
    return DeadLetterList(dead_letters=letters, total=page.total, limit=limit, offset=offset)


def _as_text(body: bytes) -> str:
    return body.decode("utf-8", errors="replace")
