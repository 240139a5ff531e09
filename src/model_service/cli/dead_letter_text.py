"""How dead letters look in the terminal. They hold what strangers wrote: nothing of it may steer the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

SHOWN_CHARACTERS = 4000
SHOWN_REASON = 80
Row = Mapping[str, Any]
FIELDS = (
    "dead_letter_id", "source", "reason_code", "reason", "occurrences", "first_seen_at", "last_seen_at", "copied_at",
    "requeue_attempts", "requeued_at", "dropped_at", "body_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one letter."""

    dead_letter_id: int
    outcome: str
    reason: str | None


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A heading and one line for each letter; nothing when there is none."""
    width = max((len(harmless(row["source"])) for row in rows), default=0)
    if rows:
        yield f"{'id':>6}  {'last seen':19}  {'times':>6}  {'state':8}  {'source':{width}}  reason"
    for row in rows:
        seen = f"{row['last_seen_at']:%Y-%m-%d %H:%M:%S}"
        reason = harmless(f"{row['reason_code']}: {row['reason']}".replace("\n", " "))
        yield (
            f"{row['dead_letter_id']:>6}  {seen}  {row['occurrences']:>6}  {_state(row):8}  "
            f"{harmless(row['source']):{width}}  {_cut(reason, SHOWN_REASON)}"
        )


def details(row: Row, *, full: bool) -> Iterator[str]:
    """All of one letter, line by line, its body last."""
    yield f"{'state':18}{_state(row)}"
    for name in FIELDS:
        yield f"{name:18}{harmless(_as_text(row[name]))}"
    shown = as_json(row, full=full)
    left_out = "; the beginning, --full shows all" if shown["body_truncated"] else ""
    yield f"body ({shown['body_encoding']}{left_out}):"
    yield harmless(shown["body"])


def as_json(row: Row, *, full: bool) -> dict[str, Any]:
    """A letter for JSON: `body` is text where it is UTF-8, else hexadecimal, as `body_encoding` says."""
    body: bytes = row["body"]
    text, encoding = _readable(body, is_whole=len(body) == row["body_bytes"])
    cut = len(body) < row["body_bytes"] or (not full and len(text) > SHOWN_CHARACTERS)
    values = {name: _plain(row[name]) for name in FIELDS}
    shown = text if full else text[:SHOWN_CHARACTERS]
    return {**values, "state": _state(row), "body_encoding": encoding, "body_truncated": cut, "body": shown}


def line(result: Result) -> str:
    """What came of one letter."""
    reason = "" if result.reason is None else f": {harmless(result.reason)}"
    return f"{result.dead_letter_id}: {result.outcome}{reason}"


def harmless(text: str) -> str:
    """Control characters as escapes, but for line ends and tabs.

    >>> harmless("red \\x1b[31m")
    'red \\\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _state(row: Row) -> str:
    if row["requeued_at"] is not None:
        return "requeued"
    return "open" if row["dropped_at"] is None else "dropped"


def _readable(body: bytes, *, is_whole: bool) -> tuple[str, str]:
    """Text and its encoding; a body that was cut may end within a character."""
    try:
        return body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        if not is_whole and error.start > len(body) - 4:
            return body[: error.start].decode("utf-8"), "utf-8"
        return body.hex(), "hex"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _as_text(value: Any) -> str:
    return "-" if value is None else str(_plain(value))
