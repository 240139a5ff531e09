"""How a run looks while it is watched: a bar on a terminal, plain lines into a file, or one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model_service.cli import tables, version_page, version_rows
from model_service.cli.errors import ExitCode
from model_service.models.verdict import judged

Run = Mapping[str, Any]
LOOK_EVERY_SECONDS = 0.5
UNDER_WAY = ("requested", "preparing", "fitting", "evaluating")
EXIT_BY_STATE = {
    "promoted": ExitCode.OK, "rejected": ExitCode.REFUSED, "refused": ExitCode.REFUSED, "skipped": ExitCode.REFUSED,
    "failed": ExitCode.FAILED, "cancelled": ExitCode.FAILED, "superseded": ExitCode.FAILED,
}  # fmt: skip
_ROUND = re.compile(r"(?P<what>round|trial|tree) (?P<done>\d+) of (at most )?(?P<most>\d+)")


class Screen(Protocol):
    """Where a watched run is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def show(self, run: Run) -> None:
        """The run as it is now; one that has ended is shown with its verdict."""


def states(run_id: str, look: Callable[[str], Run], pause: Callable[[float], None]) -> Iterator[Run]:
    """The run whenever something of it has changed, to its end; a newer run that takes its place is followed."""
    before: Run | None = None
    while True:
        run = look(run_id)
        if run != before:
            yield run
        before = run
        if run["state"] == "superseded" and run["superseded_by"]:
            run_id = run["superseded_by"]
        elif run["state"] not in UNDER_WAY:
            return
        pause(LOOK_EVERY_SECONDS)


def exit_code(run: Run) -> ExitCode:
    """What the command ends with when the run has ended so."""
    return EXIT_BY_STATE.get(run["state"], ExitCode.FAILED)


def screen_for(*, as_json: bool) -> Screen:
    """The screen that fits standard output."""
    console = tables.make_console()
    if as_json:
        return JsonLines()
    return Bar(console) if console.is_terminal else Lines(console)


class JsonLines(AbstractContextManager["JsonLines"]):
    """One object a line: `progress` while it goes on, `ended` at its end; both hold the run as the interface has it."""

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def show(self, run: Run) -> None:
        """One line."""
        ended = run["state"] not in UNDER_WAY
        known = {"exit_code": int(exit_code(run))} if ended else {}
        typer.echo(json.dumps({"event": "ended" if ended else "progress", **known, **run}))


class Lines(AbstractContextManager["Lines"]):
    """A line for each phase and each step of it; the verdict at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""
        self._rows_told = False

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def show(self, run: Run) -> None:
        """What is new."""
        if run["dataset_report"] and not self._rows_told:
            self._rows_told = True
            self._console.print(tables.line(rows_line(run["dataset_report"])), soft_wrap=True)
        if run["state"] not in UNDER_WAY:
            show_verdict(self._console, run)
            return
        text = f"{100 * run['progress']:3.0f} %  {run['state']}: {run['progress_note'] or 'waiting for its turn'}"
        if text != self._said:
            self._said = text
            self._console.print(tables.line(text), soft_wrap=True)


class Bar(AbstractContextManager["Bar"]):
    """A moving bar with the phase, the round, the time that is left and the rows; the verdict in its place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.fields[phase]}"), BarColumn(bar_width=24), TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[step]}"), TimeElapsedColumn(), TextColumn("left, at most"), TimeRemainingColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._rows_told = False

    def __enter__(self) -> Self:
        """Begin to move."""
        self._progress.start()
        self._task = self._progress.add_task("", total=1.0, phase="waiting", step="")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def show(self, run: Run) -> None:
        """Where it is."""
        assert self._task is not None, "it is entered before it shows anything"
        if run["dataset_report"] and not self._rows_told:
            self._rows_told = True
            self._console.print(tables.line(rows_line(run["dataset_report"])))
        if run["state"] not in UNDER_WAY:
            self._progress.stop()
            show_verdict(self._console, run)
            return
        phase = "waiting" if run["state"] == "requested" else run["state"]
        self._progress.update(self._task, completed=run["progress"], phase=phase, step=step_of(run["progress_note"]))


def step_of(note: str | None) -> str:
    """The step of a phase, short enough to stand beside a bar.

    >>> step_of("round 30 of at most 400"), step_of("xgboost on 1172 rows"), step_of(None)
    ('round 30 of 400', '', '')
    """
    found = _ROUND.search(note or "")
    return f"{found['what']} {found['done']} of {found['most']}" if found else ""


def rows_line(report: Mapping[str, Any]) -> str:
    """Rows kept and dropped, and why.

    >>> rows_line({"rows": 2003, "rows_train": 1172, "rows_test": 370, "purged": 93, "dropped": {"not_yet_known": 2}})
    'rows: kept 1,542 of 2,005; dropped 93 purged, 2 not yet known'
    """
    kept = sum(report.get(f"rows_{name}", 0) for name in version_rows.BLOCKS)
    dropped = {name: report.get(name, 0) for name in ("purged", "embargoed")} | dict(report.get("dropped") or {})
    of = report.get("rows", kept) + sum((report.get("dropped") or {}).values())
    reasons = [f"{number:,} {tables.words(name)}" for name, number in dropped.items() if number]
    return f"rows: kept {kept:,} of {of:,}" + (f"; dropped {', '.join(reasons)}" if reasons else "")


def show_verdict(console: Console, run: Run) -> None:
    """The gate's table, and in words what became of the run."""
    if run["gate"]:
        console.print(version_page.gate(judged(run["gate"])))
        console.print()
    style = {"promoted": tables.GOOD, "superseded": ""}.get(run["state"], tables.BAD)
    console.print(tables.line(verdict(run), style))
    for shortfall in run["shortfalls"]:
        console.print(tables.line(f"- {shortfall}", tables.BAD))


def verdict(run: Run) -> str:
    """The end of a run in one sentence; for a rejected candidate its shortfalls follow."""
    version, strategy = run["version"], run["strategy_id"]
    match run["state"]:
        case "promoted":
            return f"promoted: {version} speaks for {strategy}"
        case "rejected":
            reason = f": {run['error_hint']}" if run["error_hint"] else ""
            return f"rejected: {version} may not speak for {strategy}{reason}"
        case "superseded":
            return f"superseded by run {run['superseded_by']}, which is watched from here on"
        case state:
            return f"{state}: {run['error_code'] or 'no code'}: {run['error_hint'] or run['reason']}"
