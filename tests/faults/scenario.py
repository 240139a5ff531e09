"""What a scenario came to: one JSON line each, printed together at the end of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.book import Verdict

PROPERTY = "fault-scenario"
FIELDS = ("name", "lost", "duplicated", "unexpected", "recovery_seconds", "passed")


@dataclass
class Scenario:
    """The line under way; what a scenario did not come to stays null."""

    line: dict[str, Any]

    def note(self, **more: object) -> None:
        """A figure that is printed beside the line, such as a percentile."""
        self.line["notes"].update(more)

    def conclude(
        self, verdict: Verdict, *, recovery_seconds: float | None = None, within_seconds: float | None = None
    ) -> None:
        """State the result. Raises AssertionError when it is not clean, or the recovery took too long."""
        self.line["lost"], self.line["duplicated"] = len(verdict.lost), len(verdict.duplicated)
        self.line["unexpected"] = len(verdict.unexpected)
        self.line["recovery_seconds"] = None if recovery_seconds is None else round(recovery_seconds, 2)
        assert verdict.is_clean, str(verdict)
        if within_seconds is not None:
            assert recovery_seconds is not None, "the recovery was not measured"
            assert recovery_seconds <= within_seconds, f"recovered after {recovery_seconds:.1f} s, not {within_seconds}"


def begin(item: pytest.Item) -> None:
    """Give a collected scenario its line, so that it has one whatever happens to it."""
    name = item.name.removeprefix("test_").replace("[", "_").rstrip("]")
    line: dict[str, Any] = {**dict.fromkeys(FIELDS), "name": name, "notes": {}}
    item.user_properties.append((PROPERTY, line))


def line_of(node: pytest.Item) -> dict[str, Any]:
    """The line that `begin` gave. Raises StopIteration for a test that is no scenario."""
    return next(value for name, value in node.user_properties if name == PROPERTY)  # type: ignore[misc]


def report(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """Figures beside the scenarios, then the lines of all that ran; `passed` is null where one was skipped."""
    lines: dict[str, dict[str, Any]] = {}
    for one in reports:
        for name, value in one.user_properties:
            if name == PROPERTY and isinstance(value, dict):
                _merge(lines.setdefault(one.nodeid, {**value, "passed": True}), value, one)
    for line in lines.values():
        yield from (f"{line['name']}: {name} {value}" for name, value in line["notes"].items())
    for line in lines.values():
        yield json.dumps({name: line[name] for name in FIELDS})


def _merge(line: dict[str, Any], newer: dict[str, Any], one: pytest.TestReport) -> None:
    for name in FIELDS[1:-1]:
        if newer[name] is not None:
            line[name] = newer[name]
    line["notes"] = {**line["notes"], **newer["notes"]}
    if one.failed:
        line["passed"] = False
    elif one.skipped and line["passed"]:
        line["passed"] = None
