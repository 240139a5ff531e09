"""The limits that all processes share, each at its border, and all of them together."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.decision_funnel import DECIDING
from model_service.services.halts import Halt
from model_service.services.rate_limit import Bucket, refilled
from model_service.services.shared_limits import (
    SHARED_GUARDS,
    Held,
    RecentOpening,
    SharedLimits,
    SharedRequest,
    SharedState,
    admit,
    refuse_shared,
)
from tests.support.builders import NOON
from tests.support.openings import opening

SECOND = timedelta(seconds=1)


def reasons(state: SharedState, limits: SharedLimits, *openings: object) -> list[Reason]:
    return [one.reason for one in admit(state, list(openings), limits, NOON).refused]  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "granted"), [(1500.0, 3), (1499.99, 2)])
def test_openings_take_of_the_exposure_one_by_one(limit: float, granted: int) -> None:
    openings = [opening(number, strategy_id=f"s{number}") for number in range(4)]
    admission = admit(SharedState(), openings, SharedLimits(maximum_exposure=limit), NOON)
    assert list(admission.granted) == [
        replace(one, evidence=done.evidence) for one, done in zip(openings, admission.granted, strict=False)
    ]
    assert len(admission.granted) == granted
    assert [one.reason for one in admission.refused] == [
        Reason(ReasonCode.EXPOSURE_LIMIT, (granted + 1) * 500.0, limit)
    ] * (4 - granted)


def test_longs_and_shorts_add_up_and_what_makes_it_smaller_passes() -> None:
    held = {("a", "BTCUSDT"): Held(900.0), ("b", "ETHUSDT"): Held(-900.0)}
    limits = SharedLimits(maximum_exposure=1000.0)
    reduces = opening(1, "a", Side.SELL)
    assert reasons(SharedState(held=dict(held)), limits, reduces) == []
    grows = opening(2, "c", Side.SELL)
    assert reasons(SharedState(held=dict(held)), limits, grows) == [Reason(ReasonCode.EXPOSURE_LIMIT, 2300.0, 1000.0)]
    turns = opening(3, "a", Side.SELL, amount="2000")
    assert reasons(SharedState(held=dict(held)), limits, turns) == [Reason(ReasonCode.EXPOSURE_LIMIT, 2000.0, 1000.0)]


def test_openings_under_way_count_until_they_are_filled_or_gone() -> None:
    held = {("a", "BTCUSDT"): Held(100.0, buying=400.0, selling=50.0)}
    assert held["a", "BTCUSDT"].exposure == 500.0
    assert reasons(SharedState(held=held), SharedLimits(maximum_exposure=999.0), opening(1)) == [
        Reason(ReasonCode.EXPOSURE_LIMIT, 1000.0, 999.0)
    ]


@pytest.mark.parametrize(
    ("strategy_id", "asset", "side", "age", "refused"),
    [
        ("b", "BTCUSDT", Side.SELL, 0.0, True),
        ("b", "BTCUSDT", Side.SELL, 9.999, True),
        ("b", "BTCUSDT", Side.SELL, 10.0, False),
        ("b", "BTCUSDT", Side.SELL, -2.0, True),
        ("b", "BTCUSDT", Side.BUY, 1.0, False),
        ("b", "ETHUSDT", Side.SELL, 1.0, False),
        ("a", "BTCUSDT", Side.SELL, 1.0, False),
    ],
)
def test_whoever_comes_second_with_the_other_side_is_refused(
    strategy_id: str, asset: str, side: Side, age: float, refused: bool
) -> None:
    recent = [RecentOpening(strategy_id, asset, side, NOON - age * SECOND)]
    expected = [Reason(ReasonCode.CONFLICTING_SIGNAL, max(0.0, age), 10.0)] if refused else []
    assert reasons(SharedState(recent=recent), SharedLimits(conflict_window_seconds=10.0), opening(1)) == expected


def test_within_one_pass_the_first_has_the_word() -> None:
    limits = SharedLimits(conflict_window_seconds=10.0)
    openings = [opening(1, "a"), opening(2, "b", Side.SELL), opening(3, "c"), opening(4, "a", Side.SELL)]
    admission = admit(SharedState(), openings, limits, NOON)
    # The last one is opposed by c, which came in between.
    assert [one.decided.signal.strategy_id for one in admission.refused] == ["b", "a"]


def test_the_overall_rate_has_a_burst_and_fills_up() -> None:
    limits = SharedLimits(rate_per_minute=60.0, burst=2)
    openings = [opening(number, f"s{number}") for number in range(3)]
    first = admit(SharedState(), openings, limits, NOON)
    assert (len(first.granted), first.bucket) == (2, Bucket(0.0, NOON))
    assert first.refused[0].reason == Reason(ReasonCode.TOTAL_RATE_LIMITED, 0.0, 1.0)
    later = NOON + 0.999 * SECOND
    second = admit(SharedState(bucket=first.bucket), [opening(9)], limits, later)
    assert second.refused[0].reason.value == pytest.approx(0.999)
    third = admit(SharedState(bucket=second.bucket), [opening(9)], limits, NOON + SECOND)
    assert len(third.granted) == 1


@given(st.lists(st.floats(-29, 29), min_size=1, max_size=30))
def test_processes_with_different_clocks_gain_no_tokens(steps: list[float]) -> None:
    bucket = Bucket(0.0, NOON)
    for step in steps:
        bucket = refilled(bucket, per_minute=60.0, burst=10**6, now=NOON + step * SECOND)
    assert bucket.tokens <= max(0.0, *steps, 0.0) + 1e-6
    assert bucket.tokens <= 29.0 + 1e-6


def test_a_clock_that_was_set_back_an_hour_does_not_stop_the_bucket() -> None:
    back = refilled(Bucket(0.0, NOON), per_minute=60.0, burst=5, now=NOON - 3600 * SECOND)
    assert refilled(back, per_minute=60.0, burst=5, now=NOON - 3597 * SECOND).tokens == 3.0


def test_a_halt_that_began_meanwhile_refuses_what_was_decided_before_it() -> None:
    own = Halt(1, "a", "loss_limit", "", "service", {"loss": 120.0, "limit": 100.0}, NOON)
    every = Halt(2, None, "manual", "", "http", {}, NOON)
    openings = [opening(1, "a"), opening(2, "b")]
    assert reasons(SharedState(halts=[own]), SharedLimits(), *openings) == [Reason(ReasonCode.LOSS_LIMIT, 120.0, 100.0)]
    assert (
        reasons(SharedState(halts=[own, every]), SharedLimits(), *openings)
        == [Reason(ReasonCode.STOPPED, 1.0, 0.0)] * 2
    )


def test_what_the_guards_read_is_added_to_the_evidence() -> None:
    limits = SharedLimits(maximum_exposure=1000.0, rate_per_minute=60.0, burst=3)
    (granted,) = admit(SharedState(), [opening(1)], limits, NOON).granted
    assert granted.evidence is not None
    assert granted.evidence["guards"] == [
        {"guard": "exposure_limit", "value": 500.0, "threshold": 1000.0},
        {"guard": "conflicting_signal", "value": None, "threshold": None},
        {"guard": "total_rate_limited", "value": 3.0, "threshold": 1.0},
    ]


def test_the_shared_guards_stand_in_the_order_in_which_they_are_asked() -> None:
    names = [name for name, _, _ in DECIDING]
    codes = [code for _, _, stops in DECIDING[names.index("limits_known") + 1 :] for code in stops]
    limits = SharedLimits(maximum_exposure=100.0, conflict_window_seconds=10.0, rate_per_minute=60.0)
    good = SharedRequest(limits, 0.0, 0.0, None, 1.0)
    changes = [{"exposure_after": 200.0}, {"opposed_seconds": 1.0}, {"tokens": 0.5}]
    asked = []
    for first in range(len(changes)):
        bad = {name: value for change in changes[first:] for name, value in change.items()}
        reason = refuse_shared(replace(good, **bad))  # type: ignore[arg-type]
        asked.append(reason.code if reason else None)
    assert asked == codes
    assert len(SHARED_GUARDS) == len(codes)
    assert refuse_shared(good) is None


OPENINGS = st.lists(
    st.builds(
        lambda number, name, side, asset, amount: opening(number, name, side, asset=asset, amount=str(amount)),
        st.integers(1, 10**6),
        st.sampled_from("abc"),
        st.sampled_from(Side),
        st.sampled_from(["BTCUSDT", "ETHUSDT"]),
        st.integers(1, 900),
    ),
    max_size=12,
)


@given(OPENINGS, st.floats(0, 3000), st.integers(1, 6))
def test_whatever_is_granted_keeps_every_limit(openings: list[object], limit: float, burst: int) -> None:
    limits = SharedLimits(maximum_exposure=limit, conflict_window_seconds=5.0, rate_per_minute=1.0, burst=burst)
    state = SharedState()
    admission = admit(state, openings, limits, NOON)  # type: ignore[arg-type]
    assert len(admission.granted) + len(admission.refused) == len(openings)
    assert math.fsum(held.exposure for held in state.held.values()) <= limit + 1e-6
    assert len(admission.granted) <= burst
    sides: dict[tuple[str, Side], set[str]] = {}
    for one in admission.granted:
        signal = one.signal
        sides.setdefault((signal.asset, signal.side), set()).add(signal.strategy_id)
    for (asset, side), strategies in sides.items():
        others = sides.get((asset, side.opposite), set())
        assert not {(one, other) for one in strategies for other in others if one != other}
