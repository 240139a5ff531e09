"""What strangers wrote is shown as it is where that is harmless, and as escapes where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.cli.dead_letter_text import FIELDS, SHOWN_CHARACTERS, as_json, details, harmless, table
from tests.support.builders import NOON


def row(body: bytes, whole_bytes: int | None = None, **changes: object) -> dict[str, Any]:
    values = dict.fromkeys(FIELDS) | {
        "dead_letter_id": 7, "source": "q", "reason_code": "invalid_json", "reason": "no", "occurrences": 2,
        "first_seen_at": NOON, "last_seen_at": NOON, "requeue_attempts": 0,
        "body": body, "body_bytes": len(body) if whole_bytes is None else whole_bytes,
    }  # fmt: skip
    return values | changes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc \u00e9 \u4e2d", "a\tb\nc \u00e9 \u4e2d"),
        ("\x1b[2J\x07\r", r"\x1b[2J\x07\r"),
        ("\u202eabc\u200b", r"\u202eabc\u200b"),
    ],
)
def test_nothing_steers_the_terminal(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_body_that_was_cut_within_a_character_is_still_text() -> None:
    shown = as_json(row("\u00e9\u00e9".encode()[:-1], whole_bytes=4), full=False)
    assert (shown["body"], shown["body_encoding"], shown["body_truncated"]) == ("\u00e9", "utf-8", True)


def test_a_whole_body_that_ends_within_a_character_is_hexadecimal() -> None:
    assert as_json(row(b"\xc3"), full=False)["body"] == "c3"


def test_a_long_body_is_shown_whole_only_on_request() -> None:
    body = b"x" * (SHOWN_CHARACTERS + 1)
    assert len(as_json(row(body), full=False)["body"]) == SHOWN_CHARACTERS
    assert as_json(row(body), full=True)["body"] == body.decode()
    assert not as_json(row(body[:-1]), full=False)["body_truncated"]


@pytest.mark.parametrize(
    ("closed", "state"),
    [({}, "open"), ({"dropped_at": NOON}, "dropped"), ({"requeued_at": NOON, "dropped_at": NOON}, "requeued")],
)
def test_the_state_is_said(closed: dict[str, Any], state: str) -> None:
    letter = row(b"{}", **closed)
    assert as_json(letter, full=False)["state"] == state
    assert state in list(table([letter]))[1]
    assert state in next(details(letter, full=False))


def test_a_reason_of_several_lines_stays_on_its_line() -> None:
    assert len(list(table([row(b"{}", reason="one\ntwo")]))) == 2


def test_the_heading_stands_over_its_columns() -> None:
    rows = [row(b"{}", source="ws-gateway.ticker", reason="one"), row(b"{}", source="q", reason="two")]
    heading, *lines = table(rows)
    assert {line.index("invalid_json") for line in lines} == {heading.index("reason")}
    assert heading.index("source") == lines[0].index("ws-gateway.ticker")
