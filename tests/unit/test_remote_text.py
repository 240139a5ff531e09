"""What the commands say about a running service."""

from __future__ import annotations

import socket
import urllib.error

from model_service.cli.remote_text import cause, status_lines

COUNTS = {"signals": 12, "fills": 7, "outcomes": 3, "training_runs": 1}
STRATEGIES = {
    "strategies": [
        {
            "strategy_id": "momentum_v1",
            "state": "enabled",
            "mode": "warmup",
            "active_version": None,
            "counts": COUNTS,
            "warmup": {"result": "-12.3456", "outcomes_wanted": 1997},
        }
    ],
    "halts": [],
}
WELL: tuple[dict[str, list[str]], dict[str, list[str]]] = ({"notices": []}, {"reasons": []})
FIRST_LINES = [
    "momentum_v1: warmup, version none; 12 signals, 7 fills, 3 outcomes",
    "  warm-up so far: -12.35 after fees; 1,997 outcomes wanted until the next training",
]


def test_a_service_that_is_well_has_a_line_for_each_strategy_and_the_training() -> None:
    assert list(status_lines(STRATEGIES, {"current_training": None}, *WELL)) == [*FIRST_LINES, "training: none"]


def test_a_strategy_that_was_taken_away_is_not_shown_as_one_that_decides() -> None:
    gone = {"strategies": [{**STRATEGIES["strategies"][0], "state": "removed"}]}
    first = next(status_lines(gone, {"current_training": None}, *WELL))
    assert first == "momentum_v1: removed, version none; 12 signals, 7 fills, 3 outcomes"


def test_what_does_not_work_and_what_is_switched_off_is_said() -> None:
    lines = status_lines(
        STRATEGIES,
        {"current_training": {"progress_percent": 50.0}},
        {"notices": ["no orders"]},
        {"reasons": ["broker"]},
    )
    assert list(lines) == [*FIRST_LINES, "training: 50 %", "not ready: broker", "notice: no orders"]


def test_what_is_stopped_is_said_with_how_it_ends() -> None:
    halt = {
        "strategy_id": None, "kind": "manual", "actor": "http", "reason": "fire", "started_at": "2026-03-02T12:00:00Z",
    }  # fmt: skip
    halts = [halt, {**halt, "strategy_id": "momentum_v1", "kind": "loss_limit", "actor": "service", "reason": "lost 9"}]
    lines = list(status_lines({**STRATEGIES, "halts": halts}, {"current_training": None}, *WELL))
    assert lines[2:4] == [
        "STOPPED: every strategy opens nothing since 2026-03-02T12:00:00Z (manual, http: fire); "
        "`model-service resume` ends it",
        "STOPPED: momentum_v1 opens nothing since 2026-03-02T12:00:00Z (loss_limit, service: lost 9); "
        "`model-service resume --strategy momentum_v1` ends it",
    ]


def test_a_failed_connection_is_told_without_python() -> None:
    assert cause(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))) == "Connection refused"
    assert cause(urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))) == "Name or service not known"
    assert cause(ConnectionResetError("closed without an answer")) == "closed without an answer"
