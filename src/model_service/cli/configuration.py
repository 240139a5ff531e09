"""`model-service config`: what the settings are."""

from __future__ import annotations

import os

import typer

from model_service.cli.errors import plain_errors
from model_service.cli.settings import strategies_of, usable_settings
from model_service.config.doubts import doubts
from model_service.config.loading import load_settings
from model_service.config.settings import Settings

config_app = typer.Typer(no_args_is_help=True)


@config_app.command()
def check() -> None:
    """Check the settings, without asking any server; exit code 4 and one line per fault when they cannot be used."""
    with plain_errors():
        settings, warnings = usable_settings(os.environ)
        limits = settings.trading_decision_interval_seconds, settings.signal_generation_rate_limit
        strategies = [one.definition for one in strategies_of(settings) if one.enabled]
        for warning in (*warnings, *doubts(strategies, *limits)):
            typer.echo(f"warning: {warning}")
        typer.echo("settings are usable")


@config_app.command()
def show() -> None:
    """Show every setting with its value and where it came from; secrets are hidden."""
    with plain_errors():
        settings, _ = load_settings(os.environ)
        given = {name.upper() for name, value in os.environ.items() if value}
        for name in Settings.model_fields:
            source = "environment" if name.upper() in given else "default"
            typer.echo(f"{name.upper()}={getattr(settings, name)}  ({source})")
