"""`model-service train`: ask for a run, and watch one until its verdict."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from model_service.cli import run_watch
from model_service.cli.client import print_json, request
from model_service.cli.errors import CommandFailed, ExitCode, plain_errors

INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""
PATIENCE_SECONDS = 60.0
"""So long may a service that is watched be away, as it is while it is started again."""


def train(
    strategy: Annotated[str | None, typer.Option(help="Strategy to train for.")] = None,
    training_type: Annotated[str, typer.Option("--type", help="full or incremental")] = "full",
    watch: Annotated[bool, typer.Option("--watch", help="Show how far it is, and the verdict.")] = False,
    run: Annotated[str | None, typer.Option(help="Watch this run, and ask for none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one object a line.")] = False,
) -> None:
    """Ask for a training run now.

    With --watch the exit code is the verdict: 0 promoted, 7 rejected by the gate or refused for its data, 1 failed.
    Ctrl-C ends the watching, not the run.
    """
    if (strategy is None) == (run is None):
        raise typer.BadParameter("name either a strategy to train for, or a run to watch", param_hint="--strategy")
    with plain_errors():
        run_id = run if run is not None else _asked_for(str(strategy), training_type, as_json=as_json, quiet=watch)
        if watch or run is not None:
            raise typer.Exit(_watch(run_id, as_json=as_json))


def _asked_for(strategy: str, training_type: str, *, as_json: bool, quiet: bool) -> str:
    """The identifier of a new run."""
    answer = request("POST", "/api/v1/training/trigger", {"strategy_id": strategy, "training_type": training_type})
    if quiet:
        return str(answer["training_id"])
    print_json(answer) if as_json else typer.echo(f"{answer['status']}: run {answer['training_id']}")
    return str(answer["training_id"])


def _watch(run_id: str, *, as_json: bool) -> int:
    screen = run_watch.screen_for(as_json=as_json)
    watching = run_id
    try:
        with screen:
            for state in run_watch.states(run_id, _patiently, time.sleep):
                watching = state["run_id"]
                screen.show(state)
    except KeyboardInterrupt:
        typer.echo(
            f"\nNo longer watched; the run goes on. To watch it again: model-service train --run {watching}", err=True
        )
        return INTERRUPTED
    return int(run_watch.exit_code(state))


def _patiently(run_id: str) -> Any:
    """A run as it is now, also when the service has to be waited for. Raises CommandFailed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return request("GET", f"/api/v1/training/runs/{quote(run_id, safe='')}")
        except CommandFailed as error:
            if error.code not in (ExitCode.DEPENDENCY_AWAY, ExitCode.TIMEOUT) or time.monotonic() > deadline:
                raise
            time.sleep(run_watch.LOOK_EVERY_SECONDS)
