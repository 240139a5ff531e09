"""The limits of openings that all processes share: halts, exposure, conflicts between strategies, the overall rate.

They are asked where an opening is recorded, under a lock, one opening after the other in the order of the pass: what
one takes is gone for the next. Exits are none of their business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from model_service.contracts.types import Side
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.guard_readings import GuardReading
from model_service.services.guards import halted
from model_service.services.halts import Halt
from model_service.services.ports import DecidedSignal, PositionKey, RefusedOpening
from model_service.services.rate_limit import Bucket, refilled


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """Limits over all strategies and processes; without any of them nothing is looked at.

    Attributes:
        maximum_exposure: quote currency, of the absolute positions added up.
        conflict_window_seconds: how long an opening keeps other strategies from opening the other side; 0: not at all.
        rate_per_minute: openings of all strategies; None: no limit.
    """

    maximum_exposure: float = math.inf
    conflict_window_seconds: float = 0.0
    rate_per_minute: float | None = None
    burst: int = 1

    @property
    def exist(self) -> bool:
        """Whether there is anything to look at."""
        unlimited = math.isinf(self.maximum_exposure) and self.rate_per_minute is None
        return not unlimited or self.conflict_window_seconds > 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a strategy holds of an asset, quote currency: signed position, and openings under way on either side."""

    position: float = 0.0
    buying: float = 0.0
    selling: float = 0.0

    @property
    def exposure(self) -> float:
        """The largest position that it can come to, however many of the openings are filled."""
        return max(abs(self.position), abs(self.position + self.buying), abs(self.position - self.selling))

    def with_opening(self, side: Side, amount: float) -> Held:
        """The same with one more opening under way."""
        if side is Side.BUY:
            return replace(self, buying=self.buying + amount)
        return replace(self, selling=self.selling + amount)


@dataclass(frozen=True, slots=True)
class RecentOpening:
    """An opening of another moment, of any process."""

    strategy_id: str
    asset: str
    side: Side
    decided_at: datetime


@dataclass(slots=True)
class SharedState:
    """What holds for all processes at one moment; `admit` takes from it what it grants."""

    halts: Sequence[Halt] = ()
    held: dict[PositionKey, Held] = field(default_factory=dict)
    recent: list[RecentOpening] = field(default_factory=list)
    bucket: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What is to be sent, with what the guards read added to its evidence; what is not; the bucket after it."""

    granted: Sequence[DecidedSignal]
    refused: Sequence[RefusedOpening]
    bucket: Bucket | None


@dataclass(frozen=True, slots=True)
class SharedRequest:
    """What the shared guards look at, for one opening.

    Attributes:
        exposure_before, exposure_after: quote currency, of everything without and with the opening.
        opposed_seconds: since another strategy opened the other side of the asset; None: not within the window.
        tokens: what the overall rate limit has left.
    """

    limits: SharedLimits
    exposure_before: float
    exposure_after: float
    opposed_seconds: float | None
    tokens: float


def admit(state: SharedState, openings: Sequence[DecidedSignal], limits: SharedLimits, now: datetime) -> Admission:
    """Ask for each opening in turn. `state` is changed: it holds what was granted when this returns."""
    granted, refused = [], []
    tokens = limits.burst if state.bucket is None else _refilled(state.bucket, limits, now).tokens
    for decided in openings:
        request = _request(state, decided, float(tokens), limits, now)
        reason = halted(decided.signal.strategy_id, state.halts) or refuse_shared(request)
        if reason is not None:
            refused.append(RefusedOpening(decided, reason))
            continue
        granted.append(_with_readings(decided, shared_readings(request)))
        tokens -= 1
        _take(state, decided, now)
    bucket = None if limits.rate_per_minute is None else Bucket(float(tokens), _moved(state.bucket, now))
    return Admission(tuple(granted), tuple(refused), bucket)


def refuse_all(openings: Iterable[DecidedSignal], reason: Reason) -> Admission:
    """None of them may be sent, for one reason."""
    return Admission((), tuple(RefusedOpening(decided, reason) for decided in openings), None)


def refuse_shared(request: SharedRequest) -> Reason | None:
    """The first shared guard's reason, or None when all pass."""
    for guard in SHARED_GUARDS:
        reason = guard(request)
        if reason is not None:
            return reason
    return None


