"""What a study promises, what it found, and with which certainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, t

LEVEL = 0.95


@dataclass(frozen=True)
class Finding:
    """One line of the final table.

    Attributes:
        asked: what must be reached, in words; empty for a figure that promises nothing.
        reached: the figure.
        lower, upper: its two-sided 95 % interval.
        passed: None where nothing was asked, or nothing could be measured.
        note: what else must be known to read the figure.
    """

    study: str
    promise: str
    asked: str
    reached: float
    lower: float
    upper: float
    samples: int
    passed: bool | None
    note: str = ""


def share_interval(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a share [Clopper & Pearson 1934].

    >>> [round(end, 4) for end in share_interval(0, 200)]
    [0.0, 0.0183]
    """
    tail = (1.0 - level) / 2.0
    lower = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    upper = float(beta.ppf(1.0 - tail, count + 1, total - count)) if count < total else 1.0
    return lower, upper


def mean_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Mean of independent values, and the two ends of its interval by Student's t."""
    mean = float(np.mean(values)) if values else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(t.ppf(1.0 - (1.0 - level) / 2.0, len(values) - 1)) * float(np.std(values, ddof=1))
    half /= math.sqrt(len(values))
    return mean, mean - half, mean + half


def share_at_most(study: str, promise: str, count: int, total: int, limit: float, note: str = "") -> Finding:
    """Asked: a share of at most `limit`."""
    lower, upper = share_interval(count, total)
    share = count / total
    return Finding(study, promise, f"<= {limit:g}", share, lower, upper, total, share <= limit, note)


def share_at_least(study: str, promise: str, count: int, total: int, limit: float, note: str = "") -> Finding:
    """Asked: a share of at least `limit`."""
    lower, upper = share_interval(count, total)
    share = count / total
    return Finding(study, promise, f">= {limit:g}", share, lower, upper, total, share >= limit, note)


def share_between(
    study: str, promise: str, count: int, total: int, allowed: tuple[float, float] | None, note: str = ""
) -> Finding:
    """Asked: a share from `allowed[0]` to `allowed[1]`; nothing where that is None."""
    lower, upper = share_interval(count, total)
    share = count / total
    asked = f"{allowed[0]:g} to {allowed[1]:g}" if allowed else ""
    passed = allowed[0] <= share <= allowed[1] if allowed else None
    return Finding(study, promise, asked, share, lower, upper, total, passed, note)


def mean_at_most(study: str, promise: str, values: Sequence[float], limit: float, note: str = "") -> Finding:
    """Asked: a mean of at most `limit`."""
    mean, lower, upper = mean_interval(values)
    return Finding(study, promise, f"<= {limit:g}", mean, lower, upper, len(values), mean <= limit, note)


def mean_at_least(study: str, promise: str, values: Sequence[float], limit: float, note: str = "") -> Finding:
    """Asked: a mean of at least `limit`."""
    mean, lower, upper = mean_interval(values)
    return Finding(study, promise, f">= {limit:g}", mean, lower, upper, len(values), mean >= limit, note)


def figure(study: str, promise: str, values: Sequence[float], note: str = "") -> Finding:
    """A mean that nothing is asked of."""
    mean, lower, upper = mean_interval(values)
    return Finding(study, promise, "", mean, lower, upper, len(values), None, note)
