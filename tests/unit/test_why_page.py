"""The funnel in the terminal: what is shown adds up, nothing is cut, and no stored text steers the terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from model_service.cli import why_page
from model_service.cli.why import start
from tests.unit.test_version_page import printed

WIDTHS = [40, 80, 140]
SETTING = "MARKET_DATA_MAX_AGE_SECONDS"


def stop(name: str, count: int, **changes: Any) -> dict[str, Any]:
    known = {
        "name": name, "count": count, "words": f"words of {name} that go on for longer than a narrow line holds",
        "setting": None, "last_asset": None, "last_value": None, "last_threshold": None,
    }  # fmt: skip
    return {**known, **changes}


def step(name: str, entered: int, passed: int, *stops: dict[str, Any], closed: int = 0) -> dict[str, Any]:
    return {
        "step": name, "question": f"Is {name} fine?", "entered": entered, "passed": passed, "closed": closed,
        "stops": list(stops),
    }  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    known = {
        "strategy_id": "momentum_v1", "asset": None, "since": "2026-11-23T14:52:43Z", "until": "2026-11-23T15:52:43Z",
        "mode": "warmup", "ticks": 1234, "openings": 30, "exits": 4, "exits_between_ticks": 0, "due_ticks": 1234,
        "next_checks": [],
        "reasons": [{"occurrences": 1000}, {"occurrences": 200}],
        "steps": [
            step("market_data", 1234, 234, stop("stale", 1000, last_asset="BTCUSDT", setting=SETTING)),
            step("exit", 234, 230, closed=4),
            step("policy", 230, 30, stop("not_drawn", 200)),
            step("published", 34, 30, stop("pending", 4)),
            step("filled", 30, 20, stop("unknown", 10)),
        ],
    }  # fmt: skip
    return {**known, **changes}


def page(width: int = 80, **changes: Any) -> str:
    return printed(why_page.page(answer(**changes)), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_numbers_stand_below_each_other_and_nothing_is_cut(width: int) -> None:
    text = page(width, next_checks=["Look at the gateway, which has said nothing for longer than this line is wide."])
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    assert "…" not in text
    numbers = [int(found[1].replace(",", "")) for line in lines if (found := re.search(r"\s(-?[\d,]+)\s*$", line))]
    assert numbers == [1234, -1000, 234, -4, 230, -200, 30, 34, -4, 30, -10, 20]
    assert SETTING in re.sub(r"\s+", "", text)


def test_the_sum_is_said_first() -> None:
    assert "1,234 ticks = 30 openings + 4 exits + 1,200 without a signal" in page()


def test_no_ticks_is_said_with_what_to_check() -> None:
    text = page(ticks=0, openings=0, exits=0, reasons=[], steps=[], next_checks=["Is it running?"])
    assert "no ticks: nothing was decided in this time" in text
    assert "- Is it running?" in text


def test_stored_text_cannot_steer_the_terminal() -> None:
    evil = "x\x1b[2Jy"
    steps = [step("policy", 1, 0, stop(evil, 1, words=evil, last_asset=evil))]
    assert "\x1b" not in page(strategy_id=evil, asset=evil, steps=steps, next_checks=[evil])


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("90s", {"last_seconds": "90"}),
        ("15m", {"last_seconds": "900"}),
        ("1h", {"last_seconds": "3600"}),
        ("2d", {"last_seconds": "172800"}),
        ("2026-03-02T12:00:00+01:00", {"since": "2026-03-02T12:00:00+01:00"}),
    ],
)
def test_a_beginning_is_a_duration_or_a_time(text: str, query: dict[str, str]) -> None:
    assert start(text) == query


@pytest.mark.parametrize("text", ["", "h", "1w", "-1h", "1.5h", "yesterday", "1h 30m", "9999999999s", "٣h"])
def test_any_other_beginning_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="15m"):
        start(text)
