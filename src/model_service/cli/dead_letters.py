"""`model-service dlq`: messages that could not be understood. Works on the database, also while the service is down."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_service.cli import dead_letter_text as text
from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.cli.settings import settings_from_environment

if TYPE_CHECKING:
    from model_service.config.settings import Settings
    from model_service.consumers.dead_letter_desk import DeadLetterDesk
    from model_service.database.connection import Database

dlq_app = typer.Typer(no_args_is_help=True)

LARGEST_ID = 2**63 - 1
"""Of PostgreSQL's bigint."""


def _storable(value: str | None) -> str | None:
    """Bytes of the command line that are no UTF-8 come as lone surrogates, which PostgreSQL does not store."""
    if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
        raise typer.BadParameter("the text must be UTF-8")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", min=1, max=LARGEST_ID, help="Numbers, as `list` shows them."),
]
Source = Annotated[str | None, typer.Option(callback=_storable, help="Only letters from this queue.")]
ReasonCode = Annotated[
    str | None,
    typer.Option("--reason", "--reason-code", callback=_storable, help="Only letters with this code."),
]
EXIT_BY_OUTCOME = {
    "not_found": ExitCode.NOT_FOUND,
    "not_requeueable": ExitCode.REFUSED,
    "still_refused": ExitCode.FAILED,
}
"""In this order: a command about several letters ends with the first code that fits one of them."""
NOT_DROPPED = {
    "not_found": "There is no dead letter {}.",
    "already_closed": "It was requeued or dropped before; nothing was changed.",
}


@dlq_app.command("list")
def list_letters(
    source: Source = None,
    reason: ReasonCode = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were requeued or dropped.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Letters at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List letters, last seen first."""

    async def work(database: Database, _: Settings) -> None:
        from model_service.database import queries

        page = await queries.dead_letters(
            database, source=source, reason_code=reason, closed=everything, limit=limit, offset=0
        )
        if as_json:
            letters = [text.as_json(row, full=False) for row in page.rows]
            return _print_json({"dead_letters": letters, "total": page.total, "limit": limit})
        typer.echo("\n".join(text.table(page.rows)) or "no dead letters")
        if page.total > len(page.rows):
            typer.echo(f"{len(page.rows)} of {page.total}; --limit shows more", err=True)
        return None

    _with_database(work)


@dlq_app.command()
def show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=LARGEST_ID)],
    full: Annotated[bool, typer.Option(help="The whole message, however long.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show all of one letter; exit code 3 when there is no such one."""

    async def work(database: Database, _: Settings) -> None:
        from model_service.database import queries

        row = await queries.dead_letter(database, dead_letter_id)
        if row is None:
            raise CommandFailed(ExitCode.NOT_FOUND, f"There is no dead letter {dead_letter_id}.")
        _print_json(text.as_json(row, full=full)) if as_json else typer.echo("\n".join(text.details(row, full=full)))

    _with_database(work)


@dlq_app.command()
def requeue(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open letter of the execution queue.")] = False,
    reason: ReasonCode = None,
    as_json: AsJson = False,
) -> None:
    """Decode and record letters again; an event that is known counts once.

    Exit code 1 when a letter is still refused, 7 for letters of another queue, 3 when there is no such letter.
    """
    _check_choice(ids, everything, filtered=reason is not None)

    async def work(database: Database, settings: Settings) -> None:
        desk = _desk(database, settings)

        async def act(dead_letter_id: int) -> text.Result:
            result = await desk.requeue(dead_letter_id, actor=_actor(), now=datetime.now(UTC))
            return text.Result(dead_letter_id, result.outcome.value, result.reason)

        await _each(await desk.requeueable(reason) if everything else _once(ids), act, as_json)

    _with_database(work)


@dlq_app.command()
def drop(
    why: Annotated[str, typer.Option(callback=_storable, help="Kept in the audit log.")],
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open letter that the filters leave.")] = False,
    source: Source = None,
    reason: ReasonCode = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Close letters without using them. They stay in the table: `list --all` shows them."""
    _check_choice(ids, everything, filtered=source is not None or reason is not None)

    async def work(database: Database, settings: Settings) -> None:
        desk = _desk(database, settings)
        chosen = await desk.droppable(source, reason) if everything else _once(ids)
        if chosen:
            _confirm(f"Drop {len(chosen)} dead letter(s)?", yes)

        async def act(dead_letter_id: int) -> text.Result:
            outcome = (await desk.drop(dead_letter_id, actor=_actor(), why=why, now=datetime.now(UTC))).value
            reason = NOT_DROPPED[outcome].format(dead_letter_id) if outcome in NOT_DROPPED else None
            return text.Result(dead_letter_id, outcome, reason)

        await _each(chosen, act, as_json)

    _with_database(work)


async def _each(ids: Sequence[int], act: Callable[[int], Awaitable[text.Result]], as_json: bool) -> None:
    """Do it to one after the other and say what came of each; ends with the exit code that EXIT_BY_OUTCOME says."""
    results = []
    for dead_letter_id in ids:
        results.append(await act(dead_letter_id))
        if not as_json:
            typer.echo(text.line(results[-1]))
    if as_json:
        _print_json({"results": [asdict(result) for result in results], "total": len(results)})
    elif not results:
        typer.echo("no dead letters")
    outcomes = {result.outcome for result in results}
    raise typer.Exit(next((int(code) for outcome, code in EXIT_BY_OUTCOME.items() if outcome in outcomes), 0))


def _desk(database: Database, settings: Settings) -> DeadLetterDesk:
    from model_service.consumers.dead_letter_desk import DeadLetterDesk
    from model_service.database.dead_letter_cases import DeadLetterCases
    from model_service.database.executions import ExecutionStore

    return DeadLetterDesk(DeadLetterCases(database), ExecutionStore(database), execution_queue=settings.execution_queue)


def _check_choice(ids: Sequence[int] | None, everything: bool, *, filtered: bool) -> None:
    if everything == bool(ids):
        raise typer.BadParameter("give numbers of letters, or --all", param_hint="ID")
    if ids and filtered:
        raise typer.BadParameter("filters go with --all", param_hint="--source, --reason")


def _once(ids: Sequence[int] | None) -> list[int]:
    return list(dict.fromkeys(ids or ()))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(ExitCode.USAGE, f"{question} Nobody is there to ask: say --yes. Nothing was dropped.")
    if not typer.confirm(question):
        raise CommandFailed(ExitCode.FAILED, "Nothing was dropped.")


def _actor() -> str:
    """Who sits at the terminal, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"cli:{os.getuid()}"  # a user without a name, as in some containers


def _with_database(work: Callable[[Database, Settings], Awaitable[None]]) -> None:
    with plain_errors():
        settings = settings_from_environment(os.environ)
        from model_service.database.addresses import open_database

        async def session() -> None:
            async with open_database(settings) as database:
                await work(database, settings)

        asyncio.run(session())


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
