"""The HTTP server: uvicorn, without a say in signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from model_service.api.app import create_app
from model_service.api.ports import Comparisons, Explanations, HealthProbe, LiveView, Operations, Replays, Verifications
from model_service.config.clock import Clock
from model_service.database.connection import Database


class QuietServer(uvicorn.Server):
    """uvicorn without handlers of its own: signals belong to whoever stops the whole process."""

    @classmethod
    def of(
        cls,
        database: Database,
        operations: Operations,
        health: HealthProbe,
        explanations: Explanations,
        replays: Replays,
        live: LiveView,
        verifications: Verifications,
        comparisons: Comparisons,
        key: str,
        clock: Clock,
    ) -> QuietServer:
        """A server of the service's app; the caller gives it a socket and ends it through `should_exit`."""
        app = create_app(
            database=database,
            operations=operations,
            health=health,
            explanations=explanations,
            replays=replays,
            live=live,
            verifications=verifications,
            comparisons=comparisons,
            api_key=key,
            clock=clock,
        )
        return cls(cls.quiet(app))

    @staticmethod
    def quiet(app: FastAPI) -> uvicorn.Config:
        """uvicorn's settings for `app`, without logs of its own."""
        return uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
