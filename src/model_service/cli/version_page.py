"""One version as a page in the terminal: who it is, what the gate said, how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from model_service.cli import tables, version_evidence, version_rows
from model_service.models.job import GateCondition
from model_service.models.verdict import digits, judged, margin, requirement, value_of

Answer = Mapping[str, Any]


def page(version: Answer, *, everything: bool, ascii_only: bool = False) -> Iterator[RenderableType]:
    """The whole page, part by part; `everything` also lists what is long and rarely asked for."""
    yield header(version)
    if version["gate"]:
        yield gate(judged(version["gate"]))
    yield from metrics(version["quality_metrics"], version["report"].get("metrics_left_out") or {})
    yield from version_evidence.sections(version["report"], everything=everything, ascii_only=ascii_only)
    yield from version_rows.sections(version, everything=everything)
    if not everything:
        yield Text("\n--all shows every feature and the training configuration, --json the whole answer", tables.QUIET)


def header(version: Answer) -> RenderableType:
    """What it is, whether it speaks, and if it may not, by how much it missed."""
    config = version["training_config"]
    kind = "increment of " + version["parent_version"] if version["parent_version"] else "full training"
    rows = f"{version['training_dataset_size'] or 0:,} rows"
    if "rows_train" in version["report"]:
        rows += f", {version['report']['rows_train']:,} of them fitted"
    seconds = version["training_duration_seconds"] or 0
    facts = [
        f"{version['model_type']} for {version['strategy_id'] or 'any strategy'}, {kind}",
        f"trained {tables.moment(version['trained_at'])} in {seconds:,} s from {rows}",
        f"features {version['feature_set']}, code {config.get('code_version', '-')}, {version['file_path']}",
    ]
    return Group(
        Text.assemble((version["version"], "bold"), "  ", _standing(version)),
        *(tables.line(fact) for fact in facts),
        *(tables.line(f"- {text}", tables.BAD) for text in version["shortfalls"]),
    )


def gate(conditions: Sequence[GateCondition]) -> RenderableType:
    """Condition by condition: value, what is asked for, and the distance, below 0 where it missed."""
    shown = tables.table("", "", "condition", "value", "asked for", "margin", numbers=["value", "margin"])
    for condition in conditions:
        style = tables.GOOD if condition.passed else tables.BAD
        name = tables.line(condition.condition)
        if condition.detail:
            name.append_text(tables.line(f"\n{condition.detail}", tables.QUIET))
        shown.add_row(
            Text("pass" if condition.passed else "FAIL", style), str(condition.number), name,
            Text(value_of(condition), style), requirement(condition), _signed(margin(condition)),
        )  # fmt: skip
    failed = sum(not condition.passed for condition in conditions)
    verdict = "all conditions met" if not failed else f"{failed} of {len(conditions)} conditions not met"
    return tables.section(f"Gate: {verdict}", shown)


def metrics(values: Sequence[Answer], left_out: Mapping[str, str]) -> Iterator[RenderableType]:
    """The latest value of each metric, of the test and of live trading, with its interval and how that was found."""
    for part, found in groupby(values, key=lambda value: str(value["slice"])):
        yield _metrics(part, list(found), left_out if part == "test" else {})


def _metrics(part: str, values: Sequence[Answer], left_out: Mapping[str, str]) -> RenderableType:
    methods = list(dict.fromkeys(_method(value) for value in values if value.get("method")))
    shown = tables.table("", "value", "interval", "how", numbers=["value", "interval"])
    for kind, found in groupby(values, key=lambda value: str(value["metric_type"])):
        shown.add_row(Text(tables.words(kind), tables.QUIET), "", "", "")
        for value in _with_bounds(list(found)):
            mark = str(methods.index(_method(value)) + 1) if value.get("method") else ""
            ends = tables.interval(value.get("lower"), value.get("upper"))
            shown.add_row(f"  {value['metric_name']}", tables.number(value["metric_value"]), ends, mark)
    notes = [f"{index}: {method}" for index, method in enumerate(methods, 1)]
    notes += [f"left out: {name}, {reason}" for name, reason in left_out.items()]
    return tables.section(
        f"Metrics, {part}{_of(values[0])}", shown, *(tables.line(note, tables.QUIET) for note in notes)
    )


def _of(value: Answer) -> str:
    """Over how many rows, and of which window where the numbers are live."""
    rows, about = value.get("evaluation_dataset_size"), value.get("metadata") or {}
    if rows is None:
        return ""
    if "window" not in about:
        return f" of {rows:,} rows"
    hours = f", or {about['window_hours']:g} hours if more" if "window_hours" in about else ""
    return f" of {rows:,} outcomes (the last {about['window']}{hours}) at {tables.moment(value['evaluated_at'])}"


def _with_bounds(values: Sequence[Answer]) -> Iterator[Answer]:
    """Live metrics keep the ends of an interval as metrics of their own; they belong beside what they bound."""
    known = {str(value["metric_name"]): value["metric_value"] for value in values}
    for value in values:
        name = str(value["metric_name"])
        base, _, end = name.rpartition("_")
        if end in ("lower", "upper") and base in known:
            continue
        bounds = {end: known[f"{name}_{end}"] for end in ("lower", "upper") if f"{name}_{end}" in known}
        yield {**value, **bounds}


def _method(value: Answer) -> str:
    return f"{100 * (value.get('level') or 0):.0f} % by {value['method']}"


def _standing(version: Answer) -> Text:
    if version["is_active"]:
        return Text("speaks now" + ("" if version["gate_passed"] else ", forced past the gate"), tables.GOOD)
    if version["gate_passed"]:
        return Text("has passed the gate, does not speak now")
    return Text(f"rejected: {version['rejection'] or 'no condition is recorded'}", tables.BAD)


def _signed(distance: float | None) -> str:
    return "" if distance is None else ("+" if distance > 0 else "") + digits(distance)
