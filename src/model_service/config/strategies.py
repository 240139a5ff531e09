"""What a strategy is: assets, horizon and barriers, amounts, policy parameters and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model_service.config.assets import ASSETS_ALLOWED, checked_assets, names_balances
from model_service.config.exits import ExitParameters
from model_service.config.label_rule import LabelRules, label_rule
from model_service.config.limits import LARGEST_AMOUNT, LARGEST_INTEGER, LONGEST_HOURS
from model_service.config.settings import Settings
from model_service.config.settings_learning import ModelType, Sizing
from model_service.config.strategy_checks import OF_FILE, model_amount_fault, sizing_fault
from model_service.config.training import TrainingParameters

FeeRate = Annotated[float, Field(ge=-0.01, le=0.05)]


class StrategyDefinition(BaseModel):
    """One strategy. Barriers are percent of the entry price, both positive; None: the barrier does not exist.

    What each field means stands in `strategy_keys.py`. `assets` may be empty only where they are found in the
    platform's table account_balances (`assets_from_balances`), as long as nothing is found there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strategy_id: str = Field(min_length=1, max_length=100)
    assets: tuple[str, ...]
    assets_from_balances: bool = False
    model_type: ModelType = "xgboost"
    bar_seconds: int = 60
    horizon_seconds: int = Field(gt=0, le=LARGEST_INTEGER)
    take_profit_percent: float | None = Field(None, gt=0, lt=1000)
    stop_loss_percent: float | None = Field(None, gt=0, lt=100)
    fee_rate: FeeRate
    fee_rates: Mapping[str, FeeRate] = Field(default_factory=dict)
    minimum_net_return: float = Field(0.0, ge=-1, le=1)

    signals_per_minute: float = Field(gt=0, le=600)
    randomness: float = Field(ge=0, le=1)
    probability_floor: float = Field(gt=0, le=0.5)
    warmup_duration_hours: float | None = Field(None, gt=0, le=LONGEST_HOURS)
    minimum_amount: Decimal = Field(gt=0, le=LARGEST_AMOUNT)
    maximum_amount: Decimal = Field(gt=0, le=LARGEST_AMOUNT)
    exchange_minimum_amount: Decimal = Field(gt=0, le=LARGEST_AMOUNT)
    exchange_minimum_amounts: Mapping[str, Annotated[Decimal, Field(gt=0, le=LARGEST_AMOUNT)]] = Field(
        default_factory=dict
    )
    maximum_position_amount: Decimal = Field(gt=0, le=LARGEST_AMOUNT)
    exits_enabled: bool = True
    exits: ExitParameters = ExitParameters()

    exploration_rate: float = Field(ge=0, le=1)
    action_threshold: float = Field(ge=0, lt=1)
    hysteresis: float = Field(0.0, ge=0, lt=0.5)
    sizing: Sizing = "confidence"
    model_amount: Decimal | None = Field(None, gt=0, le=LARGEST_AMOUNT)
    kelly_fraction: float = Field(0.25, gt=0, le=1)
    capital_amount: Decimal | None = Field(None, gt=0, le=LARGEST_AMOUNT)
    accuracy_threshold: float = Field(ge=0, le=1)
    minimum_dataset_size: int = Field(ge=500, le=LARGEST_INTEGER)
    retrain_after_outcomes: int = Field(gt=0, le=LARGEST_INTEGER)
    training_seed: int = Field(0, ge=0, le=LARGEST_INTEGER)
    training: TrainingParameters = TrainingParameters()

    @field_validator("assets")
    @classmethod
    def _assets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return checked_assets(value)

    @field_validator("fee_rates", "exchange_minimum_amounts")
    @classmethod
    def _by_asset(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(zip(checked_assets(tuple(value)), value.values(), strict=True))

    @model_validator(mode="after")
    def _traded(self) -> StrategyDefinition:
        if not self.assets and not self.assets_from_balances:
            raise ValueError(f"assets is empty; {ASSETS_ALLOWED}")
        return self

    @model_validator(mode="after")
    def _fitting(self) -> StrategyDefinition:
        fault = self.training.fault(self.model_type)
        if fault is not None:
            raise ValueError(f"training.{fault}")
        amounts = self.model_amount, self.minimum_amount, self.maximum_amount
        fault = sizing_fault(self.sizing, self.capital_amount, OF_FILE) or model_amount_fault(*amounts, OF_FILE)
        if fault is not None:
            raise ValueError(fault)
        return self

    def fee_rate_of(self, asset: str) -> float:
        """Fee per side on the asset, a fraction of the notional."""
        return self.fee_rates.get(asset, self.fee_rate)

    def exchange_minimum_of(self, asset: str) -> Decimal:
        """The least that the exchange takes of the asset, quote currency."""
        return self.exchange_minimum_amounts.get(asset, self.exchange_minimum_amount)

    @property
    def label_rules(self) -> LabelRules:
        """The rules by which its outcomes are labelled from now on; earlier ones may have others."""
        return LabelRules(
            self._label_rule(self.fee_rate), {asset: self._label_rule(rate) for asset, rate in self.fee_rates.items()}
        )

    def _label_rule(self, fee_rate: float) -> int:
        barriers = self.take_profit_percent, self.stop_loss_percent
        return label_rule(self.horizon_seconds, *barriers, fee_rate, self.minimum_net_return)


def strategies_from(settings: Settings) -> tuple[StrategyDefinition, ...]:
    """The strategies that TRADING_STRATEGIES names, all with the parameters of the settings."""
    return tuple(strategy_from(settings, name) for name in settings.trading_strategies)


def strategy_from(settings: Settings, name: str) -> StrategyDefinition:
    """A strategy of that name with the parameters of the settings; `strategy_keys.py` says which gives which."""
    on_balances = names_balances(settings.trading_assets)
    return StrategyDefinition(
        strategy_id=name,
        assets=() if on_balances else settings.trading_assets,
        assets_from_balances=on_balances,
        model_type=settings.model_training_model_type,
        bar_seconds=settings.market_data_bar_seconds,
        horizon_seconds=settings.model_prediction_horizon_seconds,
        take_profit_percent=settings.model_service_take_profit_pct if settings.take_profit_enabled else None,
        stop_loss_percent=-settings.stop_loss_threshold_pct if settings.stop_loss_enabled else None,
        fee_rate=settings.trading_fee_rate,
        fee_rates=settings.trading_fee_rates,
        minimum_net_return=settings.model_classification_threshold,
        signals_per_minute=settings.warmup_signal_frequency,
        randomness=settings.warmup_randomness_level,
        probability_floor=settings.warmup_probability_floor,
        warmup_duration_hours=settings.warmup_duration_hours,
        minimum_amount=Decimal(str(settings.warmup_min_amount)),
        maximum_amount=Decimal(str(settings.warmup_max_amount)),
        exchange_minimum_amount=Decimal(str(settings.trading_min_order_amount)),
        exchange_minimum_amounts={
            asset: Decimal(str(amount)) for asset, amount in settings.trading_min_order_amounts.items()
        },
        maximum_position_amount=Decimal(str(settings.trading_max_position_amount)),
        exits_enabled=settings.exit_strategy_enabled,
        exits=_exits(settings),
        exploration_rate=settings.model_exploration_rate,
        action_threshold=settings.model_action_threshold,
        hysteresis=settings.model_action_hysteresis,
        sizing=settings.model_sizing,
        model_amount=_amount(settings.model_amount),
        kelly_fraction=settings.model_kelly_fraction,
        capital_amount=_amount(settings.trading_capital_amount),
        accuracy_threshold=settings.model_quality_threshold_accuracy,
        minimum_dataset_size=settings.model_training_min_dataset_size,
        retrain_after_outcomes=settings.model_retraining_min_new_outcomes,
        training_seed=settings.model_training_seed,
        training=_training(settings),
    )


def _amount(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _exits(settings: Settings) -> ExitParameters:
    trails, parts, ages = (
        settings.trailing_stop_enabled,
        settings.take_profit_partial_exit,
        settings.time_based_exit_enabled,
    )
    return ExitParameters(
        trailing_activation_percent=settings.trailing_stop_activation_pct if trails else 0.0,
        trailing_distance_percent=settings.trailing_stop_distance_pct if trails else None,
        take_profit_part_percent=settings.take_profit_partial_amount_pct if parts else None,
        maximum_holding_hours=settings.time_based_exit_max_hours if ages else None,
        holding_profit_percent=settings.time_based_exit_profit_target_pct or None if ages else None,
        cooldown_seconds=60.0 / settings.exit_strategy_rate_limit if settings.exit_strategy_rate_limit else 0.0,
    )


def _training(settings: Settings) -> TrainingParameters:
    return TrainingParameters(
        hyperparameters=settings.model_training_hyperparameters,
        class_weight=settings.model_training_class_weight,
        recency_half_life_hours=settings.model_training_recency_half_life_hours,
        monotone_constraints=settings.model_training_monotone_constraints,
        early_stopping_rounds=settings.model_training_early_stopping_rounds,
        search_trials=settings.model_training_search_trials,
        walk_forward_folds=settings.model_training_walk_forward_folds,
    )
