"""What the commands say about a running service."""

from __future__ import annotations

import socket
import urllib.error

from model_service.cli.remote_text import cause, status_lines

COUNTS = {"signals": 12, "fills": 7, "outcomes": 3, "training_runs": 1}
STRATEGIES = {
    "strategies": [
        {"strategy_id": "momentum_v1", "state": "enabled", "mode": "warmup", "active_version": None, "counts": COUNTS}
    ]
}
WELL: tuple[dict[str, list[str]], dict[str, list[str]]] = ({"notices": []}, {"reasons": []})
FIRST_LINE = "momentum_v1: warmup, version none; 12 signals, 7 fills, 3 outcomes"


def test_a_service_that_is_well_has_a_line_for_each_strategy_and_the_training() -> None:
    assert list(status_lines(STRATEGIES, {"current_training": None}, *WELL)) == [FIRST_LINE, "training: none"]


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
    assert list(lines) == [FIRST_LINE, "training: 50 %", "not ready: broker", "notice: no orders"]


def test_a_failed_connection_is_told_without_python() -> None:
    assert cause(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))) == "Connection refused"
    assert cause(urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))) == "Name or service not known"
    assert cause(ConnectionResetError("closed without an answer")) == "closed without an answer"
