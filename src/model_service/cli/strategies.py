"""`model-service strategies`: what the strategies are, and where each value came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.errors import plain_errors
from model_service.cli.settings import strategies_of
from model_service.config.loading import load_settings

strategies_app = typer.Typer(no_args_is_help=True)


@strategies_app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="In the place of TRADING_STRATEGIES_FILE.")] = None,
) -> None:
    """Check a strategy file without asking a service; exit code 4 and one line per fault when it cannot be used."""
    with plain_errors():
        strategies = strategies_of(load_settings(os.environ)[0], file)
        for one in strategies:
            assets = "account_balances" if one.definition.assets_from_balances else ", ".join(one.definition.assets)
            state = "" if one.enabled else "  (disabled)"
            typer.echo(f"{one.definition.strategy_id}: {assets}{state}")
        typer.echo("strategies are usable")
