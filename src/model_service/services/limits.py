"""The limits of the services, as the settings have them."""

from __future__ import annotations

import math
from decimal import Decimal

from model_service.config.settings import Settings
from model_service.policies.exit import LargestOrder
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.shared_limits import SharedLimits
from model_service.services.triggers import TriggerLimits


def generation_limits(settings: Settings, seed: str) -> GenerationLimits:
    largest = largest_order(settings)
    return GenerationLimits(
        guards=GuardLimits(
            settings.market_data_max_age_seconds,
            settings.signal_generation_skip_if_open_order,
            settings.signal_generation_check_opposite_orders_only,
            settings.market_data_indicators_max_age_bars * settings.market_data_bar_seconds,
            balance_share=settings.balance_adaptation_safety_margin,
            balance_max_age_seconds=settings.balance_data_max_age_seconds,
            order_amount=_or_infinite(largest.amount),
            order_quantity=_or_infinite(largest.quantity),
            contradiction_amount=settings.platform_position_tolerance_amount,
        ),
        tick_seconds=settings.trading_decision_interval_seconds,
        expiry_seconds=settings.signal_expiry_seconds,
        rate_per_minute=settings.signal_generation_rate_limit,
        burst=settings.signal_generation_burst_allowance,
        none_sample_rate=settings.signal_none_sample_rate,
        seed=seed,
        # Averages over hundreds of executions: every tenth tick is often enough.
        statistics_refresh_seconds=max(60.0, 10 * settings.trading_decision_interval_seconds),
        largest_order=largest,
    )


def _or_infinite(limit: Decimal | None) -> float:
    return math.inf if limit is None else float(limit)


def largest_order(settings: Settings) -> LargestOrder:
    """What order-manager takes in one order, as far as its limits are known here."""
    exposure, ratio = settings.ordermanager_max_exposure, settings.ordermanager_max_order_size_ratio
    size = settings.ordermanager_max_position_size
    return LargestOrder(
        amount=None if exposure is None or ratio is None else Decimal(str(exposure)) * Decimal(str(ratio)),
        quantity=None if size is None else Decimal(str(size)),
    )


def shared_limits(settings: Settings) -> SharedLimits:
    """The limits of openings over all strategies and processes."""
    exposure = settings.trading_max_exposure_amount
    return SharedLimits(
        maximum_exposure=math.inf if exposure is None else exposure,
        conflict_window_seconds=settings.signal_conflict_window_seconds,
        rate_per_minute=settings.signal_generation_total_rate_limit,
        burst=settings.signal_generation_total_burst_allowance,
    )


def trigger_limits(settings: Settings) -> TriggerLimits:
    return TriggerLimits(
        settings.model_retraining_schedule, settings.model_retraining_timezone, settings.model_retraining_interval_days
    )
