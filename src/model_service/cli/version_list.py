"""Versions as a list in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from model_service.cli import tables


def listing(models: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each version, a star before those that speak: accuracy with its interval, and what the gate said."""
    shown = tables.table("", "version", "strategy", "type", "accuracy", "interval", "gate", numbers=["accuracy"])
    for row in models:
        summary = row["quality_metrics_summary"]
        ends = tables.interval(summary.get("accuracy_lower"), summary.get("accuracy_upper"))
        gate = Text("passed", tables.GOOD) if row["gate_passed"] else tables.line(row["rejection"] or "-", tables.BAD)
        shown.add_row(
            "*" if row["is_active"] else "", row["version"], tables.line(row["strategy_id"] or "-"), row["model_type"],
            tables.number(summary.get("accuracy")), ends, gate,
        )  # fmt: skip
    return shown
