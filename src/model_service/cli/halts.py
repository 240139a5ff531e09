"""`model-service stop` and `model-service resume`: one call stops every opening, and one lets them go on."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def stop(
    reason: Annotated[str, typer.Option(help="Why; kept with the stop and in the audit log.")],
    as_json: AsJson = False,
) -> None:
    """Stop every opening of every strategy until somebody resumes; positions are still closed."""
    with plain_errors():
        answer = request("POST", "/api/v1/stop", {"reason": reason})
        if as_json:
            print_json(answer)
            return
        since = answer["halt"]["started_at"]
        typer.echo(f"stopped since {since}; {answer['withdrawn']} openings were taken back before they were sent")


def resume(
    strategy: Annotated[
        str | None, typer.Option(help="End the pause or the loss limit of this strategy, not a stop of all.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "asked for at the terminal",
    as_json: AsJson = False,
) -> None:
    """End a stop, or what holds one strategy."""
    with plain_errors():
        path = "resume" if strategy is None else f"strategies/{quote(strategy, safe='')}/resume"
        answer = request("POST", f"/api/v1/{path}", {"reason": reason})
        if as_json:
            print_json(answer)
            return
        typer.echo(f"resumed: {strategy or 'every strategy'}")
        for halt in answer["holding"] if strategy is None else answer["halts"]:
            typer.echo(f"still held: {halt['strategy_id'] or 'every strategy'} ({halt['kind']}: {halt['reason']})")
