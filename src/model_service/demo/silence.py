"""The end report's answer to "why was there no signal": the funnel of each strategy, in lines of at most 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from model_service.database.connection import Database
from model_service.database.decision_counts import counted
from model_service.demo.status import number
from model_service.services.decision_funnel import EXIT_STEP, Funnel, Stop, funnel

STRATEGIES = """
    SELECT strategy_id FROM model_service.decision_counts
    UNION SELECT strategy_id FROM model_service.trading_signals ORDER BY strategy_id
"""
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
CONFIRMED_STEP, FILLED_STEP = "published", "filled"
NAME_WIDTH = 26
"""With counts and numbers behind them the lines stay under 80 columns."""


async def read_funnels(database: Database) -> dict[str, Funnel]:
    """The funnel of every strategy that has ticked, over all time. Raises DatabaseUnavailable."""
    names = [row["strategy_id"] for row in await database.fetch(STRATEGIES)]
    return {name: funnel(*await counted(database, name, *EVER)) for name in names}


def confirmed(found: Funnel) -> int:
    """Signals that the broker has confirmed, openings and exits."""
    return next(step.passed for step in found.steps if step.name == CONFIRMED_STEP)


def funnel_lines(strategy_id: str, found: Funnel) -> Iterator[str]:
    """From ticks to confirmed signals: what held the others, in the order of the decision."""
    yield f"{strategy_id}: {found.ticks:,} ticks, {found.silent:,} of them without a signal"
    for step in found.steps:
        if step.name == CONFIRMED_STEP:
            yield _line("openings", found.openings)
            yield _line("signals, with the exits", found.signals)
        if step.name == FILLED_STEP:
            yield _line("confirmed by the broker", step.entered)
            return
        yield from (_line(stop.name, -stop.count, _last(stop)) for stop in step.stops)
        if step.name == EXIT_STEP and step.closed:
            yield _line("exits", -step.closed)


def funnel_json(found: Funnel) -> dict[str, Any]:
    """The same for machines."""
    stops = [stop for step in found.steps for stop in step.stops if stop.last is not None]
    return {
        "ticks": found.ticks,
        "openings": found.openings,
        "exits": found.exits,
        "confirmed": confirmed(found),
        "reasons": [_reason(stop) for stop in stops],
    }


def occurrences(funnels: Mapping[str, Funnel]) -> dict[str, int]:
    """How often each reason came, over all strategies, commonest first."""
    sums: dict[str, int] = {}
    for found in funnels.values():
        for step in found.steps:
            for stop in step.stops:
                if stop.last is not None:
                    sums[stop.name] = sums.get(stop.name, 0) + stop.count
    return dict(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0])))


def _reason(stop: Stop) -> dict[str, Any]:
    assert stop.last is not None, "a reason of a tick"
    return {
        "reason": stop.name,
        "count": stop.count,
        "last_value": _finite(stop.last.last_value),
        "last_threshold": _finite(stop.last.last_threshold),
    }


def _line(name: str, count: int, more: str = "") -> str:
    return f"  {name:<{NAME_WIDTH}}{count:>11,}{more}"


def _last(stop: Stop) -> str:
    if stop.last is None or stop.last.last_value is None:
        return ""
    return f"   last {number(stop.last.last_value)} against {number(stop.last.last_threshold)}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
