"""The guards of openings, in the order in which they are asked. Each passes (None) or gives its reason and numbers.

They are asked of what this process knows. What all processes share (`services.shared_limits`) is asked last, when the
opening is recorded. docs/guards.md lists all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from model_service.market.snapshot import MarketSnapshot
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.halts import Halt, held
from model_service.services.opening_request import OpeningRequest

LEAST_ORDER_AMOUNT = Decimal("0.01")
"""order-manager silently drops a signal of a smaller amount."""


def refuse_opening(request: OpeningRequest) -> Reason | None:
    """The first guard's reason, or None when all pass."""
    for guard in OPENING_GUARDS:
        reason = guard(request)
        if reason is not None:
            return reason
    return None


def market_data_reason(snapshot: MarketSnapshot, max_age_seconds: float) -> Reason | None:
    """Whether the market data allow any signal at all, exits included."""
    return _stale(snapshot, max_age_seconds) or _jumped(snapshot)


def spread_read(snapshot: MarketSnapshot) -> float | None:
    """The spread in percent, 0 or less where bid and ask are crossed; None where a side is missing."""
    spread = snapshot.spread_percent if math.isfinite(snapshot.spread_percent) else snapshot.crossed_percent
    return spread if math.isfinite(spread) else None


def age_seconds(snapshot: MarketSnapshot, moment: datetime | None) -> float | None:
    """How long before the snapshot `moment` was; below 0 when it lies after it."""
    return None if moment is None else (snapshot.at - moment).total_seconds()


def heard_seconds(snapshot: MarketSnapshot) -> float | None:
    """The age of the market data. An event with a time ahead of ours grows old from when it came."""
    return age_seconds(snapshot, snapshot.heard_at or snapshot.updated_at)


def _stale(snapshot: MarketSnapshot, max_age_seconds: float) -> Reason | None:
    age = heard_seconds(snapshot)
    if age is None or not math.isfinite(snapshot.price):
        return Reason(ReasonCode.MARKET_DATA_MISSING)
    return None if age <= max_age_seconds else Reason(ReasonCode.MARKET_DATA_STALE, age, max_age_seconds)


def _jumped(snapshot: MarketSnapshot) -> Reason | None:
    jump = snapshot.price_jump
    return None if jump is None else Reason(ReasonCode.PRICE_JUMP, jump.percent, jump.limit_percent)


def halted(strategy_id: str, halts: Sequence[Halt]) -> Reason | None:
    """Whether the strategy may open anything at all: a stop by a person, then its loss limit or that of all."""
    return _stopped(strategy_id, halts) or _loss_limited(strategy_id, halts)


def _stopped(strategy_id: str, halts: Sequence[Halt]) -> Reason | None:
    stops = held(halts, strategy_id, "manual")
    return Reason(ReasonCode.STOPPED, float(len(stops)), 0.0) if stops else None


def _loss_limited(strategy_id: str, halts: Sequence[Halt]) -> Reason | None:
    for halt in held(halts, strategy_id, "loss_limit"):
        return Reason(ReasonCode.LOSS_LIMIT, halt.evidence.get("loss"), halt.evidence.get("limit"))
    return None


def _not_stopped(request: OpeningRequest) -> Reason | None:
    return _stopped(request.strategy.strategy_id, request.halts)


def _within_loss_limit(request: OpeningRequest) -> Reason | None:
    return _loss_limited(request.strategy.strategy_id, request.halts)


def _fresh_market_data(request: OpeningRequest) -> Reason | None:
    return _stale(request.snapshot, request.limits.market_data_max_age_seconds)


def _steady_price(request: OpeningRequest) -> Reason | None:
    return _jumped(request.snapshot)


def _clocks_agree(request: OpeningRequest) -> Reason | None:
    # Data ahead of our clock would pass for fresh long after they have stopped. An exit has to go on meanwhile: a wrong
    # clock of ours must not hold a stop-loss back.
    age, limit = age_seconds(request.snapshot, request.snapshot.updated_at), request.limits.market_data_max_age_seconds
    return Reason(ReasonCode.MARKET_DATA_AHEAD, -age, limit) if age is not None and -age > limit else None


def _valid_book(request: OpeningRequest) -> Reason | None:
    spread = spread_read(request.snapshot)
    return Reason(ReasonCode.BOOK_INVALID, spread, 0.0) if spread is None or spread <= 0.0 else None


def _fresh_book(request: OpeningRequest) -> Reason | None:
    # Trades may flow while the book stands still: its own age counts.
    age, limit = age_seconds(request.snapshot, request.snapshot.quote_at), request.limits.market_data_max_age_seconds
    return Reason(ReasonCode.BOOK_STALE, age, limit) if age is not None and age > limit else None


def _fresh_indicators(request: OpeningRequest) -> Reason | None:
    # Before the first bar they are unknown, and every policy sees that. Old ones look like knowledge.
    age, limit = age_seconds(request.snapshot, request.snapshot.bars_until), request.limits.indicators_max_age_seconds
    return Reason(ReasonCode.INDICATORS_STALE, age, limit) if age is not None and age > limit else None


