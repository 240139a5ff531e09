"""Schedules: their forms, what is refused, and the two nights of the year on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from model_service.config.schedule import parse_schedule, parse_timezone, slots_after


def slots(schedule: str, start: str, timezone: str, count: int) -> list[str]:
    """The first moments after `start`, as text in UTC."""
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return [slot.strftime("%m-%d %H:%M") for slot in islice(slots_after(schedule, moment, timezone), count)]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("0 2 * * *", "0 2 * * *"),
        ("  0 2 * * *  ", "0 2 * * *"),
        ("cron(0 2 * * *)", "0 2 * * *"),
        ("CRON( 0 2 * * * )", "0 2 * * *"),
        ("@hourly", "0 * * * *"),
        ("@Daily", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("*/15 8-18 * * MON-FRI", "*/15 8-18 * * MON-FRI"),
    ],
)
def test_forms_that_are_allowed(text: str, fields: str) -> None:
    assert parse_schedule(text) == fields


@pytest.mark.parametrize(
    "text",
    ["", "daily", "@yearlyish", "60 * * * *", "* * * *", "* * * * * *",
     "cron(0 2 * * ? *)", "cron(0 2 * * *", "0 0 31 2 *"],
)  # fmt: skip
def test_forms_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a schedule \(.+\); allowed: five cron fields"):
        parse_schedule(text)


@pytest.mark.parametrize("name", ["Mars", "Europe", "/etc/localtime", "../UTC", "", "x" * 300])
def test_time_zones_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no such time zone; allowed: UTC or a name"):
        parse_timezone(name)


def test_slots_lie_after_the_moment_and_are_utc() -> None:
    moment = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
    first = next(slots_after("0 2 * * *", moment))
    assert first == datetime(2026, 1, 2, 2, 0, tzinfo=UTC)
    assert first.tzinfo is UTC


def test_a_time_zone_shifts_the_slots() -> None:
    assert slots("0 2 * * *", "2026-01-01", "Asia/Tokyo", 2) == ["01-01 17:00", "01-02 17:00"]


def test_a_slot_that_the_spring_skips_comes_right_after_the_change() -> None:
    # Berlin goes from 02:00 to 03:00 local on 29 March 2026, at 01:00 UTC.
    assert slots("30 2 * * *", "2026-03-28", "Europe/Berlin", 3) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_slot_that_the_autumn_repeats_comes_once() -> None:
    # Berlin goes from 03:00 back to 02:00 local on 25 October 2026, at 01:00 UTC.
    assert slots("30 2 * * *", "2026-10-24", "Europe/Berlin", 3) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_an_hourly_schedule_keeps_its_pace_through_both_changes() -> None:
    assert slots("0 * * * *", "2026-03-28T23:30", "Europe/Berlin", 4) == [
        "03-29 00:00",
        "03-29 01:00",
        "03-29 02:00",
        "03-29 03:00",
    ]
    assert slots("0 * * * *", "2026-10-24T23:30", "Europe/Berlin", 4) == [
        "10-25 00:00",
        "10-25 01:00",
        "10-25 02:00",
        "10-25 03:00",
    ]
