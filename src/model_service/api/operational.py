"""For orchestrators and monitoring: /health, /livez, /readyz (open) and /metrics (behind the key)."""

from __future__ import annotations

from fastapi import APIRouter, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from model_service.api.auth import documented_key
from model_service.api.documentation import errors
from model_service.api.parameters import GivenContext
from model_service.api.schemas import Alive, HealthChecks, HealthDetails, HealthResponse, Readiness

SERVICE_NAME = "model-service"

router = APIRouter(tags=["operational"])


@router.get(
    "/health", summary="Whether the service and its dependencies work", responses={503: {"model": HealthResponse}}
)
async def get_health(context: GivenContext, response: Response) -> HealthResponse:
    """200 when all dependencies work, 503 with the same body when one does not."""
    state = await context.health.health()
    healthy = state.database and state.message_queue and state.model_storage
    response.status_code = 200 if healthy else 503
    return HealthResponse(
        status="healthy" if healthy else "unhealthy",
        timestamp=context.clock.now(),
        details=HealthDetails(
            database="connected" if state.database else "disconnected",
            message_queue="connected" if state.message_queue else "disconnected",
            model_storage="accessible" if state.model_storage else "inaccessible",
            active_models=state.active_models,
        ),
        service=SERVICE_NAME,
        database_connected=state.database,
        queue_connected=state.message_queue,
        checks=HealthChecks(
            database=state.database, message_queue=state.message_queue, model_storage=state.model_storage
        ),
        notices=list(state.notices),
    )


@router.get("/livez", summary="Whether the process answers")
async def get_livez() -> Alive:
    """200 as long as the event loop turns."""
    return Alive(status="alive")


@router.get("/readyz", summary="Whether the service does its work", responses={503: {"model": Readiness}})
async def get_readyz(context: GivenContext, response: Response) -> Readiness:
    """503 with the reasons while it does not."""
    state = await context.health.health()
    response.status_code = 200 if state.ready else 503
    return Readiness(ready=state.ready, reasons=list(state.reasons))


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors()},
    dependencies=[Security(documented_key)],
)
async def get_metrics() -> Response:
    """All metrics of the process."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
