"""`model-service signals`: what was signalled, from what, and why a model said so."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import ExitCode, plain_errors

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
    with_replay: Annotated[
        bool, typer.Option("--replay", help="Also decide it again from what was stored; exit code 1 when it differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a signal: market, features, guards, policy, order, fills, outcome."""
    with plain_errors():
        answer = request("GET", f"/api/v1/signals/{signal_id}")
        explained = _also(signal_id, "explanation") if with_explanation else None
        replayed = _also(signal_id, "replay") if with_replay else None
        if as_json:
            more = {"explanation": explained, "replay": replayed}
            print_json({**answer, **{name: value for name, value in more.items() if value is not None}})
        else:
            _show(answer, explained, replayed)
    if replayed is not None and replayed.get("identical") is False:
        raise typer.Exit(ExitCode.FAILED)


def _also(signal_id: UUID, what: str) -> Any:
    """More of a signal; a refusal is an answer, since the rest can be shown all the same."""
    return request("GET", f"/api/v1/signals/{signal_id}/{what}", answers=REFUSED, seconds=EXPLAIN_SECONDS)


def _show(answer: Any, explained: Any, replayed: Any) -> None:
    from model_service.cli import signal_detail_page, signal_page, tables

    console = tables.make_console()
    added = signal_page.added(explained, ascii_only=console.options.ascii_only)
    for part in (*signal_detail_page.page(answer), *added, *signal_detail_page.replay(replayed)):
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
