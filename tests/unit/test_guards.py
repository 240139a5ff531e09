"""Each guard of openings refuses for its own reason, with value and threshold."""

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from model_service.contracts.types import Side
from model_service.market.snapshot import PriceJump
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.balances import Balance
from model_service.services.guards import refuse_opening
from model_service.services.halts import Halt
from model_service.services.opening_request import GuardLimits, OpeningRequest
from model_service.services.ports import OpenOrder
from tests.support.builders import NOON, snapshot, strategy

LIMITS = GuardLimits(
    market_data_max_age_seconds=60.0,
    skip_if_open_order=True,
    opposite_orders_only=False,
    indicators_max_age_seconds=300.0,
    balance_share=0.95,
    balance_max_age_seconds=60.0,
    order_amount=1000.0,
    order_quantity=0.045,
)
NO_ORDERS_LOOKED_AT = replace(LIMITS, skip_if_open_order=False)
STOP = Halt(1, None, "manual", "fire", "http", {}, NOON)
LOSS = Halt(2, "momentum_v1", "loss_limit", "lost", "service", {"loss": 120.5, "limit": 100.0}, NOON)
OTHERS = Halt(3, "another", "loss_limit", "lost", "service", {"loss": 120.5, "limit": 100.0}, NOON)


def request(**changes: Any) -> OpeningRequest:
    values: dict[str, Any] = {
        "strategy": strategy(),
        "limits": LIMITS,
        "snapshot": snapshot(),
        "side": Side.BUY,
        "amount": Decimal(500),
        "position_amount": 0.0,
        "open_orders": (),
        "tokens": 5.0,
    }
    return OpeningRequest(**{**values, **changes})


def order(side: Side) -> OpenOrder:
    return OpenOrder("momentum_v1", "BTCUSDT", side, "open")


def test_everything_in_order_passes() -> None:
    assert refuse_opening(request()) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"snapshot": snapshot(updated_at=None)}, Reason(ReasonCode.MARKET_DATA_MISSING)),
        (
            {"snapshot": snapshot(updated_at=NOON - timedelta(seconds=61))},
            Reason(ReasonCode.MARKET_DATA_STALE, 61.0, 60.0),
        ),
        ({"snapshot": snapshot(spread_percent=float("nan"))}, Reason(ReasonCode.BOOK_INVALID, None, 0.0)),
        (
            {"snapshot": snapshot(price_jump=PriceJump(99_900.0, 50.0))},
            Reason(ReasonCode.PRICE_JUMP, 99_900.0, 50.0),
        ),
        (
            {"snapshot": snapshot(updated_at=NOON + timedelta(seconds=61))},
            Reason(ReasonCode.MARKET_DATA_AHEAD, 61.0, 60.0),
        ),
        (
            {"snapshot": snapshot(spread_percent=float("nan"), crossed_percent=0.0)},
            Reason(ReasonCode.BOOK_INVALID, 0.0, 0.0),
        ),
        (
            {"snapshot": snapshot(quote_at=NOON - timedelta(seconds=61))},
            Reason(ReasonCode.BOOK_STALE, 61.0, 60.0),
        ),
        (
            {"snapshot": snapshot(bars_until=NOON - timedelta(seconds=301))},
            Reason(ReasonCode.INDICATORS_STALE, 301.0, 300.0),
        ),
        ({"open_orders": (order(Side.SELL),)}, Reason(ReasonCode.OPEN_ORDER, 1.0, 0.0)),
        ({"position_amount": 9_800.0}, Reason(ReasonCode.POSITION_LIMIT, 10_300.0, 10_000.0)),
        (
            {"platform_position_amount": 19_800.0, "platform_limit_amount": 20_000.0},
            Reason(ReasonCode.PLATFORM_POSITION_LIMIT, 20_300.0, 20_000.0),
        ),
        ({"halts": (STOP,)}, Reason(ReasonCode.STOPPED, 1.0, 0.0)),
        ({"halts": (LOSS,)}, Reason(ReasonCode.LOSS_LIMIT, 120.5, 100.0)),
        ({"halts": (LOSS, STOP)}, Reason(ReasonCode.STOPPED, 1.0, 0.0)),
        (
            {"balance": Balance(10_000.0, NOON - timedelta(seconds=60.5))},
            Reason(ReasonCode.BALANCE_STALE, 60.5, 60.0),
        ),
        ({"balance": Balance(526.0, NOON)}, Reason(ReasonCode.BALANCE_TOO_LOW, 500.0, 0.95 * 526)),
        ({"balance": Balance(-1.0, NOON)}, Reason(ReasonCode.BALANCE_TOO_LOW, 500.0, -0.95)),
        (
            {"balance": Balance(1000.0, NOON), "asked_amount": 450.01},
            Reason(ReasonCode.BALANCE_TOO_LOW, 950.01, 950.0),
        ),
        ({"amount": Decimal("1000.01")}, Reason(ReasonCode.ORDER_MANAGER_AMOUNT, 1000.01, 1000.0)),
        ({"platform_quantity": 0.04}, Reason(ReasonCode.ORDER_MANAGER_POSITION_SIZE, 0.05, 0.045)),
        (
            {"side": Side.SELL, "platform_quantity": 1.0, "amount": Decimal(2500)},
            Reason(ReasonCode.ORDER_MANAGER_POSITION_SIZE, 0.05, 0.045),
        ),
        ({"amount": Decimal("9.99")}, Reason(ReasonCode.AMOUNT_BELOW_MINIMUM, 9.99, 10.0)),
        ({"tokens": 0.4}, Reason(ReasonCode.RATE_LIMITED, 0.4, 1.0)),
        ({"open_exits": 1, "limits": NO_ORDERS_LOOKED_AT}, Reason(ReasonCode.ASSET_EXIT_OPEN, 1.0, 0.0)),
        ({"under_way_amount": 9_501.0}, Reason(ReasonCode.POSITION_LIMIT, 10_001.0, 10_000.0)),
        (
            {"side": Side.SELL, "position_amount": 15_000.0, "amount": Decimal(25_001)},
            Reason(ReasonCode.POSITION_LIMIT, 10_001.0, 10_000.0),
        ),
        (
            {
                "side": Side.SELL,
                "platform_position_amount": 1600.0,
                "amount": Decimal(2900),
                "platform_limit_amount": 1e3,
            },
            Reason(ReasonCode.PLATFORM_POSITION_LIMIT, 1300.0, 1000.0),
        ),
        ({"balance_is_unread": True}, Reason(ReasonCode.BALANCE_UNKNOWN, 1.0, 0.0)),
        ({"balance": Balance(1e9, NOON + timedelta(days=365))}, Reason(ReasonCode.BALANCE_STALE, 365 * 86_400.0, 60.0)),
        # What is no number may not pass for one that is small enough.
        ({"balance": Balance(math.nan, NOON)}, Reason(ReasonCode.BALANCE_UNKNOWN, 1.0, 0.0)),
        ({"balance": Balance(math.inf, NOON)}, Reason(ReasonCode.BALANCE_UNKNOWN, 1.0, 0.0)),
        ({"balance": Balance(1e9, NOON), "asked_amount": math.nan}, Reason(ReasonCode.BALANCE_TOO_LOW, None, 0.95e9)),
        ({"position_amount": math.nan}, Reason(ReasonCode.POSITION_LIMIT, None, 10_000.0)),
        (
            {"platform_position_amount": math.nan, "platform_limit_amount": 1e3},
            Reason(ReasonCode.PLATFORM_POSITION_LIMIT, None, 1000.0),
        ),
        ({"platform_quantity": math.nan}, Reason(ReasonCode.ORDER_MANAGER_POSITION_SIZE, None, 0.045)),
        ({"tokens": math.nan}, Reason(ReasonCode.RATE_LIMITED, None, 1.0)),
    ],
)
def test_refusals(changes: dict[str, Any], expected: Reason) -> None:
    assert refuse_opening(request(**changes)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"balance": Balance(500 / 0.95 + 1e-9, NOON - timedelta(seconds=60))},
        {"balance": Balance(1000.0, NOON + timedelta(seconds=5)), "asked_amount": 450.0},
        {"balance": None, "asked_amount": 1e9},
        {"amount": Decimal(1000)},
        {"limits": replace(LIMITS, order_quantity=0.01)},
        {"side": Side.SELL, "platform_quantity": 1.0},
        {"halts": (OTHERS,)},
        {"amount": Decimal(10)},
        {"tokens": 1.0},
        {"under_way_amount": 9_500.0},
        {"side": Side.SELL, "position_amount": 9_900.0, "amount": Decimal(900), "under_way_amount": 9_000.0},
    ],
)
def test_what_stands_at_its_border_passes(changes: dict[str, Any]) -> None:
    assert refuse_opening(request(**changes)) is None


