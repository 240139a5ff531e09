"""Live quality of a strategy: what the window shows, what the detectors read, how far features have drifted."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from model_service.api.documentation import errors
from model_service.api.parameters import Context, GivenContext, StrategyId
from model_service.api.schemas import Body, Finite, MetricType, Number
from model_service.database import queries
from model_service.models.drift import DriftReport
from model_service.models.job import Metric
from model_service.services.errors import NotFound
from model_service.services.live_state import LiveQuality

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])


class LiveMetric(Body):
    """One number of the window; without ends where its outcomes span too little time for an interval."""

    metric_name: str
    metric_type: MetricType
    value: float
    lower: Number = None
    upper: Number = None
    level: Number = None
    method: str | None = None


class Detector(Body):
    """One way in which a fall shows; it fires when `value` lies on the side `comparison` of `threshold`."""

    detector: Literal["live_accuracy", "log_loss", "win_rate_cusum"]
    value: Number = None
    threshold: Number = None
    comparison: Literal["below", "above"]
    fired: bool
    why: str = Field(default="", description="Why it says nothing yet.")


class Window(Body):
    """The outcomes that metrics are about: the larger of the last `outcomes` and of the last `hours`."""

    n: int
    outcomes: int
    hours: float
    first_available_at: datetime | None
    last_available_at: datetime | None


class Promise(Body):
    """What the version's own test said; null where it said nothing."""

    win_rate: Number = Field(default=None, description="Share of winners among trades that it would have taken.")
    no_edge: Number = Field(default=None, description="Share of winners among all rows of the test.")
    log_loss: Number = None
    log_loss_upper: Number = None


class FeatureDrift(Body):
    """One feature of recent decisions against the training rows."""

    feature: str
    psi: float
    ks: float
    unknown_share: float
    reference_unknown_share: float


class Drift(Body):
    """Features, the farthest first."""

    version: str
    computed_at: datetime
    rows: int
    features: list[FeatureDrift]
    why: str = Field(default="", description="Why there are none.")


class LastFallback(Body):
    """The last time that a version lost the word for its quality."""

    version: str
    to: str | None = Field(description="Who spoke then; null for the warm-up.")
    at: datetime
    evidence: Annotated[dict[str, Any] | None, Finite]


class StrategyQuality(Body):
    """How good the version that speaks is in live trading; all is null while none speaks."""

    strategy_id: str
    as_of: datetime
    version: str | None
    since: datetime | None = Field(description="When it got the word.")
    outcomes: int = Field(description="Of trades that it chose since then; what exploration drew is left out.")
    window: Window | None
    metrics: list[LiveMetric]
    detectors: list[Detector]
    test: Promise | None
    drift: Drift | None
    last_fallback: LastFallback | None


@router.get("/{strategy_id}/quality", summary="Live quality of the version that speaks", responses=errors(404))
async def get_quality(context: GivenContext, strategy_id: StrategyId) -> StrategyQuality:
    """Metrics with intervals over the live window, each detector with value and threshold, drift by feature."""
    if await queries.strategy(context.database, strategy_id) is None:
        raise NotFound("unknown_strategy", "there is no such strategy; GET /api/v1/strategies lists them")
    fallback = await queries.last_fallback(context.database, strategy_id)
    live = context.live.live(strategy_id)
    return StrategyQuality(
        strategy_id=strategy_id,
        as_of=context.clock.now(),
        version=live.version if live else None,
        since=live.since if live else None,
        outcomes=live.outcomes if live else 0,
        window=_window(live) if live else None,
        metrics=[live_metric(metric) for metric in live.metrics] if live else [],
        detectors=[Detector.model_validate(asdict(one)) for one in live.detectors] if live else [],
        test=Promise.model_validate(asdict(live.reference)) if live else None,
        drift=_drift(context, strategy_id),
        last_fallback=LastFallback.model_validate(fallback) if fallback else None,
    )


def _window(live: LiveQuality) -> Window:
    return Window(
        n=live.n,
        outcomes=live.window_outcomes,
        hours=live.window["window_hours"],
        first_available_at=live.window_from,
        last_available_at=live.window_to,
    )


def live_metric(metric: Metric) -> LiveMetric:
    """As it is answered."""
    row = metric.model_dump(include={"value", "lower", "upper", "level", "method"})
    known = {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in row.items()}
    return LiveMetric.model_validate({"metric_name": metric.name, "metric_type": metric.type, **known})


def _drift(context: Context, strategy_id: str) -> Drift | None:
    report: DriftReport | None = context.live.drift(strategy_id)
    if report is None:
        return None
    features = [FeatureDrift.model_validate(asdict(one)) for one in report.features]
    return Drift(
        version=report.version, computed_at=report.computed_at, rows=report.rows, features=features, why=report.why
    )
