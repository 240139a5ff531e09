"""The HTTP interface as one ASGI application."""

from __future__ import annotations

from fastapi import FastAPI, Security
from starlette.middleware import Middleware

from model_service import __version__
from model_service.api import (
    activations,
    dead_letters,
    documentation,
    halts,
    models,
    operational,
    problems,
    quality,
    signals,
    strategies,
    training,
)
from model_service.api import comparisons as comparisons_of_models
from model_service.api.auth import RequireApiKey, documented_key
from model_service.api.middleware import BodyLimit, LastResort, SecurityHeaders
from model_service.api.parameters import Context
from model_service.api.ports import Comparisons, Explanations, HealthProbe, LiveView, Operations, Replays, Verifications
from model_service.config.clock import Clock
from model_service.database.connection import Database


def create_app(
    *,
    database: Database,
    operations: Operations,
    health: HealthProbe,
    explanations: Explanations,
    replays: Replays,
    live: LiveView,
    verifications: Verifications,
    comparisons: Comparisons,
    api_key: str,
    clock: Clock,
) -> FastAPI:
    """Build the application; it opens and closes nothing that it is given.

    Args:
        database: read by the lists and details.
        operations: carries out every change.
        health: answers /health and /readyz.
        explanations: asks models for their reasons.
        replays: makes decisions again.
        live: says how good active versions are.
        verifications: reads the files of versions.
        comparisons: asks two versions of the same outcomes.
        api_key: what X-API-Key must hold.
        clock: the present moment of answers.

    Raises:
        ValueError: when `api_key` is empty.
    """
    if not api_key:
        raise ValueError("the API key is empty; set MODEL_SERVICE_API_KEY to a secret of at least one character")
    app = FastAPI(
        title="model-service",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # From the outside in: headers also on errors, the key before the body.
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(LastResort),
            Middleware(RequireApiKey, api_key=api_key),
            Middleware(BodyLimit),
        ],
    )
    asked = (explanations, replays, live, verifications, comparisons)
    app.state.context = Context(database, operations, health, clock, *asked)
    app.include_router(operational.router)
    for part in (
        activations,
        models,
        comparisons_of_models,
        training,
        strategies,
        quality,
        halts,
        signals,
        dead_letters,
    ):
        app.include_router(part.router, dependencies=[Security(documented_key)])
    problems.install(app)
    documentation.install(app)
    return app