def test_order_manager_drops_less_than_a_cent_whatever_the_exchange_takes() -> None:
    tiny = strategy(exchange_minimum_amount=Decimal("0.001"))
    assert refuse_opening(request(strategy=tiny, amount=Decimal("0.009"))) == Reason(
        ReasonCode.AMOUNT_BELOW_MINIMUM, 0.009, 0.01
    )
    assert refuse_opening(request(strategy=tiny, amount=Decimal("0.01"))) is None


def test_a_position_over_the_limit_may_be_reduced() -> None:
    assert refuse_opening(request(side=Side.SELL, position_amount=11_000.0)) is None


def test_only_opposite_orders_count_when_set_so() -> None:
    limits = GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=True)
    assert refuse_opening(request(limits=limits, open_orders=(order(Side.BUY),))) is None
    assert refuse_opening(request(limits=limits, open_orders=(order(Side.SELL),))) is not None


def test_open_orders_do_not_count_when_switched_off() -> None:
    limits = GuardLimits(60.0, skip_if_open_order=False, opposite_orders_only=False)
    assert refuse_opening(request(limits=limits, open_orders=(order(Side.SELL),))) is None


@pytest.mark.parametrize(
    ("book", "table", "contradicts"),
    [
        (5_000.0, -5_000.0, True),
        (5_000.0, 0.0, True),
        (5_000.0, 499.0, True),
        (5_000.0, 501.0, False),
        (5_000.0, 10_000.0, False),
        (-5_000.0, -10_000.0, False),
        (-5_000.0, 10_000.0, True),
        (100.0, 0.0, False),
        (100.1, 0.0, True),
        (0.0, -5_000.0, False),
    ],
)
def test_a_table_that_denies_our_position_is_a_contradiction_and_one_that_counts_it_twice_is_none(
    book: float, table: float, contradicts: bool
) -> None:
    looked_at = replace(LIMITS, contradiction_amount=100.0, order_amount=math.inf)
    asked = request(limits=looked_at, book_amount=book, platform_position_amount=table, platform_is_known=True)
    expected = Reason(ReasonCode.PLATFORM_CONTRADICTS_BOOK, abs(book), 100.0) if contradicts else None
    assert refuse_opening(asked) == expected
    assert refuse_opening(replace(asked, platform_is_known=False)) is None, "there is no table"
    assert refuse_opening(replace(asked, limits=replace(looked_at, contradiction_amount=math.inf))) is None
