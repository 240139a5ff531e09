"""Two versions on the same stored outcomes."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import Field

from model_service.api.documentation import errors
from model_service.api.parameters import GivenContext, Version
from model_service.api.quality import LiveMetric, live_metric
from model_service.api.schemas import Body
from model_service.services.comparison import Judged

router = APIRouter(prefix="/api/v1/models", tags=["models"])


class ComparedVersion(Body):
    """What one version says of the rows."""

    version: str
    trades: int = Field(description="Of the openings, those that it would have made itself.")
    all_rows: list[LiveMetric] = Field(description="Of the side that was traded, in all rows.")
    taken: list[LiveMetric] = Field(description="Of the trades that it would have made.")


class Comparison(Body):
    """Two versions on the newest outcomes of their strategy that neither was fitted on, whoever opened them."""

    strategy_id: str
    rows: int
    first_decided_at: datetime
    last_decided_at: datetime
    agreed: int = Field(description="Rows of which both would have taken the trade, or neither.")
    versions: list[ComparedVersion]
    differences: list[LiveMetric] = Field(description="The first less the second, row by row.")


@router.get(
    "/{version}/comparison/{other}", summary="Two versions on the same outcomes", responses=errors(400, 404, 409)
)
async def compare_models(context: GivenContext, version: Version, other: Version) -> Comparison:
    """Both are loaded and asked beside the event loop; nothing changes."""
    found = await context.comparisons.compare(version, other)
    return Comparison(
        strategy_id=found.strategy_id,
        rows=found.rows,
        first_decided_at=datetime.fromtimestamp(found.first_us / 1e6, UTC),
        last_decided_at=datetime.fromtimestamp(found.last_us / 1e6, UTC),
        agreed=found.agreed,
        versions=[_version(one) for one in found.versions],
        differences=[live_metric(metric) for metric in found.differences],
    )


def _version(judged: Judged) -> ComparedVersion:
    facts = asdict(judged)
    return ComparedVersion(
        version=facts["version"],
        trades=facts["trades"],
        all_rows=[live_metric(metric) for metric in judged.all_rows],
        taken=[live_metric(metric) for metric in judged.taken],
    )
