"""Pure pieces of a decision: what the features need beside the market, what the message says of it, and the draws."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.funding import funding_cost_percent
from model_service.market.snapshot import MarketSnapshot
from model_service.models.features import DecisionContext
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.sizing import CENT, within_position_limit
from model_service.services.ports import ExecutionStatistics, OpenOrder
from model_service.trades.ledger import Lot


def decision_context(
    strategy: StrategyDefinition,
    snapshot: MarketSnapshot,
    lots: Sequence[Lot],
    orders: Sequence[OpenOrder],
    statistics: ExecutionStatistics,
    now: datetime,
) -> DecisionContext:
    """What the features need beside the market: our own position, orders and recent executions."""
    unrealised, share = (0.0, 0.0) if not lots else _position(strategy, snapshot, lots)
    buys = sum(order.side is Side.BUY for order in orders)
    return DecisionContext(
        position_share=share,
        position_return=unrealised,
        position_age_seconds=(now - lots[0].opened_at).total_seconds() if lots else math.nan,
        open_buy_orders=float(buys),
        open_sell_orders=float(len(orders) - buys),
        recent_slippage_percent=statistics.slippage_percent,
        recent_fee_percent=statistics.fee_percent,
        recent_fill_ratio=statistics.fill_ratio,
        recent_win_rate=statistics.win_rate,
    )


def _position(strategy: StrategyDefinition, snapshot: MarketSnapshot, lots: Sequence[Lot]) -> tuple[float, float]:
    """Unrealised return, a fraction, and signed share of the position limit."""
    quantity = sum((lot.side.sign * lot.remaining_quantity for lot in lots), Decimal(0))
    cost = sum((lot.remaining_quantity * lot.entry_price for lot in lots), Decimal(0))
    size = abs(quantity)
    unrealised = float(quantity) * snapshot.price / float(cost) - math.copysign(1.0, quantity) if size else 0.0
    return unrealised, float(quantity) * snapshot.price / float(strategy.maximum_position_amount)


def funding_costs(snapshot: MarketSnapshot, horizon_seconds: float) -> dict[Side, float]:
    """What each side is expected to pay for funding over the horizon, percent of its value; empty while unknown."""
    cost = funding_cost_percent(
        snapshot.funding_rate, snapshot.seconds_to_funding, horizon_seconds, snapshot.funding_interval_seconds
    )
    return {side: side.sign * cost for side in Side} if math.isfinite(cost) else {}


def snapshot_message(snapshot: MarketSnapshot) -> dict[str, Any]:
    """The snapshot as order-manager accepts it: finite numbers from 0 on only, spread in percent.

    It silently drops a signal with a negative one, as the spread of a crossed book is: an exit would be lost.
    """
    known = {
        "price": snapshot.price,
        "spread": snapshot.spread_percent,
        "volume_24h": snapshot.volume_24h,
        "volatility": snapshot.volatility,
        "funding_rate": snapshot.funding_rate,
        "seconds_to_funding": snapshot.seconds_to_funding,
    }
    message: dict[str, Any] = {name: value for name, value in known.items() if math.isfinite(value) and value >= 0}
    if math.isfinite(snapshot.bid_size) and math.isfinite(snapshot.ask_size):
        message["orderbook_depth"] = {"bid_depth": snapshot.bid_size, "ask_depth": snapshot.ask_size}
    return message


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn: quote currency, and the action; None is no signal."""

    amount: Decimal
    side: Side | None


def draw(strategy: StrategyDefinition, probabilities: ActionProbabilities, rng: random.Random) -> Draw:
    """The amount, then the action. Their order is part of every record: the same seed has to give the same again."""
    amount = draw_amount(strategy, rng)
    return Draw(amount, draw_side(probabilities, rng.random()))


def amounts_of(
    strategy: StrategyDefinition, proposal: Proposal, drawn: Decimal, position_amount: float
) -> dict[Side, Decimal]:
    """What a signal of each side asks for, quote currency: `drawn`, or what the policy says within the position limit.

    Off-policy values weigh returns, fractions of the notional, by the probability of the side alone. So an amount may
    be drawn apart from the side, or follow from what is recorded, but the side must not depend on a draw of it.
    """
    if proposal.sizing is None:
        return dict.fromkeys(Side, drawn)
    asked = {side: proposal.sizing(side).amount for side in Side}
    return within_position_limit(strategy, asked, position_amount)


def draw_side(probabilities: ActionProbabilities, uniform: float) -> Side | None:
    """The action that `uniform`, drawn from [0, 1), falls on; None is no signal."""
    if uniform < probabilities.buy:
        return Side.BUY
    return Side.SELL if uniform < probabilities.buy + probabilities.sell else None


def draw_amount(strategy: StrategyDefinition, rng: random.Random) -> Decimal:
    """An amount between the strategy's bounds, uniformly, in quote currency to the cent."""
    span = strategy.maximum_amount - strategy.minimum_amount
    return (strategy.minimum_amount + span * Decimal(repr(rng.random()))).quantize(CENT, ROUND_DOWN)
