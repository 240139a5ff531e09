"""Which ticks fell due, also those that no pass took: the database was away, a pass failed, or one took too long.

Ticks are due at the whole multiples of their interval. While no process runs none is due. Time is that of our clock:
one that leaps forward has missed ticks, and one that steps back has the same ones due again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.decision_pass import DecisionPass
from model_service.services.ports import DueTicks, PositionKey, SilentTick

MINUTES_APART = 30
"""So many minutes of missed ticks are written one by one; what lies before them is put to the first, in one number."""


@dataclass(frozen=True, slots=True)
class Due:
    """What fell due since the last pass: `missed`, minute by minute, and the one tick that is taken now."""

    missed: tuple[DueTicks, ...]
    taken: DueTicks


def count_due(
    decided: DecisionPass, next_tick: datetime | None, ticking: Collection[PositionKey], seconds: float
) -> None:
    """Write down what was due up to this pass, and a reason for each tick that was missed.

    Args:
        next_tick: the first one that was due after the last pass; None before the first.
        ticking: strategies and assets that ticked at the last pass: others have missed nothing.
    """
    due = due_until(decided.now, next_tick, seconds)
    late = (decided.now - due.missed[0].first).total_seconds() if due.missed else 0.0
    reason = Reason(ReasonCode.TICK_MISSED, late, seconds)
    for strategy in decided.strategies:
        for asset in strategy.assets:
            key = (strategy.strategy_id, asset)
            missed = due.missed if key in ticking else ()
            decided.due[key] = [*missed, due.taken]
            decided.silent += [SilentTick(*key, one.minute, reason, one.count) for one in missed]


def due_until(now: datetime, next_tick: datetime | None, seconds: float) -> Due:
    """What fell due from `next_tick` to `now`, the last of which is taken.

    Example:
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> due = due_until(noon + timedelta(seconds=61), noon + timedelta(seconds=50), 5.0)
        >>> [(f"{one.first:%T}", f"{one.last:%T}", one.count) for one in (*due.missed, due.taken)]
        [('12:00:50', '12:00:55', 2), ('12:01:00', '12:01:00', 1)]
    """
    last = _number(now, seconds)
    first = last if next_tick is None else min(last, round(next_tick.timestamp() / seconds))
    if next_tick is not None and (next_tick - now).total_seconds() > 0:
        first = last  # the clock has stepped back
    taken = DueTicks(_minute(now), _at(last, seconds), _at(last, seconds), seconds, 1)
    return Due(tuple(_missed(first, last - 1, seconds)), taken)


def next_due(now: datetime, seconds: float) -> datetime:
    """When the tick after that of `now` falls due."""
    return _at(_number(now, seconds) + 1, seconds)


def _number(moment: datetime, seconds: float) -> int:
    # A whole multiple must not fall to the one before it by rounding.
    return math.floor(moment.timestamp() / seconds + 1e-4)


def _missed(first: int, last: int, seconds: float) -> Iterator[DueTicks]:
    """Ticks by number, `first` to `last`."""
    apart = _minute(_at(last, seconds)) - timedelta(minutes=MINUTES_APART - 1)
    end = apart
    while first <= last:
        if _at(first, seconds) >= apart:
            end = _minute(_at(first, seconds)) + timedelta(minutes=1)
        until = min(last, max(first, math.ceil(end.timestamp() / seconds) - 1))
        start = _at(first, seconds)
        yield DueTicks(_minute(start), start, _at(until, seconds), seconds, until - first + 1)
        first = until + 1


def _at(number: int, seconds: float) -> datetime:
    return datetime.fromtimestamp(number * seconds, UTC)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
