"""Cron schedules: five fields, also as `cron(...)`, `@daily`, `@weekly`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

SHORTHANDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
ALLOWED = "five cron fields such as `0 2 * * *`, the same as cron(...), or one of " + ", ".join(SHORTHANDS)


def parse_schedule(text: str) -> str:
    """The five fields of a schedule.

    Raises:
        ValueError: when `text` is not a schedule; the message says what is allowed.

    Example:
        >>> parse_schedule("cron(0 2 * * *)")
        '0 2 * * *'
    """
    fields = text.strip()
    if fields.lower().startswith("cron(") and fields.endswith(")"):
        fields = fields[5:-1].strip()
    fields = SHORTHANDS.get(fields.lower(), fields)
    # cronsim reads a sixth field as seconds; in the platform's other schedules it would be a year.
    if len(fields.split()) != 5:
        raise ValueError(f"not a schedule ({len(fields.split())} fields); allowed: {ALLOWED}")
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"not a schedule ({error}); allowed: {ALLOWED}") from error
    return fields


def parse_timezone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        ValueError: when there is no such zone.
    """
    try:
        return ZoneInfo(name)
    # A folder's name, an absolute path and an over-long name each raise something else.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no such time zone; allowed: UTC or a name such as Europe/Berlin") from error


def slots_after(schedule: str, moment: datetime, timezone: str = "UTC") -> Iterator[datetime]:
    """The moments of `schedule` after `moment`, aware UTC.

    Where clocks change, Debian's cron is followed (cronsim): a daily slot that the spring skips comes right after the
    change, and one that the autumn repeats comes once.

    Raises:
        ValueError: when `schedule` is not a schedule, `timezone` not a time zone.
    """
    fields = parse_schedule(schedule)
    for slot in CronSim(fields, moment.astimezone(parse_timezone(timezone))):
        yield slot.astimezone(UTC)
