"""`model-service run`: the service until it is told to stop."""

from __future__ import annotations

import asyncio
import os

from model_service.cli.errors import plain_errors
from model_service.cli.settings import settings_from_environment


def run() -> None:
    """Run the service: decisions, feedback, training and the HTTP interface, until SIGTERM or Ctrl-C.

    Without POSTGRES_HOST and RABBITMQ_HOST it brings its own PostgreSQL, and messages travel through that.
    """
    with plain_errors():
        settings = settings_from_environment(os.environ)
        import uvloop

        from model_service.main import serve

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
