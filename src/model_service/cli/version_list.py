"""Versions as lists in the terminal: what there is, who took the word, and how the files stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
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


def history(activations: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each change: when, whose, from which version to which, by whom and why."""
    shown = tables.table("when", "strategy", "from", "to", "by", "why")
    for row in activations:
        why = tables.line(row["reason"])
        if row["forced"]:
            why.append_text(tables.line(" (forced past the gate)", tables.BAD))
        shown.add_row(
            tables.moment(row["activated_at"]), tables.line(row["strategy_id"] or "(general)"),
            row["previous_version"] or "warm-up", row["version"] or "warm-up", tables.line(row["actor"]), why,
        )  # fmt: skip
    return shown


def verifications(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """A row for each version, the faults of its files below it; then a line that counts."""
    shown = tables.table("version", "state", "files", "bytes", "", numbers=["files", "bytes"])
    for one in found:
        good = one["state"] != "damaged"
        faults = "\n".join(file["fault"] for file in one["files"] if file["fault"])
        if one["files_removed_at"]:
            faults = f"by retention, {tables.moment(one['files_removed_at'])}"
        read = sum(file["found_bytes"] or 0 for file in one["files"])
        shown.add_row(
            one["version"], Text(one["state"], tables.GOOD if one["state"] == "intact" else "" if good else tables.BAD),
            str(len(one["files"])), f"{read:,}", tables.line(faults),
        )  # fmt: skip
    yield shown
    damaged = sum(one["state"] == "damaged" for one in found)
    yield tables.line(f"{len(found):,} verified, {damaged:,} damaged", tables.BAD if damaged else tables.GOOD)
