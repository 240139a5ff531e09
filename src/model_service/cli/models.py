"""Commands about versions: look at them, compare them, verify their files, let them speak, put an earlier one back."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.cli.remote import AsJson

models_app = typer.Typer(no_args_is_help=True)
Reason = Annotated[str, typer.Option(help="Why; kept with the activation and in the audit log.")]
Expected = Annotated[
    str | None,
    typer.Option("--expected-version", help="Only if this version is active until then; none: no version."),
]
PAGE = 1000
SHOWN_PROGRESS = 20
"""From so many versions on, a verification says on standard error how far it is."""
SLOW_SECONDS = 120.0
DAMAGED = "damaged"


@models_app.command("list")
def list_models(
    strategy: Annotated[str | None, typer.Option(help="Only of this strategy.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only what speaks, or does not.")] = None,
    model_type: Annotated[str | None, typer.Option("--type", help="Only of this type, such as xgboost.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE)] = 100,
    as_json: AsJson = False,
) -> None:
    """List versions, newest first."""
    with plain_errors():
        asked = {"strategy_id": strategy, "is_active": active, "model_type": model_type, "limit": limit}
        answer = request("GET", f"/api/v1/models?{_query(asked)}")
        if as_json:
            print_json(answer)
            return
        if not answer["models"]:
            typer.echo("no versions yet" if strategy is None else f"no versions of {strategy} yet")
            return
        from model_service.cli import tables, version_list

        tables.make_console().print(version_list.listing(answer["models"]))
        if answer["total"] > len(answer["models"]):
            typer.echo(f"{len(answer['models'])} of {answer['total']:,}; --limit shows more")


@models_app.command()
def show(
    version: str,
    everything: Annotated[bool, typer.Option("--all", help="Every feature, and the training configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one version: the gate's conditions, metrics with intervals, calibration, importance, the rows."""
    with plain_errors():
        answer = _detail(version)
        if as_json:
            print_json(answer)
            return
        from model_service.cli import tables, version_page

        console = tables.make_console()
        for part in version_page.page(answer, everything=everything, ascii_only=console.options.ascii_only):
            console.print(part)


@models_app.command()
def diff(first: str, second: str, as_json: AsJson = False) -> None:
    """Compare two versions: metrics with intervals, hyperparameters, features, rows, the gate."""
    with plain_errors():
        answers = _detail(first), _detail(second)
        from model_service.cli import version_diff

        if as_json:
            print_json(version_diff.difference(*answers))
            return
        from model_service.cli import tables

        console = tables.make_console()
        for part in version_diff.page(*answers):
            console.print(part)


@models_app.command()
def compare(first: str, second: str, as_json: AsJson = False) -> None:
    """Ask two versions of the same stored outcomes, of those that neither was fitted on."""
    with plain_errors():
        path = f"{quote(first, safe='')}/comparison/{quote(second, safe='')}"
        answer = request("GET", f"/api/v1/models/{path}")
        if as_json:
            print_json(answer)
            return
        from model_service.cli import tables, version_comparison

        console = tables.make_console()
        for part in version_comparison.page(answer):
            console.print(part)


@models_app.command()
def history(
    strategy: Annotated[str | None, typer.Option(help="Only of this strategy.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show which version took the word when, from which one, by whom and why; newest first."""
    with plain_errors():
        where = "/api/v1" if strategy is None else f"/api/v1/strategies/{quote(strategy, safe='')}"
        answer = request("GET", f"{where}/activations?limit={limit}")
        if as_json:
            print_json(answer)
            return
        if not answer["activations"]:
            typer.echo("no version has spoken yet")
            return
        from model_service.cli import tables, version_list

        tables.make_console().print(version_list.history(answer["activations"]))


@models_app.command()
def verify(
    versions: Annotated[list[str] | None, typer.Argument(help="vN ...; all when none is named.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read every file of the versions and compare it with what was judged; exit code 1 if any differs."""
    with plain_errors():
        found = list(_verifications(versions or [row["version"] for row in _all_versions()]))
        if as_json:
            print_json({"versions": found, "damaged": sum(one["state"] == DAMAGED for one in found)})
        elif not found:
            typer.echo("no versions yet")
        else:
            from model_service.cli import tables, version_list

            console = tables.make_console()
            for part in version_list.verifications(found):
                console.print(part)
        if any(one["state"] == DAMAGED for one in found):
            raise typer.Exit(ExitCode.FAILED)


@models_app.command()
def promote(
    version: str,
    strategy: Annotated[str | None, typer.Option(help="Strategy that it shall speak for.")] = None,
    force: Annotated[bool, typer.Option(help="Override the gate; recorded with your name and reason.")] = False,
    reason: Reason = "asked for at the terminal",
    expected: Expected = None,
) -> None:
    """Let a version speak."""
    with plain_errors():
        wish = {"strategy_id": strategy, "force": force, "reason": reason, **_asking(expected)}
        request("POST", f"/api/v1/models/{quote(version, safe='')}", wish)
        typer.echo(f"{version} is active")


@models_app.command()
def rollback(
    strategy: Annotated[str, typer.Option(help="Strategy whose version shall be put back.")],
    to: Annotated[str | None, typer.Option(help="The version to go back to; the one that spoke before.")] = None,
    reason: Reason = "asked for at the terminal",
    expected: Expected = None,
) -> None:
    """Let an earlier version speak again."""
    with plain_errors():
        wish = {"reason": reason, "version": to, **_asking(expected)}
        answer = request("POST", f"/api/v1/strategies/{quote(strategy, safe='')}/rollback", wish)
        typer.echo(f"{answer['version']} is active")


def _asking(expected: str | None) -> dict[str, Any]:
    return {"actor": _user(), "expected_version": expected}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None


def _detail(version: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = request("GET", f"/api/v1/models/{quote(version, safe='')}")
    return answer


def _query(asked: Mapping[str, Any]) -> str:
    known = {name: str(value).lower() if isinstance(value, bool) else value for name, value in asked.items()}
    return urlencode({name: value for name, value in known.items() if value is not None})


def _all_versions() -> Iterator[Mapping[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        answer = request("GET", f"/api/v1/models?limit={PAGE}&offset={offset}")
        yield from answer["models"]
        offset, total = offset + PAGE, answer["total"]


def _verifications(versions: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for number, version in enumerate(versions, 1):
        if len(versions) >= SHOWN_PROGRESS:
            _tell(f"verifying {number:,} of {len(versions):,}: {version}", last=number == len(versions))
        path = f"/api/v1/models/{quote(version, safe='')}/verification"
        answer = request("GET", path, seconds=SLOW_SECONDS)
        if not isinstance(answer, Mapping):
            raise CommandFailed(ExitCode.FAILED, f"{path} answered with something else than a verification.")
        yield answer


def _tell(text: str, *, last: bool) -> None:
    """On one line of a terminal, and nothing but its end elsewhere: a log does not need ten thousand lines."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        sys.stderr.flush()
    elif last:
        typer.echo(text, err=True)
