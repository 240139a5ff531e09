"""What the guards of openings read when they let a signal pass: the numbers that are kept with it.

Guards are asked at every tick and say no more than a refusal needs; these numbers are made for a signal only. A test
holds that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from model_service.market.snapshot import MarketSnapshot, PriceJump
from model_service.policies.reasons import ReasonCode
from model_service.services.guards import age_seconds, heard_seconds, is_balance_unknown, order_minimum, spread_read
from model_service.services.halts import Halt, held
from model_service.services.opening_request import OpeningRequest

Comparison = Literal["at_most", "at_least", "above"]


@dataclass(frozen=True, slots=True)
class GuardReading:
    """One guard, by the reason that it refuses with; a threshold of None: the guard was not to be asked."""

    guard: ReasonCode
    value: float | None
    threshold: float | None


MEASURES: Mapping[str, tuple[str, Comparison]] = {
    ReasonCode.MARKET_DATA_STALE: ("age of the market data, seconds", "at_most"),
    ReasonCode.PRICE_JUMP: ("the price to the one before, percent of the smaller", "at_most"),
    ReasonCode.STOPPED: ("stops by a person that hold", "at_most"),
    ReasonCode.LOSS_LIMIT: ("loss of the day by which it was halted, quote currency", "at_most"),
    ReasonCode.MARKET_DATA_AHEAD: ("the market data ahead of our clock, seconds", "at_most"),
    ReasonCode.BOOK_INVALID: ("spread, percent", "above"),
    ReasonCode.BOOK_STALE: ("age of the book, seconds", "at_most"),
    ReasonCode.INDICATORS_STALE: ("age of the newest closed bar, seconds", "at_most"),
    ReasonCode.ASSET_EXIT_OPEN: ("open orders of any strategy that close a position in the asset", "at_most"),
    ReasonCode.OPEN_ORDER: ("open orders of the asset that count", "at_most"),
    ReasonCode.POSITION_LIMIT: ("the strategy's position after it and what is under way, quote currency", "at_most"),
    ReasonCode.PLATFORM_POSITION_LIMIT: ("the platform's position after it, quote currency", "at_most"),
    ReasonCode.PLATFORM_CONTRADICTS_BOOK: (
        "our position that the platform's table denies, quote currency",
        "at_most",
    ),
    ReasonCode.ORDER_MANAGER_POSITION_SIZE: ("order, or the position that it enlarges, base units", "at_most"),
    ReasonCode.BALANCE_UNKNOWN: ("balances that are there and cannot be read", "at_most"),
    ReasonCode.BALANCE_STALE: ("between the balance and our clock, seconds", "at_most"),
    ReasonCode.BALANCE_TOO_LOW: ("asked of the balance in this pass and under way, quote currency", "at_most"),
    ReasonCode.AMOUNT_BELOW_MINIMUM: ("amount, quote currency", "at_least"),
    ReasonCode.ORDER_MANAGER_AMOUNT: ("amount, quote currency", "at_most"),
    ReasonCode.RATE_LIMITED: ("signals that the rate limit had left", "at_least"),
    ReasonCode.EXPOSURE_LIMIT: ("all positions and openings after it, quote currency", "at_most"),
    ReasonCode.CONFLICTING_SIGNAL: ("seconds since another strategy opened the other side", "at_least"),
    ReasonCode.TOTAL_RATE_LIMITED: ("signals that the rate limit of all strategies had left", "at_least"),
}
"""What each guard measures, and how the value has to stand to the threshold. A position over its limit may shrink."""


def guard_readings(request: OpeningRequest) -> tuple[GuardReading, ...]:
    """What every guard looks at, in the order in which they are asked, whether they pass or not."""
    strategy, limits, snapshot = request.strategy, request.limits, request.snapshot
    age = age_seconds(snapshot, snapshot.updated_at)
    balance, name = request.balance, strategy.strategy_id
    counted = [
        order for order in request.open_orders if not limits.opposite_orders_only or order.side is request.side.opposite
    ]
    return (
        _reading(ReasonCode.MARKET_DATA_STALE, heard_seconds(snapshot), limits.market_data_max_age_seconds),
        _jump_reading(snapshot.price_jump),
        _reading(ReasonCode.STOPPED, float(len(held(request.halts, name, "manual"))), 0.0),
        _loss(held(request.halts, name, "loss_limit")),
        _reading(
            ReasonCode.MARKET_DATA_AHEAD, None if age is None else max(0.0, -age), limits.market_data_max_age_seconds
        ),
        _reading(ReasonCode.BOOK_INVALID, spread_read(snapshot), 0.0),
        _age_reading(ReasonCode.BOOK_STALE, snapshot, snapshot.quote_at, limits.market_data_max_age_seconds),
        _age_reading(ReasonCode.INDICATORS_STALE, snapshot, snapshot.bars_until, limits.indicators_max_age_seconds),
        _reading(ReasonCode.ASSET_EXIT_OPEN, float(request.open_exits), 0.0),
        _reading(ReasonCode.OPEN_ORDER, float(len(counted)), 0.0 if limits.skip_if_open_order else None),
        _reading(
            ReasonCode.POSITION_LIMIT,
            abs(request.reached_amount(request.position_amount, request.under_way_amount)),
            float(strategy.maximum_position_amount),
        ),
        _reading(
            ReasonCode.PLATFORM_POSITION_LIMIT,
            abs(request.reached_amount(request.platform_position_amount)),
            request.platform_limit_amount,
        ),
        _reading(ReasonCode.PLATFORM_CONTRADICTS_BOOK, request.contradicted_amount, limits.contradiction_amount),
        _reading(ReasonCode.ORDER_MANAGER_POSITION_SIZE, request.reached_quantity, limits.order_quantity),
        _reading(ReasonCode.BALANCE_UNKNOWN, float(is_balance_unknown(request)), 0.0),
        _reading(
            ReasonCode.BALANCE_STALE,
            None if balance is None else balance.age_seconds(snapshot.at),
            None if balance is None else limits.balance_max_age_seconds,
        ),
        _reading(
            ReasonCode.BALANCE_TOO_LOW,
            request.asked_amount + float(request.amount),
            None if balance is None else limits.balance_share * balance.available,
        ),
        _reading(ReasonCode.AMOUNT_BELOW_MINIMUM, float(request.amount), float(order_minimum(request))),
        _reading(ReasonCode.ORDER_MANAGER_AMOUNT, float(request.amount), limits.order_amount),
        _reading(ReasonCode.RATE_LIMITED, request.tokens, 1.0),
    )


def _jump_reading(jump: PriceJump | None) -> GuardReading:
    if jump is None:
        return _reading(ReasonCode.PRICE_JUMP, None, None)
    return _reading(ReasonCode.PRICE_JUMP, jump.percent, jump.limit_percent)


def _age_reading(guard: ReasonCode, snapshot: MarketSnapshot, moment: datetime | None, limit: float) -> GuardReading:
    return _reading(guard, age_seconds(snapshot, moment), None if moment is None else limit)


def _loss(halts: Sequence[Halt]) -> GuardReading:
    evidence = halts[0].evidence if halts else {}
    return _reading(ReasonCode.LOSS_LIMIT, evidence.get("loss"), evidence.get("limit"))


def _reading(guard: ReasonCode, value: float | None, threshold: float | None) -> GuardReading:
    return GuardReading(guard, _finite(value), _finite(threshold))


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
