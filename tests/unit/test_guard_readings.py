"""What is kept of the guards is what they decided on, guard for guard."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.market.snapshot import PriceJump
from model_service.policies.reasons import ReasonCode
from model_service.services.balances import Balance
from model_service.services.decision_evidence import decision_evidence
from model_service.services.guard_readings import MEASURES, GuardReading, guard_readings
from model_service.services.guards import OPENING_GUARDS, refuse_opening
from model_service.services.halts import Halt, HaltKind
from model_service.services.opening_request import GuardLimits, OpeningRequest
from model_service.services.ports import OpenOrder
from model_service.services.shared_limits import SHARED_GUARDS, SharedLimits, SharedRequest, shared_readings
from tests.support.builders import NOON, snapshot, strategy

KINDS: tuple[HaltKind, ...] = ("manual", "loss_limit")


def halt(strategy_id: str | None, kind: HaltKind) -> Halt:
    evidence = {"loss": 120.5, "limit": 100.0} if kind == "loss_limit" else {}
    return Halt(1, strategy_id, kind, "test", "somebody", evidence, NOON)


AMOUNTS = st.floats(-20_000, 20_000)
UNKNOWN = st.sampled_from([math.nan, math.inf])
REQUESTS = st.builds(
    OpeningRequest,
    strategy=st.builds(strategy, exchange_minimum_amount=st.sampled_from([Decimal(10), Decimal(600)])),
    limits=st.builds(
        GuardLimits,
        st.just(60.0),
        st.booleans(),
        st.booleans(),
        st.sampled_from([300.0, float("inf")]),
        balance_share=st.just(0.95),
        balance_max_age_seconds=st.just(60.0),
        order_amount=st.sampled_from([math.inf, 500.0, 499.99]),
        order_quantity=st.sampled_from([math.inf, 0.01, 0.009]),
        contradiction_amount=st.sampled_from([math.inf, 100.0]),
    ),
    snapshot=st.builds(
        lambda age, spread, crossed, quote, bar, jump: snapshot(
            updated_at=NOON - timedelta(seconds=age),
            spread_percent=spread,
            crossed_percent=crossed,
            quote_at=None if quote is None else NOON - timedelta(seconds=quote),
            bars_until=None if bar is None else NOON - timedelta(seconds=bar),
            price_jump=jump,
        ),
        st.sampled_from([-61, -60, 0, 59, 60, 61]),
        st.sampled_from([0.01, 0.0, -0.1, float("nan")]),
        st.sampled_from([0.0, -0.1, float("nan")]),
        st.sampled_from([None, 0, 60, 61]),
        st.sampled_from([None, 0, 300, 301]),
        st.sampled_from([None, PriceJump(99_900.0, 50.0)]),
    ),
    side=st.sampled_from(Side),
    amount=st.sampled_from([Decimal(500), Decimal("9.99")]),
    position_amount=AMOUNTS | st.just(math.nan),
    open_orders=st.lists(st.builds(OpenOrder, st.just("a"), st.just("BTCUSDT"), st.sampled_from(Side), st.none())),
    tokens=st.sampled_from([0.0, 0.99, 1.0, 5.0, math.nan]),
    platform_position_amount=AMOUNTS | UNKNOWN,
    platform_limit_amount=st.sampled_from([10_000.0, float("inf")]),
    halts=st.lists(st.builds(halt, st.sampled_from([None, "momentum_v1", "b"]), st.sampled_from(KINDS)), max_size=2),
    balance=st.none()
    | st.builds(
        lambda available, age: Balance(available, NOON - timedelta(seconds=age)),
        st.sampled_from([-1.0, 500.0, 500 / 0.95, 2000.0, math.nan, math.inf]),
        st.sampled_from([-61, -5, 0, 60, 61]),
    ),
    asked_amount=st.sampled_from([0.0, 1000.0]),
    platform_quantity=st.sampled_from([0.0, 0.005, -0.005, 1.0, math.nan]),
    under_way_amount=st.sampled_from([0.0, 9_000.0]),
    open_exits=st.sampled_from([0, 0, 1]),
    balance_is_unread=st.booleans(),
    book_amount=AMOUNTS,
    platform_is_known=st.booleans(),
)


def passes(reading: GuardReading, request: OpeningRequest) -> bool:
    if reading.threshold is None:
        return True
    if reading.value is None:
        return False
    if MEASURES[reading.guard][1] == "at_least":
        return reading.value >= reading.threshold
    if MEASURES[reading.guard][1] == "above":
        return reading.value > reading.threshold
    if reading.value <= reading.threshold:
        return True
    before, under_way = {
        ReasonCode.POSITION_LIMIT: (request.position_amount, request.under_way_amount),
        ReasonCode.PLATFORM_POSITION_LIMIT: (request.platform_position_amount, 0.0),
    }.get(reading.guard, (0.0, 0.0))
    change = request.side.sign * (float(request.amount) + under_way)
    turns = before + change != 0 and (before + change > 0) is not (before > 0)
    return reading.value <= abs(before) and not turns


@given(REQUESTS)
def test_the_first_reading_that_fails_is_the_reason(request: OpeningRequest) -> None:
    readings = guard_readings(request)
    reason = refuse_opening(request)
    failing = [one for one in readings if not passes(one, request)]
    if reason is None:
        assert failing == []
    else:
        assert (failing[0].guard, failing[0].value, failing[0].threshold) == (
            reason.code,
            reason.value,
            reason.threshold,
        )


def test_there_is_a_reading_and_a_measure_for_each_guard() -> None:
    request = OpeningRequest(
        strategy(), GuardLimits(60.0, True, False), snapshot(), Side.BUY, Decimal(500), 0.0, (), 1.0
    )
    codes = [one.guard for one in guard_readings(request)]
    assert len(codes) == len(OPENING_GUARDS)
    shared = [one.guard for one in shared_readings(SharedRequest(SharedLimits(), 0.0, 0.0, None, 1.0))]
    assert len(shared) == len(SHARED_GUARDS)
    assert {*codes, *shared} == set(MEASURES)


def test_evidence_is_json_also_where_nothing_is_known() -> None:
    blind = snapshot(book_imbalance=float("nan"), volatility=float("inf"), indicators={"return_5m": 0.1})
    found = decision_evidence(
        strategy(), blind, 5.0, [GuardReading(ReasonCode.OPEN_ORDER, None, 0.0)], position_amount=0.0
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["market"] == {"indicators": {"return_5m": 0.1}}
