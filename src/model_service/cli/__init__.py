"""The command line: `model-service COMMAND`. Each command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import typer

from model_service.cli.configuration import config_app
from model_service.cli.database import db_app
from model_service.cli.dead_letters import dlq_app
from model_service.cli.demo import demo
from model_service.cli.halts import resume, stop
from model_service.cli.models import models_app
from model_service.cli.quality import quality
from model_service.cli.remote import status
from model_service.cli.run import run
from model_service.cli.signals import signals_app
from model_service.cli.strategies import strategies_app
from model_service.cli.train import train
from model_service.cli.why import why

app = typer.Typer(
    name="model-service",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Learns from a trading platform's own executions and lets a model speak only after it has passed a gate.",
)
app.command()(run)
app.command()(demo)
app.command()(status)
app.command()(why)
app.command()(stop)
app.command()(resume)
app.command()(quality)
app.command()(train)
app.add_typer(models_app, name="models", help="Versions: list, show, diff, history, verify, promote, rollback.")
app.add_typer(signals_app, name="signals", help="Signals: list, show, explain.")
app.add_typer(strategies_app, name="strategies", help="Strategies: check a file, list, show, reload.")
app.add_typer(db_app, name="db", help="The schema in PostgreSQL: up, down, status, sql.")
app.add_typer(dlq_app, name="dlq", help="Dead letters: list, show, requeue, drop.")
app.add_typer(config_app, name="config", help="Settings: show, check.")


def main() -> None:
    """The entry point of `model-service`."""
    app()
