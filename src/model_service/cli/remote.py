"""Commands that ask a running service over HTTP: status, models."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from model_service.cli import remote_text as text
from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors

models_app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]
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


@models_app.command("list")
def list_models(strategy: Annotated[str | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """List versions, newest first."""
    with plain_errors():
        query = urlencode({"strategy_id": strategy}) if strategy else ""
        answer = request("GET", f"/api/v1/models?{query}")
        if as_json:
            print_json(answer)
            return
        if not answer["models"]:
            typer.echo("no versions yet" if strategy is None else f"no versions of {strategy} yet")
            return
        from model_service.cli import tables, version_list

        tables.make_console().print(version_list.listing(answer["models"]))


@models_app.command()
def show(
    version: str,
    everything: Annotated[bool, typer.Option("--all", help="Every feature, and the training configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one version: the gate's conditions, metrics with intervals, calibration, importance, the rows."""
    with plain_errors():
        answer = request("GET", f"/api/v1/models/{quote(version, safe='')}")
        if as_json:
            print_json(answer)
            return
        from model_service.cli import tables, version_page

        console = tables.make_console()
        for part in version_page.page(answer, everything=everything, ascii_only=console.options.ascii_only):
            console.print(part)


@models_app.command()
def promote(
    version: str,
    strategy: Annotated[str | None, typer.Option(help="Strategy that it shall speak for.")] = None,
    force: Annotated[bool, typer.Option(help="Override the gate; recorded with your reason.")] = False,
) -> None:
    """Let a version speak."""
    with plain_errors():
        request("POST", f"/api/v1/models/{quote(version, safe='')}", {"strategy_id": strategy, "force": force})
        typer.echo(f"{version} is active")


@models_app.command()
def rollback(strategy: str, reason: Reason = "asked for at the terminal") -> None:
    """Let the version speak that spoke before."""
    with plain_errors():
        answer = request("POST", f"/api/v1/strategies/{quote(strategy, safe='')}/rollback", {"reason": reason})
        typer.echo(f"{answer['version']} is active")
