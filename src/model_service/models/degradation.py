"""Is a model still what its test said? Three detectors, each a number held against a threshold (METHOD 9).

- `live_accuracy`: even the upper bound of the share of winners lies under the test's by more than TOLERANCE.
- `log_loss`: even the lower bound of the window's log loss lies over the upper bound of the test's.
- `win_rate_cusum`: a cumulative sum over the outcomes one by one, which sees a fall long before a window does.

The first two look at the whole window and say nothing before it is full. All of them compare like with like: the
trades that the model chose by itself against those of the test block that it would have taken.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model_service.models.intervals import Estimate

TOLERANCE = 0.05
"""How far live accuracy may lie under the test's accuracy at the threshold (METHOD 9)."""
CONFIDENCE = 0.99
"""One-sided, of the bounds that the window's detectors look at: they look at every outcome."""
CUSUM_THRESHOLD = 11.5
LEAST_GAP = 0.02
"""A test's win rate that is not above the rate without an edge by so much leaves the cumulative sum nothing to find."""
_FARTHEST = 0.99

DetectorName = Literal["live_accuracy", "log_loss", "win_rate_cusum"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the version's own test promised; None where it says nothing.

    Attributes:
        win_rate: share of winners among the test's trades that the model would take (`accuracy_at_threshold`).
        no_edge: share of winners among all rows of the test block: what trading without skill wins there.
        log_loss, log_loss_upper: of the test's trades that it would take, and its one-sided 95 % upper bound. Their
            difference is the tolerance.
    """

    win_rate: float | None = None
    no_edge: float | None = None
    log_loss: float | None = None
    log_loss_upper: float | None = None

    @property
    def fallen(self) -> float | None:
        """The win rate that the cumulative sum looks for: in the middle between the test's and that without an edge."""
        if self.win_rate is None or self.no_edge is None or self.win_rate - self.no_edge < LEAST_GAP:
            return None
        return (min(self.win_rate, _FARTHEST) + max(self.no_edge, 1.0 - _FARTHEST)) / 2.0


def reference_of(test: Mapping[str, tuple[float, float | None]]) -> Reference:
    """From the test's metrics: value and upper bound by name.

    Versions from before `log_loss_at_threshold` and `logged_win_rate` were kept fall back to `log_loss` of all rows and
    to the rarer class of `base_rate`.
    """
    loss, loss_upper = test.get("log_loss_at_threshold") or test.get("log_loss") or (None, None)
    base = test.get("base_rate")
    logged = test.get("logged_win_rate")
    win_rate = test.get("accuracy_at_threshold")
    return Reference(
        win_rate=None if win_rate is None else win_rate[0],
        no_edge=logged[0] if logged is not None else None if base is None else 1.0 - base[0],
        log_loss=loss,
        log_loss_upper=loss_upper,
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """One detector: what it reads, and from where on it fires. None where it has nothing to say yet, and `why`."""

    detector: DetectorName
    value: float | None
    threshold: float | None
    comparison: Literal["below", "above"]
    fired: bool
    why: str = ""


class WinRateCusum:
    """The cumulative sum of Page over the outcomes of one version, in the order in which they became available.

        S = max(0, S + w log(P(y | fallen) / P(y | expected))),   fires at S >= CUSUM_THRESHOLD

    y is 1 for a winner; `expected` and `fallen` are win rates. Outcomes that overlap are no independent witnesses, so
    each counts w = 1 / sqrt(c), with c the version's openings on the same asset within the horizon up to this one,
    itself included. With w = 1 the rate of false alarms rose more than tenfold from 3 outcomes at a time to 12; with
    this w one threshold serves both (`make study ARGS="--only live"`; docs/evidence.md).

    A function of the sequence alone: whoever feeds the same outcomes gets the same sum, so nothing of it is stored.

    Page, E. S. (1954). Continuous inspection schemes. Biometrika 41, 100-115.

    Example:
        >>> cusum = WinRateCusum(expected=0.8, fallen=0.6, horizon_us=900)
        >>> [round(cusum.add("BTC", 1000 * index, won=False), 2) for index in range(3)]
        [0.69, 1.39, 2.08]
        >>> round(cusum.add("BTC", 3000, won=True), 2)
        1.79
    """

    def __init__(self, expected: float, fallen: float, horizon_us: int) -> None:
        """Of two win rates, 0 < fallen < expected <= 1, and the horizon in microseconds."""
        expected = min(expected, _FARTHEST)
        if not 0.0 < fallen < expected:
            raise ValueError(f"fallen {fallen}, expected {expected}; allowed: 0 < fallen < expected")
        self._of_win = math.log(fallen / expected)
        self._of_loss = math.log((1.0 - fallen) / (1.0 - expected))
        self._horizon_us = horizon_us
        self._recent: dict[str, deque[int]] = {}
        self.value = 0.0
        self.outcomes = 0

    def add(self, asset: str, entered_us: int, *, won: bool) -> float:
        """The sum after one more outcome, whose opening was filled at `entered_us`, microseconds since 1970."""
        step = self._of_win if won else self._of_loss
        self.value = max(0.0, self.value + step / math.sqrt(self._together(asset, entered_us)))
        self.outcomes += 1
        return self.value

    def _together(self, asset: str, entered_us: int) -> int:
        recent = self._recent.setdefault(asset, deque())
        recent.append(entered_us)
        while recent[0] <= entered_us - self._horizon_us:
            recent.popleft()
        return len(recent)


def readings(
    reference: Reference, cusum: WinRateCusum | None, accuracy: Estimate, log_loss: Estimate, *, full: bool
) -> tuple[Reading, Reading, Reading]:
    """All detectors, given the window's estimates; `full` says whether the window holds as many outcomes as it must."""
    return _accuracy(reference, accuracy, full), _log_loss(reference, log_loss, full), _cusum(reference, cusum)


def _accuracy(reference: Reference, accuracy: Estimate, full: bool) -> Reading:
    if reference.win_rate is None:
        return Reading("live_accuracy", None, None, "below", False, "the test took no trade")
    floor = reference.win_rate - TOLERANCE
    if not full:
        return Reading("live_accuracy", None, floor, "below", False, "the window is not full yet")
    upper = accuracy.upper(CONFIDENCE)
    if not math.isfinite(upper):
        return Reading("live_accuracy", None, floor, "below", False, "the window spans too little time for an interval")
    return Reading("live_accuracy", min(1.0, upper), floor, "below", upper < floor)


def _log_loss(reference: Reference, log_loss: Estimate, full: bool) -> Reading:
    limit = reference.log_loss_upper
    if limit is None:
        return Reading("log_loss", None, None, "above", False, "the test gives no bound of it")
    if not full:
        return Reading("log_loss", None, limit, "above", False, "the window is not full yet")
    lower = log_loss.lower(CONFIDENCE)
    if not math.isfinite(lower):
        return Reading("log_loss", None, limit, "above", False, "the window spans too little time for an interval")
    return Reading("log_loss", lower, limit, "above", lower > limit)


def _cusum(reference: Reference, cusum: WinRateCusum | None) -> Reading:
    if cusum is None:
        why = "the test's win rate is not known" if reference.win_rate is None else "the test shows no edge to lose"
        return Reading("win_rate_cusum", None, CUSUM_THRESHOLD, "above", False, why)
    return Reading("win_rate_cusum", cusum.value, CUSUM_THRESHOLD, "above", cusum.value >= CUSUM_THRESHOLD)


def cusum_of(reference: Reference, horizon_us: int) -> WinRateCusum | None:
    """The cumulative sum that fits the test; None where the test shows no edge that could be lost."""
    fallen = reference.fallen
    if reference.win_rate is None or fallen is None:
        return None
    return WinRateCusum(reference.win_rate, fallen, horizon_us)
