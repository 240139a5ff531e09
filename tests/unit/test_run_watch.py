"""Watching a run: what is shown while it goes on, which run is followed, and what the end means."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from model_service.cli import run_watch
from model_service.cli.errors import ExitCode
from tests.support.version_answers import version_answer

REPORT = {"rows": 2003, "rows_train": 1172, "rows_test": 370, "purged": 93, "embargoed": 0, "dropped": {"strange": 2}}


def run(state: str, **changes: Any) -> dict[str, Any]:
    known = {
        "run_id": "r1", "strategy_id": "momentum_v1", "state": state, "progress": 0.0, "progress_note": None,
        "reason": "asked for", "error_code": None, "error_hint": None, "version": None, "superseded_by": None,
        "dataset_report": None, "gate": None, "shortfalls": [],
    }  # fmt: skip
    return {**known, **changes}


def watched(*answers: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The states that are shown, and the runs that were asked for."""
    asked: list[str] = []
    waiting = iter(answers)

    def look(run_id: str) -> dict[str, Any]:
        asked.append(run_id)
        return next(waiting)

    return [dict(state) for state in run_watch.states("r1", look, lambda _: None)], asked


def test_only_what_is_new_is_shown_and_the_end_ends_it() -> None:
    waiting, fitting, done = run("requested"), run("fitting", progress=0.5), run("promoted", version="v1")
    shown, asked = watched(waiting, waiting, fitting, fitting, done, run("failed"))
    assert shown == [waiting, fitting, done]
    assert asked == ["r1"] * 5


def test_a_run_that_takes_its_place_is_followed() -> None:
    old, new = run("superseded", superseded_by="r2"), run("rejected", run_id="r2")
    shown, asked = watched(run("fitting"), old, new)
    assert shown == [run("fitting"), old, new]
    assert asked == ["r1", "r1", "r2"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("promoted", ExitCode.OK), ("rejected", ExitCode.REFUSED), ("refused", ExitCode.REFUSED),
        ("failed", ExitCode.FAILED), ("cancelled", ExitCode.FAILED),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_verdict(state: str, code: ExitCode) -> None:
    assert run_watch.exit_code(run(state)) == code


def rejected() -> dict[str, Any]:
    answer = version_answer(good=False)
    return run("rejected", version="v7", gate=answer["gate"], shortfalls=answer["shortfalls"], dataset_report=REPORT)


def on_screen(screen: type[run_watch.Lines] | type[run_watch.Bar], *states: dict[str, Any], terminal: bool) -> str:
    output = io.StringIO()
    with screen(Console(file=output, width=100, force_terminal=terminal, markup=False, highlight=False)) as shown:
        for state in states:
            shown.show(state)
    return output.getvalue()


STATES = (
    run("requested"),
    run("preparing", progress_note="started"),
    run("fitting", progress=0.2, progress_note="round 30 of at most 400", dataset_report=REPORT),
    run("fitting", progress=0.2, progress_note="round 30 of at most 400", dataset_report=REPORT, reason="other"),
    rejected(),
)


def test_a_file_gets_plain_lines_each_once_then_the_gate_and_the_verdict() -> None:
    lines = on_screen(run_watch.Lines, *STATES, terminal=False).splitlines()
    assert lines[:4] == [
        "  0 %  requested: waiting for its turn",
        "  0 %  preparing: started",
        "rows: kept 1,542 of 2,005; dropped 93 purged, 2 strange",
        " 20 %  fitting: round 30 of at most 400",
    ]
    assert lines[5].startswith("Gate: ")
    said = rejected()["shortfalls"]
    assert " ".join(" ".join(lines).split()).endswith(" ".join(f"- {one}" for one in said))
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("screen", [run_watch.Lines, run_watch.Bar])
def test_the_rows_are_told_also_of_a_run_that_was_over_before_one_could_look(screen: Any) -> None:
    assert "rows: kept 1,542 of 2,005" in on_screen(screen, run("requested"), rejected(), terminal=False)


def test_a_terminal_gets_a_bar_with_phase_and_round() -> None:
    text = on_screen(run_watch.Bar, *STATES, terminal=True)
    assert "rows: kept 1,542 of 2,005" in text
    assert "rejected: v7 may not speak for momentum_v1" in text
    bar = on_screen(run_watch.Bar, *STATES[:3], terminal=True)
    for word in ("waiting", "fitting", "20 %", "round 30 of 400", "left"):
        assert word in bar, word


def test_json_lines_hold_the_run_and_end_with_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with run_watch.JsonLines() as screen:
        for state in STATES:
            screen.show(state)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 4 + ["ended"]
    assert (lines[-1]["exit_code"], lines[-1]["state"], "exit_code" in lines[0]) == (7, "rejected", False)
    assert lines[2]["dataset_report"] == REPORT


@pytest.mark.parametrize(
    ("ended", "sentence"),
    [
        (run("promoted", version="v1"), "promoted: v1 speaks for momentum_v1"),
        (run("failed", error_code="timeout", error_hint="It took too long."), "failed: timeout: It took too long."),
        (run("refused", error_code="one_class", error_hint="all won"), "refused: one_class: all won"),
        (run("superseded", superseded_by="r2"), "superseded by run r2, which is watched from here on"),
    ],
)
def test_the_end_is_one_sentence(ended: dict[str, Any], sentence: str) -> None:
    assert run_watch.verdict(ended) == sentence


def test_a_step_is_found_in_the_note_of_any_family() -> None:
    notes = ["round 30 of at most 400", "trial 3 of 20: round 5", "xgboost on 1172 rows", None]
    assert [run_watch.step_of(note) for note in notes] == ["round 30 of 400", "trial 3 of 20", "", ""]
