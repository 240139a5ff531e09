"""`model-service strategies`: what the strategies are, and where each value came from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.cli.settings import strategies_of
from model_service.config.doubts import doubts
from model_service.config.loading import load_settings

strategies_app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
REFUSED = frozenset({409})


@strategies_app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="In the place of TRADING_STRATEGIES_FILE.")] = None,
) -> None:
    """Check a strategy file without asking a service; exit code 4 and one line per fault when it cannot be used."""
    with plain_errors():
        settings = load_settings(os.environ)[0]
        strategies = strategies_of(settings, file)
        for one in strategies:
            assets = "account_balances" if one.definition.assets_from_balances else ", ".join(one.definition.assets)
            state = "" if one.enabled else "  (disabled)"
            typer.echo(f"{one.definition.strategy_id}: {assets}{state}")
        enabled = [one.definition for one in strategies if one.enabled]
        for doubt in doubts(enabled, settings.trading_decision_interval_seconds, settings.signal_generation_rate_limit):
            typer.echo(f"warning: {doubt}", err=True)
        typer.echo("strategies are usable")


@strategies_app.command("list")
def list_strategies(as_json: AsJson = False) -> None:
    """List the strategies of the running service, those that were taken away too."""
    with plain_errors():
        answer = request("GET", "/api/v1/strategies")
        if as_json:
            print_json(answer)
            return
        for row in answer["strategies"]:
            assets = ", ".join(row["assets"]) or "no assets"
            typer.echo(f"{row['strategy_id']}: {row['state']}, {row['mode']}; {assets}")


@strategies_app.command()
def show(strategy: str, as_json: AsJson = False) -> None:
    """Show every parameter of a strategy as it is in force, and where its value came from."""
    with plain_errors():
        answer = request("GET", f"/api/v1/strategies/{quote(strategy, safe='')}/definition")
        if as_json:
            print_json(answer)
            return
        typer.echo(f"{strategy}: {answer['state']}; trades {', '.join(answer['assets']) or 'nothing'}")
        for one in answer["values"]:
            typer.echo(f"{one['key']} = {_shown(one['value'])}  ({one['source'] or 'as it was last'})")


@strategies_app.command()
def reload(as_json: AsJson = False) -> None:
    """Let the running service take its strategy file as it is now, all of it or nothing; exit code 7 if it refuses."""
    with plain_errors():
        answer = request("POST", "/api/v1/strategies/reload", answers=REFUSED)
        faults = (answer.get("details") or {}).get("faults")
        if faults is not None:
            raise CommandFailed(ExitCode.REFUSED, "\n".join([*faults, answer["detail"]]))
        if as_json:
            print_json(answer)
            return
        for change in answer["changes"]:
            typer.echo(f"{change['strategy_id']}: {change['change']}{_rule(change)}")
            if change["change"] != "added":
                for one in change["values"]:
                    typer.echo(f"  {one['key']}: {_shown(one['before'])} -> {_shown(one['after'])}")
        if not answer["changes"]:
            typer.echo("nothing has changed")


def _rule(change: Any) -> str:
    return "; models learn from new outcomes only" if change["label_rule_changed"] else ""


def _shown(value: object) -> str:
    return '"none"' if value is None else json.dumps(value)
