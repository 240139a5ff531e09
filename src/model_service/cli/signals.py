"""`model-service signals`: what was signalled, from what, and why a model said so."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors

signals_app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
REFUSED = frozenset({409})
EXPLAIN_SECONDS = 45.0
"""Others may be explained first, and a child may take its time on a busy machine."""


@signals_app.command("list")
def list_signals(
    strategy: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Signals at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List signals, newest first, each with its order's state and its outcome."""
    with plain_errors():
        chosen = {"limit": str(limit), **({"strategy_id": strategy} if strategy else {})}
        answer = request("GET", f"/api/v1/signals?{urlencode(chosen)}")
        if as_json:
            print_json(answer)
            return
        if not answer["signals"]:
            typer.echo("no signals yet" if strategy is None else f"no signals of {strategy} yet")
            return
        from model_service.cli import signal_page, tables

        tables.make_console().print(signal_page.listing(answer["signals"]))
        if answer["total"] > len(answer["signals"]):
            typer.echo(f"{len(answer['signals'])} of {answer['total']:,}; --limit shows more", err=True)


@signals_app.command()
def show(
    signal_id: Annotated[UUID, typer.Argument(metavar="SIGNAL_ID", help="As `signals list` shows it.")],
    with_explanation: Annotated[
        bool, typer.Option("--explain", help="Also what each feature added; asks the model in a child process.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a signal: market, features, guards, policy, order, fills, outcome."""
    with plain_errors():
        answer = request("GET", f"/api/v1/signals/{signal_id}")
        explained = None
        if with_explanation:
            path = f"/api/v1/signals/{signal_id}/explanation"
            explained = request("GET", path, answers=REFUSED, seconds=EXPLAIN_SECONDS)
        if as_json:
            print_json({**answer, **({"explanation": explained} if explained else {})})
            return
        from model_service.cli import signal_detail_page, signal_page, tables

        console = tables.make_console()
        for part in signal_detail_page.page(answer):
            console.print(part)
        for part in signal_page.added(explained, ascii_only=console.options.ascii_only):
            console.print(part)


@signals_app.command()
def explain(
    signal_id: Annotated[
        UUID, typer.Argument(metavar="SIGNAL_ID", help="As `signals list` shows it, or a stored draw of `none`.")
    ],
    version: Annotated[str | None, typer.Option(help="Ask this version, not the one that decided.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every feature.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each feature added to what the model said of a signal, for both sides."""
    with plain_errors():
        query = f"?{urlencode({'version': version})}" if version else ""
        path = f"/api/v1/signals/{signal_id}/explanation{query}"
        answer = request("GET", path, seconds=EXPLAIN_SECONDS)
        if as_json:
            print_json(answer)
            return
        from model_service.cli import signal_page, tables

        console = tables.make_console()
        for part in signal_page.page(answer, everything=everything, ascii_only=console.options.ascii_only):
            console.print(part)
