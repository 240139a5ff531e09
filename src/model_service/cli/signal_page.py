"""Signals in the terminal: the list, and one decision explained feature by feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from model_service.cli import tables
from model_service.cli.dead_letter_text import harmless

Answer = Mapping[str, Any]
TOP_FEATURES = 15
BAR = 6


def listing(signals: Sequence[Answer]) -> Table:
    """A row for each signal; the outcome is the net return in percent of the entry."""
    numbers = ["confidence", "outcome"]
    shown = tables.table("signal", "side", "by", *numbers, numbers=numbers)
    shown.columns[0].no_wrap = True  # identifiers are there to be copied
    for row in signals:
        outcome = "" if row["outcome"] is None else f"{100 * row['outcome']['net_return']:+.3f} %"
        shown.add_row(
            Text.assemble(row["signal_id"], (f"\n{tables.moment(row['decided_at'])}", tables.QUIET)),
            Text.assemble(
                f"{row['side']} {row['intent']}", ("\n" + harmless(row["asset"] + _exit_cause(row)), tables.QUIET)
            ),
            tables.line(row["model_version"] or row["policy"]),
            f"{row['confidence']:.3f}",
            outcome,
        )
    return shown


def _exit_cause(row: Answer) -> str:
    """Why a position was closed, on a line of its own; nothing of an opening."""
    reached = row["exit"]
    if reached is None:
        return ""
    numbers = f"{tables.number(reached['value'])} at {tables.number(reached['threshold'])}"
    return f"\n{tables.words(reached['cause'])}{' goes on' if reached['continues'] else ''} {numbers}"


def page(answer: Answer, *, everything: bool, ascii_only: bool = False) -> Iterator[RenderableType]:
    """Who decided what, what the version says of both sides, and what each feature added."""
    yield _header(answer)
    yield from _parts(answer, everything=everything, ascii_only=ascii_only)


def added(answer: Answer | None, *, ascii_only: bool = False) -> Iterator[RenderableType]:
    """The same without the decision, for a page that shows that already; or why there is no explanation."""
    if answer is not None and "error" in answer:
        yield tables.section("Contributions", tables.line(answer["error"]))
    elif answer is not None:
        yield from _parts(answer, everything=False, ascii_only=ascii_only)


def _parts(answer: Answer, *, everything: bool, ascii_only: bool) -> Iterator[RenderableType]:
    side = answer["side"] or ("buy" if answer["buy"]["probability"] >= answer["sell"]["probability"] else "sell")
    other = "sell" if side == "buy" else "buy"
    yield _sides(answer, (side, other))
    yield _contributions(answer, side, other, everything=everything, ascii_only=ascii_only)


def _header(answer: Answer) -> RenderableType:
    drawn = f"{answer['side']} ({answer['intent']})" if answer["side"] else "none (nothing was drawn)"
    decided = answer["model_version"] or f"the policy {answer['policy']}, no model"
    chances = ", ".join(f"{name} {answer['probability_' + name]:.3f}" for name in ("buy", "sell", "none"))
    how = "exits are not drawn" if answer["intent"] == "exit" else f"drawn with probabilities {chances}"
    lines = [
        f"{answer['asset']} for {answer['strategy_id']} at {tables.moment(answer['decided_at'])}",
        f"decided by {decided}; {how}",
        f"explained by {answer['version']} ({answer['model_type']}), {answer['method']}",
    ]
    if answer["version"] != answer["model_version"]:
        lines.append(f"{answer['version']} did not make this decision: this is what it would have said")
    title = Text.assemble((str(answer["decision_id"]), "bold"), "  ", drawn)
    return Group(title, *(tables.line(text) for text in lines))


def _sides(answer: Answer, sides: Sequence[str]) -> RenderableType:
    """From the sum to the probability, for both sides."""
    unit = "log-odds" if answer["unit"] == "log_odds" else str(answer["unit"])
    shown = tables.table("", *sides, numbers=sides)
    rows = (
        (f"sum of base value and contributions ({unit})", "total", "{:+.4f}"),
        ("probability before calibration", "score", "{:.4f}"),
        (f"probability of a profit ({answer['calibration']} calibration)", "probability", "{:.4f}"),
        ("expected net return", "expected_net_return", "{:+.6f}"),
    )
    for name, member, form in rows:
        shown.add_row(name, *(form.format(answer[side][member]) for side in sides))
    note = f"acting earns something from a probability of {answer['break_even']:.4f} on"
    return tables.section("What it says", shown, tables.line(note, tables.QUIET))


def _contributions(answer: Answer, side: str, other: str, *, everything: bool, ascii_only: bool) -> RenderableType:
    """The features that moved the decided side most; the sums at the end are those of all."""
    parts = {item["feature"]: item for item in answer[side]["contributions"]}
    against = {item["feature"]: item["contribution"] for item in answer[other]["contributions"]}
    ordered = sorted(parts.values(), key=lambda item: -abs(item["contribution"]))
    shown = ordered if everything else ordered[:TOP_FEATURES]
    largest = max((abs(item["contribution"]) for item in ordered), default=0.0) or 1.0
    numbers = ["value", "aligned", side, other]
    made = tables.table("feature", *numbers, "", numbers=numbers)
    for item in shown:
        made.add_row(
            tables.line(item["feature"]), tables.number(item["value"]), tables.number(item["aligned"]),
            f"{item['contribution']:+.3f}", f"{against[item['feature']]:+.3f}",
            tables.signed_bar(item["contribution"] / largest, BAR, ascii_only=ascii_only),
        )  # fmt: skip
    rest = ordered[len(shown) :]
    if rest:
        both = [sum(item["contribution"] for item in rest), sum(against[item["feature"]] for item in rest)]
        made.add_row(f"{len(rest)} others (--all)", "", "", *(f"{total:+.3f}" for total in both), "")
    made.add_row("base value", "", "", *[f"{answer['base_value']:+.3f}"] * 2, "")
    made.add_row(Text("sum", "bold"), "", "", *(f"{answer[name]['total']:+.3f}" for name in (side, other)), "")
    note = f"value as stored (- is unknown); aligned as the model saw it for a {side}; bar: what it did to {side}"
    return tables.section("Contributions", made, tables.line(note, tables.QUIET))
