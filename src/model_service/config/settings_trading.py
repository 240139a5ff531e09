"""Settings of what is decided: strategies, signals, warm-up, exits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from model_service.config.allowed import Words
from model_service.config.assets import ACCOUNT_BALANCES, is_asset, names_balances
from model_service.config.json_object import numbers_by_asset
from model_service.config.limits import LARGEST_AMOUNT, LONGEST_HOURS
from model_service.config.settings_platform import Names, PlatformSettings, names
from model_service.config.strategy_names import NAME_ALLOWED, is_strategy_name

NumbersByAsset = Annotated[Mapping[str, float], NoDecode, Words('a JSON object of assets, such as {"BTCUSDT": 5}')]


class TradingSettings(PlatformSettings):
    """How signals are made and positions closed; of every strategy that has nothing of its own."""

    # Strategies
    trading_strategies: Names = Field(("default",), description="Names of the strategies, separated by commas.")
    trading_strategies_file: Path | None = Field(
        None,
        description="TOML file with strategies and their own parameters (docs/strategies.md), read again whenever it "
        "changes. Unset: every strategy has the parameters of these settings.",
    )
    trading_assets: Names = Field(
        ("BTCUSDT",),
        description="Assets of every strategy, separated by commas; or account_balances: every coin that the "
        "platform's table of that name holds.",
    )
    trading_quote_currency: str = Field(
        "USDT",
        pattern=r"^[A-Z0-9]{2,10}$",
        description="What coins of account_balances are traded against: BTC becomes BTCUSDT.",
    )
    trading_fee_rate: float = Field(0.00055, ge=-0.01, le=0.05, description="Fee per side as a fraction of notional.")
    trading_fee_rates: NumbersByAsset = Field({}, description="The same of single assets, where it is another.")
    trading_min_order_amount: float = Field(
        10.0, ge=0.01, le=LARGEST_AMOUNT, description="The exchange's minimum in quote currency."
    )
    trading_min_order_amounts: NumbersByAsset = Field({}, description="The same of single assets, where it is another.")
    trading_max_position_amount: float = Field(
        10000.0, gt=0, le=LARGEST_AMOUNT, description="Largest position per strategy and asset, quote."
    )
    trading_capital_amount: float | None = Field(
        None,
        gt=0,
        le=LARGEST_AMOUNT,
        description="Capital of each strategy, quote; what MODEL_SIZING=kelly takes its fraction of.",
    )
    trading_decision_interval_seconds: float = Field(
        5.0, ge=0.01, le=86_400, description="Time between two ticks of a strategy."
    )
    trading_order_lookup_enabled: bool = Field(
        True,
        description="Read the shared tables: fills and open orders from orders, positions. No effect when embedded.",
    )
    signal_expiry_seconds: float = Field(
        30.0, ge=1, le=86_400, description="After this long a signal is no longer delivered."
    )
    signal_lost_after_seconds: float = Field(
        30.0, gt=0, le=86_400, description="A published signal without an order at this age is reported lost."
    )
    signal_generation_rate_limit: float = Field(60.0, gt=0, description="Signals per minute and strategy.")
    signal_generation_burst_allowance: int = Field(10, ge=1, description="Signals at once, when none came for a while.")
    signal_generation_skip_if_open_order: bool = Field(
        True, description="No opening while the asset has an open order."
    )
    signal_generation_check_opposite_orders_only: bool = Field(
        False, description="Only an order of the other side counts."
    )
    signal_none_sample_rate: float = Field(0.1, gt=0, le=1, description="Share of draws of `none` that is stored.")

    # Limits of openings
    trading_daily_loss_limit_amount: float | None = Field(
        None,
        gt=0,
        description="A strategy that loses more in a UTC day, realised and open, quote currency, opens nothing "
        "until a person resumes it. Unset: no limit.",
    )
    trading_total_daily_loss_limit_amount: float | None = Field(
        None, gt=0, description="The same of all strategies together, which then all stop. Unset: no limit."
    )
    trading_max_exposure_amount: float | None = Field(
        None,
        gt=0,
        description="Largest sum of all positions, long or short, of every strategy and asset, quote currency; "
        "openings under way count. Unset: no limit.",
    )
    platform_position_tolerance_amount: float = Field(
        100.0,
        ge=0,
        description="Where our own ledger has a position over this in an asset, quote currency, and the platform's "
        "table none or the opposite, nothing is opened there; no effect without that table. inf: not looked at.",
    )
    signal_conflict_window_seconds: float = Field(
        10.0,
        ge=0,
        le=86_400,
        description="So long after a strategy's opening no other strategy opens the other side of the asset. 0: off.",
    )
    signal_generation_total_rate_limit: float | None = Field(
        None, gt=0, description="Openings per minute of all strategies and processes together. Unset: no limit."
    )
    signal_generation_total_burst_allowance: int = Field(
        10, ge=1, description="Openings of all strategies at once, when none came for a while."
    )
    balance_adaptation_safety_margin: float = Field(
        0.95, gt=0, le=1, description="Share of the available balance that an opening may ask for."
    )
    balance_data_max_age_seconds: float = Field(
        60.0,
        gt=0,
        le=604_800,
        description="An older balance in the shared tables is stale: no openings. The gateway writes it when it moves, "
        "so without WS_GATEWAY_HOST and BALANCE_SYNC_ENABLED a quiet account stops them: set more then.",
    )
    balance_sync_enabled: bool = Field(
        True,
        description="Ask the gateway at WS_GATEWAY_HOST to write the balances anew when they reach half of "
        "BALANCE_DATA_MAX_AGE_SECONDS.",
    )
    balance_sync_min_interval_seconds: float = Field(
        30.0,
        ge=1,
        le=604_800,
        description="So long at least from one such request of a process to its next; no more than half of "
        "BALANCE_DATA_MAX_AGE_SECONDS keeps a quiet account fresh.",
    )
    balance_sync_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="So long an answer to it is waited for; no tick and no exit waits."
    )
    ordermanager_max_exposure: float | None = Field(
        None,
        gt=0,
        description="As set for order-manager, which cuts an order's amount to this times "
        "ORDERMANAGER_MAX_ORDER_SIZE_RATIO; no opening asks for more, an exit comes in parts. Unset: not looked at.",
    )
    ordermanager_max_order_size_ratio: float | None = Field(
        None, gt=0, le=1, description="As set for order-manager; no effect without ORDERMANAGER_MAX_EXPOSURE."
    )
    ordermanager_max_position_size: float | None = Field(
        None,
        gt=0,
        description="As set for order-manager, in base units: it rejects what is larger. Unset: not looked at.",
    )

    # Warm-up
    warmup_mode_enabled: bool = Field(True, description="false: a strategy without a model is silent.")
    warmup_signal_frequency: float = Field(1.0, gt=0, le=600, description="Signals per minute and strategy.")
    warmup_randomness_level: float = Field(0.5, ge=0, le=1, description="0: heuristics alone; 1: a coin.")
    warmup_probability_floor: float = Field(
        0.1, gt=0, le=0.5, description="Least probability of each side, given a signal."
    )
    warmup_duration_hours: float | None = Field(
        None,
        gt=0,
        le=LONGEST_HOURS,
        description="A warm-up of this age opens nothing more, exits go on; a resume or a fallback begins a new one. "
        "Unset: no end.",
    )
    warmup_min_amount: float = Field(100.0, gt=0, le=LARGEST_AMOUNT, description="Quote currency.")
    warmup_max_amount: float = Field(1000.0, gt=0, le=LARGEST_AMOUNT, description="Quote currency.")

    # Exits
    exit_strategy_enabled: bool = Field(True, description="Close positions at the barriers that define labels.")
    take_profit_enabled: bool = Field(True, description="Whether the upper barrier exists.")
    model_service_take_profit_pct: float = Field(3.0, gt=0, lt=1000, description="Percent of the entry price.")
    stop_loss_enabled: bool = Field(True, description="Whether the lower barrier exists.")
    stop_loss_threshold_pct: float = Field(-2.0, lt=0, gt=-100, description="Percent of the entry price, negative.")
    take_profit_partial_exit: bool = Field(
        False, description="true: at the take-profit only a part of a lot is closed; the other exits hold for the rest."
    )
    take_profit_partial_amount_pct: float = Field(50.0, gt=0, lt=100, description="That part, percent of the lot.")
    trailing_stop_enabled: bool = Field(False, description="Whether a stop follows the best price since the entry.")
    trailing_stop_activation_pct: float = Field(
        2.0,
        ge=0,
        lt=1000,
        description="It is armed once the best price lies so far beyond the mean entry price, percent of that.",
    )
    trailing_stop_distance_pct: float = Field(
        1.0, gt=0, lt=100, description="So far behind the best price, percent of the mean entry price. Never loosened."
    )
    time_based_exit_enabled: bool = Field(
        False, description="true: lots are held for TIME_BASED_EXIT_MAX_HOURS and not only until the horizon."
    )
    time_based_exit_max_hours: float = Field(24.0, gt=0, le=8760, description="A lot of this age is closed.")
    time_based_exit_profit_target_pct: float = Field(
        1.0,
        ge=0,
        lt=1000,
        description="Profit that closes a lot sooner, from its first hour on, percent of the entry price; it falls "
        "with the age to a tenth. 0: none does.",
    )
    exit_strategy_rate_limit: float | None = Field(
        None,
        gt=0,
        le=6000,
        description="Exit signals per minute and position; a stop does not wait after another kind of exit. "
        "Unset: as often as the strategy ticks.",
    )

    @field_validator("trading_fee_rates", mode="before")
    @classmethod
    def _fee_rates(cls, value: object) -> Mapping[str, float]:
        return numbers_by_asset(value, '{"BTCUSDT": 0.00055}', over=-0.01, most=0.05)

    @field_validator("trading_min_order_amounts", mode="before")
    @classmethod
    def _min_order_amounts(cls, value: object) -> Mapping[str, float]:
        return numbers_by_asset(value, '{"BTCUSDT": 5}', over=0.0099, most=float(LARGEST_AMOUNT))

    @field_validator("trading_strategies", "trading_assets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return names(value)

    @field_validator("trading_strategies")
    @classmethod
    def _strategies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(is_strategy_name(name) for name in value) or len(set(value)) != len(value):
            raise ValueError(f"allowed: 1 or more different names, separated by commas, each of {NAME_ALLOWED}")
        return value

    @field_validator("trading_assets")
    @classmethod
    def _assets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if names_balances(value):
            return (ACCOUNT_BALANCES,)
        if not value or not all(is_asset(asset) for asset in value):
            raise ValueError(
                "allowed: assets of 4 to 20 letters and digits, separated by commas: BTCUSDT,ETHUSDT; "
                "or account_balances"
            )
        if len({asset.upper() for asset in value}) != len(value):
            raise ValueError("an asset stands there twice; allowed: different assets, separated by commas")
        return tuple(asset.upper() for asset in value)

    @field_validator("trading_quote_currency", mode="before")
    @classmethod
    def _quote_currency(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value
