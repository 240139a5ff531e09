"""History of activations, and how a request names who asks and what it expects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic.json_schema import SkipJsonSchema

from model_service.api.auth import ACTOR
from model_service.api.documentation import errors
from model_service.api.parameters import (
    DEFAULT_LIMIT,
    VERSION_PATTERN,
    GivenContext,
    Limit,
    Offset,
    StrategyFilter,
    StrategyId,
)
from model_service.api.schemas import Activation, ActivationList
from model_service.database import queries, version_queries
from model_service.services.errors import NotFound, Refused

router = APIRouter(prefix="/api/v1", tags=["models"])


@router.get("/activations", summary="Who took the word, newest first", responses=errors(422))
async def list_activations(
    context: GivenContext,
    strategy_id: StrategyFilter = None,
    version: Annotated[
        str | SkipJsonSchema[None], Query(pattern=VERSION_PATTERN, description="Only of this version.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ActivationList:
    """When, from which version, by whom and why; also those by the service itself."""
    page = await version_queries.activations(
        context.database, strategy_id=strategy_id, version=version, limit=limit, offset=offset
    )
    return _list(page, limit, offset)


@router.get("/strategies/{strategy_id}/activations", summary="The same of one strategy", responses=errors(404, 422))
async def list_activations_of_strategy(
    context: GivenContext, strategy_id: StrategyId, limit: Limit = DEFAULT_LIMIT, offset: Offset = 0
) -> ActivationList:
    """Also of a strategy that is no more."""
    page = await version_queries.activations(context.database, strategy_id=strategy_id, limit=limit, offset=offset)
    if not page.total and await queries.strategy(context.database, strategy_id) is None:
        raise NotFound("unknown_strategy", "there is no such strategy; GET /api/v1/strategies lists them")
    return _list(page, limit, offset)


def named(actor: str | None) -> str:
    """Who the history names: the key alone proves no name, so a given one stands behind what is proven.

    >>> named("ada"), named(None)
    ('http:ada', 'http')
    """
    return ACTOR if actor is None else f"{ACTOR}:{actor}"


def expectation(body: str | None, header: str | None) -> str | None:
    """The version that a request expects to be active, by its body or its header. Raises Refused when they differ.

    >>> expectation(None, '"v3"')
    'v3'
    """
    matched = None if header is None else header.strip('"')
    if body is not None and matched is not None and body != matched:
        message = f"expected_version is {body} and If-Match is {matched}; give one of them, or both the same"
        raise Refused("contradicting_expectations", message)
    return body or matched


def _list(page: queries.Page, limit: int, offset: int) -> ActivationList:
    rows = [Activation.model_validate(row) for row in page.rows]
    return ActivationList(activations=rows, total=page.total, limit=limit, offset=offset)
