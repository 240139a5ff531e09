"""The rows that a version was made from, and how it was fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType

from model_service.cli import tables

Report = Mapping[str, Any]
SHOWN_UNKNOWN_SHARE = 0.05
BLOCKS = ("train", "early_stopping", "calibration", "test")
ELSEWHERE = frozenset({"importance", "calibration", "walk_forward", "baselines", "off_policy", "metrics_left_out"})
TOLD = frozenset(
    {"rows", "first_decided_us", "last_decided_us", "span_horizons", "rows_warmup", "rows_reduction", "share_of_wins",
     "rows_by_exit_rule", "dropped", "purged", "embargoed", "share_unknown_by_feature", "fingerprint"}
    | {f"rows_{name}" for name in BLOCKS}
)  # fmt: skip


def sections(version: Mapping[str, Any], *, everything: bool) -> Iterator[RenderableType]:
    """The report on the rows, the features that are often unknown, and on request the training configuration."""
    report = version["report"]
    yield tables.section("Rows", tables.facts(dataset_facts(report)))
    unknown = report.get("share_unknown_by_feature") or {}
    shown = {name: share for name, share in unknown.items() if everything or share > SHOWN_UNKNOWN_SHARE}
    if shown:
        ordered = sorted(shown.items(), key=lambda item: (-item[1], item[0]))
        title = "Unknown" if everything else f"Unknown in over {100 * SHOWN_UNKNOWN_SHARE:.0f} % of the rows"
        yield tables.section(title, tables.facts((name, f"{100 * share:.1f} %") for name, share in ordered))
    if everything:
        yield tables.section("Training configuration", tables.facts(tables.flat(version["training_config"])))


def dataset_facts(report: Report) -> Iterator[tuple[str, str]]:
    """What is known of the rows, by name; members of which this program has not heard come last, as they are."""
    if "rows" in report:
        yield (
            "rows",
            f"{report['rows']:,}, {report.get('rows_warmup', 0):,} of the warm-up, "
            + (f"{report.get('rows_reduction', 0):,} that reduced a position"),
        )
    if report.get("first_decided_us") is not None and report.get("last_decided_us") is not None:
        span = " to ".join(tables.of_microseconds(report[name]) for name in ("first_decided_us", "last_decided_us"))
        yield "span", f"{span}, {tables.number(report.get('span_horizons'))} horizons"
    if report.get("share_of_wins") is not None:
        share = report["share_of_wins"]
        yield "classes", f"{100 * share:.1f} % won, {100 * (1 - share):.1f} % lost"
    yield from _counts("exit rules", report.get("rows_by_exit_rule"))
    yield from _counts("blocks", {name: report[f"rows_{name}"] for name in BLOCKS if f"rows_{name}" in report})
    yield from _counts("borders", {name: report[name] for name in ("purged", "embargoed") if name in report})
    yield from _counts("dropped", report.get("dropped"))
    if "fingerprint" in report:
        yield "fingerprint", str(report["fingerprint"])
    others = {name: value for name, value in report.items() if name not in TOLD | ELSEWHERE}
    yield from ((tables.words(name), text) for name, text in tables.flat(others))


def _counts(name: str, counts: Mapping[str, int] | None) -> Iterator[tuple[str, str]]:
    if counts is not None:
        known = [f"{tables.words(key)} {number:,}" for key, number in counts.items() if number]
        yield name, ", ".join(known) or "none"
