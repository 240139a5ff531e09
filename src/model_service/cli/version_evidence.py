"""What a version's word rests on: calibration, importance, walk-forward, baselines, off-policy values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from model_service.cli import tables

Report = Mapping[str, Any]
TOP_FEATURES = 15
BAR = 24
SMALL_BAR = 12
FOLD_ORDER = (
    "skipped", "rows_fitting", "rows_calibration", "rows_test", "first_decided_us", "last_decided_us", "accuracy",
    "base_rate", "roc_auc", "brier", "coverage", "trades_taken", "average_return",
)  # fmt: skip
BASELINE_ORDER = ("version", "label", "accuracy", "win_rate", "average_return", "value_per_decision")
VALUES = (
    "value_per_trade", "value_per_decision", "value_per_decision_doubly_robust", "logged_value_per_trade",
    "logged_value_per_decision",
)  # fmt: skip


def sections(report: Report, *, everything: bool, ascii_only: bool) -> Iterator[RenderableType]:
    """Those of which the report knows anything."""
    if report.get("calibration"):
        yield calibration(report["calibration"], ascii_only=ascii_only)
    if report.get("importance"):
        yield importance(report["importance"], everything=everything, ascii_only=ascii_only)
    if report.get("walk_forward"):
        yield walk_forward(report["walk_forward"])
    if report.get("baselines"):
        yield baselines(report["baselines"])
    if report.get("off_policy"):
        yield off_policy(report["off_policy"])


def calibration(report: Report, *, ascii_only: bool) -> RenderableType:
    """Bin by bin: what was predicted, what happened, and a line from 0 to 1 with both on it."""
    shown = tables.table("rows", "predicted", "won", "interval", "0", numbers=["rows", "predicted", "won", "interval"])
    for part in report["bins"]:
        shown.add_row(
            f"{part['rows']:,}", f"{part['mean_probability']:.3f}", f"{part['share_of_wins']:.3f}",
            f"{part['lower']:.2f} .. {part['upper']:.2f}", reliability_line(part, ascii_only=ascii_only),
        )  # fmt: skip
    marks = ("o", "|") if ascii_only else ("●", "│")
    notes = [
        f"{report['method']} on {report['rows']:,} rows; base rate {report['base_rate']:.3f}; acts at a profit from "
        f"{report['break_even']:.3f} on (a win returns {tables.number(report['mean_return_of_wins'])}, "
        f"a loss {tables.number(report['mean_return_of_losses'])})",
        f"line from 0 to 1: {marks[0]} share that won in its {100 * report['level']:.0f} % interval, "
        f"{marks[1]} mean probability ({report['interval_method']})",
    ]
    title = f"Calibration, {report['rows_test']:,} test rows in {len(report['bins'])} bins"
    return tables.section(title, shown, *(tables.line(note, tables.QUIET) for note in notes))


def reliability_line(part: Mapping[str, float], *, ascii_only: bool) -> str:
    """The interval of the share that won on a line from 0 to 1, with the share and the prediction marked.

    >>> reliability_line({"lower": 0.2, "upper": 0.6, "share_of_wins": 0.4, "mean_probability": 0.8}, ascii_only=True)
    '     ----o----     |    '
    """
    dash, share, predicted = ("-", "o", "|") if ascii_only else ("─", "●", "│")
    cells = [" "] * BAR
    for index in range(_cell(part["lower"]), _cell(part["upper"]) + 1):
        cells[index] = dash
    cells[_cell(part["mean_probability"])] = predicted
    cells[_cell(part["share_of_wins"])] = share
    return "".join(cells)


def importance(report: Report, *, everything: bool, ascii_only: bool) -> RenderableType:
    """The inputs that matter most, in three ways."""
    features = report["features"] if everything else report["features"][:TOP_FEATURES]
    unit = "log-odds" if report["unit"] == "log_odds" else str(report["unit"])
    numbers = ["mean |part|", "share", "native", "log loss"]
    shown = tables.table("feature", *numbers, "", numbers=numbers)
    largest = max((item["share"] for item in features), default=0.0) or 1.0
    for item in features:
        shown.add_row(
            tables.line(item["feature"]), f"{item['mean_absolute_contribution']:.4f}", f"{100 * item['share']:.1f} %",
            f"{item['native']:.4f}", f"{item['log_loss_rise']:+.4f}",
            tables.share_bar(item["share"] / largest, SMALL_BAR, ascii_only=ascii_only),
        )  # fmt: skip
    left = len(report["features"]) - len(features)
    notes = [
        f"mean |part|: {report['method']} in {unit}, over {report['rows']:,} test rows; native: {report['native']}; "
        "log loss: its rise with the input shuffled",
        *([f"{left} more with --all"] if left else []),
    ]
    return tables.section("Importance", shown, *(tables.line(note, tables.QUIET) for note in notes))


def walk_forward(report: Any) -> RenderableType:
    """Fold by fold, in whatever members the report has."""
    folds, rest = _records(report)
    records = [
        (f"fold {fold.get('fold', index)}", {name: value for name, value in fold.items() if name != "fold"})
        for index, fold in enumerate(folds, 1)
    ]
    return tables.section("Walk forward", *tables.side_by_side(records, FOLD_ORDER), *_rest(rest))


def baselines(report: Report) -> RenderableType:
    """Who else was tried on the same rows."""
    who = {name: value for name, value in report.items() if isinstance(value, Mapping)}
    rest = {name: value for name, value in report.items() if name not in who}
    records = [(tables.words(name), value) for name, value in sorted(who.items())]
    return tables.section("Baselines on the same rows", *tables.side_by_side(records, BASELINE_ORDER), *_rest(rest))


def off_policy(report: Report) -> RenderableType:
    """What it would earn, by the recorded propensities, and what that rests on."""
    values = {name: value for name, value in _in_order(report, VALUES) if isinstance(value, Mapping)}
    rest = {name: value for name, value in report.items() if name not in values}
    level = rest.pop("level", None)
    shown = tables.table("", "value", "interval", numbers=["value", "interval"])
    for name, value in values.items():
        shown.add_row(
            tables.line(tables.words(name)),
            tables.number(value.get("value")),
            tables.interval(value.get("lower"), value.get("upper")),
        )
    note = [f"{100 * level:.0f} % intervals; net returns as fractions of the entry"] if level else []
    lines = [tables.line(text, tables.QUIET) for text in note]
    return tables.section("Off-policy value", shown, *_rest(rest), *lines)


def _records(report: Any) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
    """The list of folds in a report, wherever it stands, and all else."""
    if isinstance(report, list):
        return report, {}
    lists = {name: value for name, value in report.items() if isinstance(value, list) and value}
    name = next((name for name, value in lists.items() if isinstance(value[0], Mapping)), None)
    if name is None:
        return [], report
    return lists[name], {key: value for key, value in report.items() if key != name}


def _in_order(members: Mapping[str, Any], first: Sequence[str]) -> list[tuple[str, Any]]:
    return [(name, members[name]) for name in (*first, *sorted(set(members) - set(first))) if name in members]


def _rest(members: Mapping[str, Any]) -> list[Text]:
    """What is left, in one line: `draws 460, trades 370`; a member that is not known says so."""
    known = [f"{tables.words(name)} {text}" for name, text in tables.flat(members)]
    return [tables.line(", ".join(known), tables.QUIET)] if known else []


def _cell(share: float) -> int:
    return round(max(0.0, min(1.0, share)) * (BAR - 1))