def shared_readings(request: SharedRequest) -> tuple[GuardReading, ...]:
    """What each of them looks at, in their order; a threshold of None: it was not to be asked."""
    limits, opposed = request.limits, request.opposed_seconds
    limit = limits.maximum_exposure if math.isfinite(limits.maximum_exposure) else None
    limited = limits.rate_per_minute is not None
    return (
        GuardReading(ReasonCode.EXPOSURE_LIMIT, None if limit is None else request.exposure_after, limit),
        GuardReading(
            ReasonCode.CONFLICTING_SIGNAL, opposed, None if opposed is None else limits.conflict_window_seconds
        ),
        GuardReading(ReasonCode.TOTAL_RATE_LIMITED, request.tokens if limited else None, 1.0 if limited else None),
    )


def _within_exposure(request: SharedRequest) -> Reason | None:
    after, limit = request.exposure_after, request.limits.maximum_exposure
    # What makes it no larger passes, however large it is by then.
    if math.isinf(limit) or after <= limit or after <= request.exposure_before:
        return None
    return Reason(ReasonCode.EXPOSURE_LIMIT, after if math.isfinite(after) else None, limit)


def _without_conflict(request: SharedRequest) -> Reason | None:
    # order-manager cancels an asset's pending orders when a new signal comes, of whichever strategy: the later of two
    # opposed openings would take the earlier one's order away, or both would fill and cost two fees for nothing.
    if request.opposed_seconds is None:
        return None
    return Reason(ReasonCode.CONFLICTING_SIGNAL, request.opposed_seconds, request.limits.conflict_window_seconds)


def _within_total_rate(request: SharedRequest) -> Reason | None:
    if request.limits.rate_per_minute is None or request.tokens >= 1.0:
        return None
    return Reason(ReasonCode.TOTAL_RATE_LIMITED, request.tokens if math.isfinite(request.tokens) else None, 1.0)


SHARED_GUARDS: tuple[Callable[[SharedRequest], Reason | None], ...] = (
    _within_exposure,
    _without_conflict,
    _within_total_rate,
)


def _request(
    state: SharedState, decided: DecidedSignal, tokens: float, limits: SharedLimits, now: datetime
) -> SharedRequest:
    key, amount = _key(decided), float(decided.signal.amount)
    others = math.fsum(held.exposure for other, held in state.held.items() if other != key)
    held = state.held.get(key, Held())
    return SharedRequest(
        limits=limits,
        exposure_before=others + held.exposure,
        exposure_after=others + held.with_opening(decided.signal.side, amount).exposure,
        opposed_seconds=_seconds_since_opposed(state.recent, decided, limits.conflict_window_seconds, now),
        tokens=tokens,
    )


def _seconds_since_opposed(
    recent: Sequence[RecentOpening], decided: DecidedSignal, window_seconds: float, now: datetime
) -> float | None:
    signal = decided.signal
    ages = [
        # Another process's clock may be ahead of this one.
        max(0.0, (now - one.decided_at).total_seconds())
        for one in recent
        if one.asset == signal.asset and one.side is signal.side.opposite and one.strategy_id != signal.strategy_id
    ]
    return min((age for age in ages if age < window_seconds), default=None)


def _take(state: SharedState, decided: DecidedSignal, now: datetime) -> None:
    key, signal = _key(decided), decided.signal
    state.held[key] = state.held.get(key, Held()).with_opening(signal.side, float(signal.amount))
    state.recent.append(RecentOpening(signal.strategy_id, signal.asset, signal.side, now))


def _key(decided: DecidedSignal) -> PositionKey:
    return decided.signal.strategy_id, decided.signal.asset


def _with_readings(decided: DecidedSignal, readings: Sequence[GuardReading]) -> DecidedSignal:
    if decided.evidence is None:
        return decided
    guards = [{"guard": one.guard.value, "value": one.value, "threshold": one.threshold} for one in readings]
    return replace(decided, evidence={**decided.evidence, "guards": [*decided.evidence.get("guards", ()), *guards]})


def _refilled(bucket: Bucket, limits: SharedLimits, now: datetime) -> Bucket:
    return refilled(bucket, per_minute=limits.rate_per_minute or 0.0, burst=limits.burst, now=now)


def _moved(bucket: Bucket | None, now: datetime) -> datetime:
    return now if bucket is None else refilled(bucket, per_minute=0.0, burst=0, now=now).refilled_at
