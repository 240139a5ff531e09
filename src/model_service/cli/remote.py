"""The command that asks a running service how it is: status."""

from __future__ import annotations

from typing import Annotated

import typer

from model_service.cli import remote_text as text
from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
UNHEALTHY = frozenset({503})


def status(as_json: AsJson = False) -> None:
    """Show what each strategy does, what is being trained, and what does not work or is switched off."""
    with plain_errors():
        strategies = request("GET", "/api/v1/strategies")
        training = request("GET", "/api/v1/training/status")
        if as_json:
            print_json({**strategies, "training": training})
            return
        health = request("GET", "/health", answers=UNHEALTHY)
        readiness = request("GET", "/readyz", answers=UNHEALTHY)
        typer.echo("\n".join(text.status_lines(strategies, training, health, readiness)))
