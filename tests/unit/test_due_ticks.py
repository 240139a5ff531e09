"""Every tick that falls due is counted once, in its minute, also after an outage of any length."""

from __future__ import annotations

import itertools
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from model_service.services.due_ticks import MINUTES_APART, due_until
from tests.support.builders import NOON

INTERVALS = st.sampled_from([0.01, 0.3, 1.0, 5.0, 7.0, 60.0, 90.0, 3600.0])


@given(INTERVALS, st.integers(0, 3 * 86_400 * 100), st.floats(0, 0.999))
def test_what_was_due_is_counted_once_and_in_its_minute(seconds: float, ticks: int, late: float) -> None:
    number = round(NOON.timestamp() / seconds)
    ticks = min(ticks, int(3 * 86_400 / seconds))
    now = NOON + timedelta(seconds=(number + ticks + late) * seconds - NOON.timestamp())
    next_tick = NOON + timedelta(seconds=number * seconds - NOON.timestamp())
    due = due_until(now, next_tick, seconds)
    spans = [*due.missed, due.taken]
    # A moment within a microsecond of a tick may belong to either side of it.
    assert abs(sum(one.count for one in spans) - (ticks + 1)) <= (1 if late < 0.01 or late > 0.99 else 0)
    for one in spans:
        assert one.count == round((one.last - one.first).total_seconds() / seconds) + 1
    for one, following in itertools.pairwise(spans):
        assert round((following.first - one.last).total_seconds() / seconds) == 1
        assert following.minute >= one.minute
    assert all(one.minute <= one.first for one in due.missed)
    assert all(one.last < one.minute + timedelta(minutes=1) for one in due.missed[1:])
    assert len(due.missed) <= MINUTES_APART + 1
    assert due.taken.minute <= now < due.taken.minute + timedelta(minutes=1)


def test_nothing_is_missed_before_the_first_tick_nor_by_a_clock_that_stepped_back() -> None:
    assert due_until(NOON, None, 5.0).missed == ()
    back = due_until(NOON, NOON + timedelta(hours=1), 5.0)
    assert (back.missed, back.taken.count, back.taken.first) == ((), 1, NOON)
