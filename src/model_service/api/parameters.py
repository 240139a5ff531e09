"""The parameters that several paths share, with their bounds, and what each path is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from model_service.api.ports import Comparisons, Explanations, HealthProbe, LiveView, Operations, Replays, Verifications
from model_service.config.clock import Clock
from model_service.database.connection import Database


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that the paths work with, handed to `create_app`."""

    database: Database
    operations: Operations
    health: HealthProbe
    clock: Clock
    explanations: Explanations
    replays: Replays
    live: LiveView
    verifications: Verifications
    comparisons: Comparisons


async def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def _storable(text: str) -> str:
    """PostgreSQL stores neither the null character nor half a surrogate pair."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold the null character or unpaired surrogates")
    return text


def _as_utc(moment: datetime) -> datetime:
    """A time without a zone is UTC, as everywhere in the platform."""
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie in the years 1 to 9999 in UTC") from None


Text = Annotated[str, AfterValidator(_storable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_storable)]
Asset = Annotated[str, StringConstraints(min_length=1, max_length=20), AfterValidator(_storable)]
Moment = Annotated[datetime, AfterValidator(_as_utc)]

GivenContext = Annotated[Context, Depends(_context)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Rows at most.")]
Offset = Annotated[int, Query(ge=0, description="Rows to pass over.")]
StrategyFilter = Annotated[Text | SkipJsonSchema[None], Query(description="Only of this strategy.")]
VERSION_PATTERN = r"^v\d+(\.\d+)?$"
ExpectedVersion = Annotated[str, StringConstraints(pattern=r"^(v\d+(\.\d+)?|none)$")]
Actor = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_storable)]
IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="If-Match",
        pattern=r'^"?(v\d+(\.\d+)?|none)"?$',
        description="The version that has to be active until then, `none` for no version; as `expected_version`.",
    ),
]
Version = Annotated[str, Path(pattern=VERSION_PATTERN, description="Version: vN, or vN.M for an increment of vN.")]
StrategyId = Annotated[Text, Path(description="Name of a strategy.")]
DEFAULT_LIMIT = 100
