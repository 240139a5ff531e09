"""The final table of a study, and the same as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from studies.findings import LEVEL, Finding


def print_table(findings: Sequence[Finding], command: str) -> None:
    """A table for people; notes stand below it, so that nothing is cut off."""
    console = Console(width=None if Console().is_terminal else 150)
    table = Table("study", "what", "asked", "reached", f"{100 * LEVEL:.0f} % interval", "n", "verdict")
    for finding in findings:
        interval = f"{_number(finding.lower)} .. {_number(finding.upper)}"
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[finding.passed]
        table.add_row(
            finding.study, finding.promise, finding.asked, _number(finding.reached), interval, str(finding.samples),
            verdict,
        )  # fmt: skip
    console.print(table)
    for finding in findings:
        if finding.note:
            console.print(f"{finding.study}, {finding.promise}: {finding.note}", highlight=False)
    console.print(f"again: {command}", highlight=False)


def print_json(findings: Sequence[Finding], command: str) -> None:
    """One JSON line per finding; what is not a number is null."""
    for finding in findings:
        numbers = {name: None if _is_nan(value) else value for name, value in asdict(finding).items()}
        print(json.dumps({**numbers, "command": command}), flush=True)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
