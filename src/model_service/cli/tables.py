"""What all pages in the terminal share: tables that fold and never cut, numbers with sensible digits, bars of text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model_service.cli.dead_letter_text import harmless
from model_service.models.verdict import digits

GOOD, BAD, QUIET = "green", "bold red", "dim"
MOST_BESIDE = 4
"""So many records stand side by side in 80 columns."""


def make_console() -> Console:
    """Standard output, as wide as the terminal; what is not a terminal gets plain text."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """An open table; the columns in `numbers` are set to the right and stay on one line, the others fold."""
    right = set(numbers)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
    for name in columns:
        made.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right, vertical="top"
        )
    return made


def section(title: str, *parts: RenderableType) -> RenderableType:
    """A titled part of a page, set in by two."""
    return Group(Text(f"\n{title}", style="bold"), Padding(Group(*parts), (0, 0, 0, 2), expand=False))


def line(text: str, style: str = "") -> Text:
    """Text from elsewhere as a line that cannot steer the terminal."""
    return Text(harmless(text), style=style, overflow="fold")


def number(value: Any, significant: int = 3) -> str:
    """A number for people; a dash for what is not known."""
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else digits(float(value), significant)


def interval(lower: Any, upper: Any) -> str:
    """Both ends, or nothing where there is no interval."""
    return "" if lower is None or upper is None else f"{number(lower)} .. {number(upper)}"


def moment(text: str | None) -> str:
    """A time of the interface, to the second.

    >>> moment("2026-11-23T15:52:43.123Z")
    '2026-11-23 15:52:43 UTC'
    """
    if text is None:
        return "-"
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def words(name: str) -> str:
    """A member's name as words.

    >>> words("share_of_wins")
    'share of wins'
    """
    return name.replace("_", " ")


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and what is known of them, one a line."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style=QUIET, overflow="fold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(harmless(name), harmless(value))
    return made


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Whatever JSON holds as pairs of dotted names and text; plain values of one list, or one object, share a line."""
    if isinstance(value, Mapping) and (not name or any(_is_nested(member) for member in value.values())):
        for key, member in value.items():
            yield from flat(member, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(_is_nested(member) for member in value):
        for index, member in enumerate(value):
            yield from flat(member, f"{name}.{index + 1}")
    elif name.endswith("_us") and isinstance(value, int):
        yield name, of_microseconds(value)
    else:
        yield name, plain(value)


def plain(value: Any) -> str:
    """A value in one line: of numbers all that is known but the rounding of binary fractions."""
    if isinstance(value, list):
        return ", ".join(plain(member) for member in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(key))} {plain(member)}" for key, member in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, str) else number(value)


def of_microseconds(value: int) -> str:
    """A moment in microseconds since 1970.

    >>> of_microseconds(0)
    '1970-01-01 00:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(value / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def side_by_side(records: Sequence[tuple[str, Mapping[str, Any]]], order: Sequence[str]) -> Iterator[Table]:
    """Named records with the same kind of members, a column each and a row for each member that any has.

    Args:
        order: members that come first, in this order; others follow by name.
    """
    for start in range(0, len(records), MOST_BESIDE):
        part = records[start : start + MOST_BESIDE]
        known = {name for _, record in part for name, value in record.items() if value not in (None, "")}
        made = table("", *(name for name, _ in part))
        for column in made.columns[1:]:
            column.justify = "right"
        for name in (*(name for name in order if name in known), *sorted(known - set(order))):
            cells = (harmless(_cell(name, record.get(name))) for _, record in part)
            made.add_row(words(name.removesuffix("_us")), *cells)
        yield made


def share_bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar for a share from 0 to 1.

    >>> share_bar(0.5, 8)
    '████'
    """
    return ("#" if ascii_only else "█") * round(max(0.0, min(1.0, share)) * width)


def signed_bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar to the right of its middle for shares up to 1, to the left for shares down to -1.

    >>> signed_bar(-0.5, 4), signed_bar(1.0, 4)
    ('  ██│    ', '    │████')
    """
    block, middle = ("#", "|") if ascii_only else ("█", "│")
    length = round(min(1.0, abs(share)) * width)
    left, right = (block * length, "") if share < 0 else ("", block * length)
    return f"{left:>{width}}{middle}{right:<{width}}"


def _cell(name: str, value: Any) -> str:
    if name.endswith("_us") and isinstance(value, int):
        return of_microseconds(value)
    if isinstance(value, Mapping) and "value" in value:
        ends = interval(value.get("lower"), value.get("upper"))
        return number(value["value"]) + (f"\n{ends}" if ends else "")
    return number(value) if isinstance(value, int | float) else plain(value)


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)
