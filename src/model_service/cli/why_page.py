"""The funnel in the terminal: each step of a decision, how many came to it, and what held the others there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model_service.cli import tables
from model_service.cli.dead_letter_text import harmless

Answer = Mapping[str, Any]
DELIVERING = "published"
"""The first step after the decision, for openings and exits alike."""


def page(answer: Answer) -> Iterator[RenderableType]:
    """Which strategy and time, the sum, the steps, what to check next."""
    asset = harmless(answer["asset"]) if answer["asset"] else "all assets"
    yield Text.assemble((harmless(answer["strategy_id"]), "bold"), f"  {answer['mode']}, {asset}")
    yield tables.line(f"{tables.moment(answer['since'])} to {tables.moment(answer['until'])}", tables.QUIET)
    if answer["ticks"]:
        yield _sum(answer)
        yield _steps(answer)
    else:
        yield Text("no ticks: nothing was decided in this time")
    if answer["next_checks"]:
        yield _checks(answer["next_checks"])


def _sum(answer: Answer) -> Text:
    silent = sum(reason["occurrences"] for reason in answer["reasons"])
    looks = answer["exits_between_ticks"]
    parts = f"{answer['openings']:,} openings + {answer['exits'] - looks:,} exits + {silent:,} without a signal"
    text = Text(f"{answer['ticks']:,} ticks = {parts}", overflow="fold")
    if looks:
        text.append(f"; {looks:,} exits between ticks")
    if answer["due_ticks"] not in (None, answer["ticks"]):
        text.append(f"\n{answer['due_ticks']:,} ticks were due", tables.BAD)
    return text


def _steps(answer: Answer) -> RenderableType:
    """A row for each step with how many came to it, then one for each cause that held some of them there."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(overflow="fold", ratio=1)
    made.add_column(justify="right", no_wrap=True)
    for step in answer["steps"]:
        if step["step"] == DELIVERING:
            made.add_row(Text("openings", tables.GOOD), Text(f"{answer['openings']:,}", tables.GOOD))
        made.add_row(harmless(step["question"]), f"{step['entered']:,}")
        for stop in step["stops"]:
            made.add_row(_cause(stop), Text(f"-{stop['count']:,}", tables.BAD))
        if step["closed"]:
            made.add_row(Padding("became a signal that closes a position", (0, 0, 0, 2)), f"-{step['closed']:,}")
    made.add_row(Text("filled", tables.GOOD), Text(f"{answer['steps'][-1]['passed']:,}", tables.GOOD))
    return tables.section("From ticks to filled orders", made)


def _cause(stop: Answer) -> RenderableType:
    more = [f"last {stop['last_asset']}"] if stop["last_asset"] else []
    more += [f"see {stop['setting']}"] if stop["setting"] else []
    text = Text.assemble((harmless(stop["name"]), "bold"), f": {harmless(stop['words'])}")
    if more:
        text.append(f" ({harmless(', '.join(more))})", tables.QUIET)
    return Padding(text, (0, 0, 0, 2))


def _checks(sentences: list[str]) -> RenderableType:
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for sentence in sentences:
        made.add_row("-", harmless(sentence))
    return tables.section("Check next", made)
