"""Two versions on the same outcomes, as a page in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from model_service.cli import tables

Answer = Mapping[str, Any]


def page(answer: Answer) -> Iterator[RenderableType]:
    """What the rows are, what each version says of them, and the differences with their intervals."""
    first, second = answer["versions"]
    span = f"{tables.moment(answer['first_decided_at'])} to {tables.moment(answer['last_decided_at'])}"
    yield tables.line(f"{first['version']} and {second['version']} on {answer['rows']:,} outcomes, {span}", "bold")
    yield tables.line("new to both, whoever opened them; 90 % intervals over blocks of time", tables.QUIET)
    yield _beside("All rows, the side that was traded", first, second, "all_rows")
    trades = f"{first['trades']:,} and {second['trades']:,} taken, of one mind on {answer['agreed']:,}"
    yield _beside(f"Trades that each would take: {trades}", first, second, "taken")
    shown = tables.table("", "difference", "interval", numbers=["difference", "interval"])
    for metric in answer["differences"]:
        ends = tables.interval(metric["lower"], metric["upper"])
        shown.add_row(tables.words(metric["metric_name"]), tables.number(metric["value"]), ends)
    yield tables.section(f"{first['version']} less {second['version']}, row by row", shown)


def _beside(title: str, first: Answer, second: Answer, part: str) -> RenderableType:
    columns = [first["version"], f"{second['version']} "]
    shown = tables.table("", *columns, numbers=columns)
    known = [_by_name(one[part]) for one in (first, second)]
    for name in dict.fromkeys([*known[0], *known[1]]):
        shown.add_row(tables.words(name), *(_cell(one.get(name)) for one in known))
    return tables.section(title, shown)


def _by_name(metrics: Sequence[Answer]) -> dict[str, Answer]:
    return {metric["metric_name"]: metric for metric in metrics}


def _cell(metric: Answer | None) -> str:
    if metric is None:
        return "-"
    ends = tables.interval(metric["lower"], metric["upper"])
    return tables.number(metric["value"]) + (f" ({ends})" if ends else "")
