"""Why a tick became no signal: one code for each cause, counted and shown with a value and a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """The causes of silence, in the order in which they are looked at."""

    TICK_MISSED = "tick_missed"
    PAUSED = "paused"
    WARMUP_DISABLED = "warmup_disabled"
    WARMUP_EXPIRED = "warmup_expired"
    STOPPED = "stopped"
    LOSS_LIMIT = "loss_limit"
    PLATFORM_UNREADABLE = "platform_unreadable"
    MARKET_DATA_MISSING = "market_data_missing"
    MARKET_DATA_STALE = "market_data_stale"
    PRICE_JUMP = "price_jump"
    EXIT_PENDING = "exit_pending"
    EXIT_COOLDOWN = "exit_cooldown"
    EXIT_BELOW_MINIMUM = "exit_below_minimum"
    MARKET_DATA_AHEAD = "market_data_ahead"
    BOOK_INVALID = "book_invalid"
    BOOK_STALE = "book_stale"
    INDICATORS_STALE = "indicators_stale"
    MODEL_ABSTAINS = "model_abstains"
    STAKE_BELOW_MINIMUM = "stake_below_minimum"
    NOT_DRAWN = "not_drawn"
    ASSET_EXIT_OPEN = "asset_exit_open"
    OPEN_ORDER = "open_order"
    POSITION_LIMIT = "position_limit"
    PLATFORM_POSITION_LIMIT = "platform_position_limit"
    PLATFORM_CONTRADICTS_BOOK = "platform_contradicts_book"
    ORDER_MANAGER_POSITION_SIZE = "order_manager_position_size"
    BALANCE_UNKNOWN = "balance_unknown"
    BALANCE_STALE = "balance_stale"
    BALANCE_TOO_LOW = "balance_too_low"
    AMOUNT_BELOW_MINIMUM = "amount_below_minimum"
    ORDER_MANAGER_AMOUNT = "order_manager_amount"
    RATE_LIMITED = "rate_limited"
    LIMITS_BUSY = "limits_busy"
    EXPOSURE_LIMIT = "exposure_limit"
    CONFLICTING_SIGNAL = "conflicting_signal"
    TOTAL_RATE_LIMITED = "total_rate_limited"
    DECISION_FAILED = "decision_failed"


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause with the number that was looked at and the number that it was held against."""

    code: ReasonCode
    value: float | None = None
    threshold: float | None = None
