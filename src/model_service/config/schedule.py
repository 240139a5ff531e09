"""Cron schedules: five fields, also as `cron(...)`, `@daily`, `@weekly`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SHORTHANDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def parse_schedule(text: str) -> str:
    """The five fields of a schedule.

    Raises:
        ValueError: when `text` is not a schedule; the message says what is allowed.

    Example:
        >>> parse_schedule("cron(0 2 * * *)")
        '0 2 * * *'
    """
    fields = text.strip()
    if fields.startswith("cron(") and fields.endswith(")"):
        fields = fields[5:-1].strip()
    fields = SHORTHANDS.get(fields.lower(), fields)
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        allowed = "five cron fields such as `0 2 * * *`, the same as cron(...), or one of " + ", ".join(SHORTHANDS)
        raise ValueError(f"not a schedule ({error}); allowed: {allowed}") from error
    return fields


def slots_after(schedule: str, moment: datetime, timezone: str = "UTC") -> Iterator[datetime]:
    """The moments of `schedule` after `moment`, aware UTC; daylight saving follows Debian's cron (cronsim).

    Raises:
        ValueError: when `schedule` is not a schedule.
    """
    fields = parse_schedule(schedule)
    for slot in CronSim(fields, moment.astimezone(ZoneInfo(timezone))):
        yield slot.astimezone(UTC)
