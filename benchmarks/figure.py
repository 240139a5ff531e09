"""What a benchmark yields."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `value` and `floor` in `unit`, and their ratio, from `n` alternating repetitions.

    `limit` is what the ratio may be at most; None where none is promised.
    """

    name: str
    ratio: float
    value: float
    floor: float
    unit: str
    n: int
    limit: float | None = None


def paired(
    name: str, ours: Callable[[], object], bare: Callable[[], object], *, calls: int, repetitions: int
) -> Figure:
    """Time `ours` and `bare` in turn, and take the median of the ratios: a slow machine slows both."""
    pairs = [(_seconds(ours, calls), _seconds(bare, calls)) for _ in range(repetitions)]
    ratio = median(mine / floor for mine, floor in pairs)
    value = median(mine for mine, _ in pairs) / calls * 1e6
    floor = median(bare_seconds for _, bare_seconds in pairs) / calls * 1e6
    return Figure(name, round(ratio, 3), round(value, 2), round(floor, 2), "microseconds per call", repetitions)


def _seconds(work: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - started