def _no_open_exit(request: OpeningRequest) -> Reason | None:
    # order-manager cancels an asset's pending orders when a new signal comes, of whichever strategy it is.
    return Reason(ReasonCode.ASSET_EXIT_OPEN, float(request.open_exits), 0.0) if request.open_exits else None


def _no_open_order(request: OpeningRequest) -> Reason | None:
    if not request.limits.skip_if_open_order:
        return None
    counted = [
        order
        for order in request.open_orders
        if not request.limits.opposite_orders_only or order.side is request.side.opposite
    ]
    return Reason(ReasonCode.OPEN_ORDER, float(len(counted)), 0.0) if counted else None


def _within_position_limit(request: OpeningRequest) -> Reason | None:
    before, limit = request.position_amount, float(request.strategy.maximum_position_amount)
    after = request.reached_amount(before, request.under_way_amount)
    return _over(before, after, limit, ReasonCode.POSITION_LIMIT)


def _within_platform_position_limit(request: OpeningRequest) -> Reason | None:
    # The table often counts twice (CONTRACTS 0.11), so it may refuse too early; it never lets more through.
    before, limit = request.platform_position_amount, request.platform_limit_amount
    return _over(before, request.reached_amount(before), limit, ReasonCode.PLATFORM_POSITION_LIMIT)


def _over(before: float, after: float, limit: float, code: ReasonCode) -> Reason | None:
    if math.isinf(limit) or abs(after) <= limit or is_reduced(before, after):
        return None
    return Reason(code, _finite(abs(after)), limit)


def is_reduced(before: float, after: float) -> bool:
    """Whether a position shrinks, and does not turn into one of the other side."""
    return abs(after) <= abs(before) and before * after >= 0.0


def _no_contradiction(request: OpeningRequest) -> Reason | None:
    amount, limit = request.contradicted_amount, request.limits.contradiction_amount
    if math.isinf(limit) or amount <= limit:
        return None
    return Reason(ReasonCode.PLATFORM_CONTRADICTS_BOOK, _finite(amount), limit)


def _within_order_manager_position(request: OpeningRequest) -> Reason | None:
    limit, quantity = request.limits.order_quantity, request.reached_quantity
    if math.isinf(limit) or quantity <= limit:
        return None
    return Reason(ReasonCode.ORDER_MANAGER_POSITION_SIZE, _finite(quantity), limit)


def _known_balance(request: OpeningRequest) -> Reason | None:
    return Reason(ReasonCode.BALANCE_UNKNOWN, 1.0, 0.0) if is_balance_unknown(request) else None


def is_balance_unknown(request: OpeningRequest) -> bool:
    """Whether there is a balance and nobody can say how much it is."""
    return request.balance_is_unread or (request.balance is not None and not math.isfinite(request.balance.available))


def _fresh_balance(request: OpeningRequest) -> Reason | None:
    if request.balance is None:
        return None
    age, limit = request.balance.age_seconds(request.snapshot.at), request.limits.balance_max_age_seconds
    return None if age <= limit else Reason(ReasonCode.BALANCE_STALE, age, limit)


def _within_balance(request: OpeningRequest) -> Reason | None:
    if request.balance is None:
        return None
    asked, free = request.asked_amount + float(request.amount), request.limits.balance_share * request.balance.available
    return None if asked <= free else Reason(ReasonCode.BALANCE_TOO_LOW, _finite(asked), _finite(free))


def order_minimum(request: OpeningRequest) -> Decimal:
    """The least amount, quote currency: the exchange's, and never what order-manager would drop."""
    return max(request.strategy.exchange_minimum_of(request.snapshot.asset), LEAST_ORDER_AMOUNT)


def _amount_above_minimum(request: OpeningRequest) -> Reason | None:
    minimum = order_minimum(request)
    if request.amount < minimum:
        return Reason(ReasonCode.AMOUNT_BELOW_MINIMUM, float(request.amount), float(minimum))
    return None


def _within_order_manager_amount(request: OpeningRequest) -> Reason | None:
    limit, amount = request.limits.order_amount, float(request.amount)
    return None if amount <= limit else Reason(ReasonCode.ORDER_MANAGER_AMOUNT, _finite(amount), limit)


def _within_rate_limit(request: OpeningRequest) -> Reason | None:
    return None if request.tokens >= 1.0 else Reason(ReasonCode.RATE_LIMITED, _finite(request.tokens), 1.0)


def _finite(number: float) -> float | None:
    """A number that is none has to refuse as an unknown one; hence every guard asks whether it may pass."""
    return number if math.isfinite(number) else None


OPENING_GUARDS: tuple[Callable[[OpeningRequest], Reason | None], ...] = (
    _fresh_market_data,
    _steady_price,
    _not_stopped,
    _within_loss_limit,
    _clocks_agree,
    _valid_book,
    _fresh_book,
    _fresh_indicators,
    _no_open_exit,
    _no_open_order,
    _within_position_limit,
    _within_platform_position_limit,
    _no_contradiction,
    _within_order_manager_position,
    _known_balance,
    _fresh_balance,
    _within_balance,
    _amount_above_minimum,
    _within_order_manager_amount,
    _within_rate_limit,
)
