"""Live quality of one strategy as a page in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from model_service.cli import tables

Answer = Mapping[str, Any]
TOP_FEATURES = 10


def page(answer: Answer) -> Iterator[RenderableType]:
    """Who speaks, the window, the detectors, drift, and the last fall."""
    yield tables.line(f"{answer['strategy_id']}: {_speaker(answer)}", "bold")
    if answer["window"] is not None:
        yield metrics(answer)
        yield detectors(answer)
    if answer["drift"] is not None:
        yield drift(answer["drift"])
    if answer["last_fallback"] is not None:
        yield last_fallback(answer["last_fallback"])


def metrics(answer: Answer) -> RenderableType:
    """The numbers of the window, each with its interval."""
    window = answer["window"]
    shown = tables.table("", "value", "interval", numbers=["value", "interval"])
    for metric in answer["metrics"]:
        ends = tables.interval(metric["lower"], metric["upper"])
        shown.add_row(f"  {metric['metric_name']}", tables.number(metric["value"]), ends)
    levels = {metric["level"] for metric in answer["metrics"] if metric["level"]}
    notes = [f"{100 * level:.0f} % intervals over blocks of time" for level in sorted(levels)]
    if window["n"] and not levels:
        notes = ["no intervals: the outcomes span under five horizons"]
    title = f"Live, {window['n']:,} outcomes (the last {window['outcomes']}, or {window['hours']:g} hours if more)"
    return tables.section(title, shown, *(tables.line(note, tables.QUIET) for note in notes))


def detectors(answer: Answer) -> RenderableType:
    """What each reads and from where on it fires."""
    shown = tables.table("", "detector", "value", "fires", numbers=["value"])
    for one in answer["detectors"]:
        mark = Text("FIRED", tables.BAD) if one["fired"] else Text("quiet", tables.GOOD)
        if one["value"] is None:
            mark = Text("-", tables.QUIET)
        fires = "" if one["threshold"] is None else f"{one['comparison']} {tables.number(one['threshold'])}"
        shown.add_row(
            mark, tables.words(one["detector"]), tables.number(one["value"]), tables.line(one["why"] or fires)
        )
    return tables.section("Detectors", shown)


def drift(report: Answer) -> RenderableType:
    """The features that have drifted farthest."""
    if not report["features"]:
        return tables.section("Drift of features", tables.line(report["why"], tables.QUIET))
    shown = tables.table("feature", "PSI", "KS", "unknown", "in training", numbers=["PSI", "KS", "unknown"])
    for one in report["features"][:TOP_FEATURES]:
        shown.add_row(
            tables.line(one["feature"]), tables.number(one["psi"]), tables.number(one["ks"]),
            f"{100 * one['unknown_share']:.1f} %", f"{100 * one['reference_unknown_share']:.1f} %",
        )  # fmt: skip
    title = f"Drift of features, {report['rows']:,} decisions against the training rows"
    return tables.section(title, shown)


def last_fallback(fallen: Answer) -> RenderableType:
    """Who fell last, when and by what."""
    evidence = fallen["evidence"] or {}
    fired = ", ".join(tables.words(str(one)) for one in evidence.get("fired", [])) or "no reading is recorded"
    text = f"{tables.moment(fallen['at'])}: {fallen['version']} gave way to {fallen['to'] or 'the warm-up'} ({fired})"
    return tables.section("Last fall", tables.line(text))


def _speaker(answer: Answer) -> str:
    if answer["version"] is None:
        return "no model speaks"
    return f"{answer['version']} speaks since {tables.moment(answer['since'])}, {answer['outcomes']:,} live outcomes"
