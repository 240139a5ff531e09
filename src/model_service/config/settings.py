"""All settings, from environment variables with the platform's names. Wrong ones stop the start with one line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_service.config.allowed import Words
from model_service.config.hyperparameters import Value
from model_service.config.schedule import parse_schedule, parse_timezone
from model_service.config.training import (
    CLASS_WEIGHT_WORDS,
    ClassWeight,
    parse_class_weight,
    parse_hyperparameters,
    parse_monotone_constraints,
)

ModelType = Literal["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
Names = Annotated[tuple[str, ...], NoDecode]
Hyperparameters = Annotated[
    Mapping[str, Value],
    NoDecode,
    Words("a JSON object of the hyperparameters of the model type (docs/configuration.md)"),
]
MonotoneConstraints = Annotated[
    Mapping[str, Literal[-1, 1]], NoDecode, Words("a JSON object of feature names, each with 1 or -1")
]
SchedulerAddress = Annotated[
    str | None,
    Field(pattern=r"^((tcp|tls|ws|wss)://)?([^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"),
    Words("tcp://host:port, also with tls://, ws:// or wss://"),
]


class Settings(BaseSettings):
    """Settings of the service. Field `x_y` is read from the environment variable `X_Y`.

    Without POSTGRES_HOST the embedded PostgreSQL is started; without RABBITMQ_HOST messages travel through PostgreSQL.
    """

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, case_sensitive=False, env_ignore_empty=True, allow_inf_nan=False
    )

    # The service itself
    model_service_host: str = Field("127.0.0.1", description="Address to listen on; other than loopback needs a key.")
    model_service_port: int = Field(4500, ge=0, le=65535, description="Port of the HTTP interface.")
    model_service_api_key: SecretStr | None = Field(
        None, description="Key for X-API-Key; on loopback, when unset, one is made and kept in the state folder."
    )
    model_service_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level logged."
    )
    model_service_log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines."
    )
    model_service_state_path: Path = Field(
        Path(".model-service"), description="Folder for the embedded database, made-up keys and, by default, models."
    )
    model_storage_path: Path | None = Field(None, description="Folder of model files; the platform uses /models.")

    # PostgreSQL
    postgres_host: str | None = Field(None, description="Host of the shared PostgreSQL; unset: the embedded one.")
    postgres_port: int = Field(5432, ge=1, le=65535, description="Its port.")
    postgres_db: str = Field("postgres", min_length=1, description="Its database.")
    postgres_user: str = Field("postgres", min_length=1, description="Its role.")
    postgres_password: SecretStr | None = Field(None, description="Its password.")
    model_service_schema: str = Field(
        "model_service", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema that holds our tables."
    )
    model_service_shared_schema: str = Field(
        "public", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema of the siblings' tables orders and positions."
    )
    model_service_database_pool_size: int = Field(8, ge=2, le=100, description="Connections at most.")

    # RabbitMQ
    rabbitmq_host: str | None = Field(None, description="Host of RabbitMQ; unset: messages travel through PostgreSQL.")
    rabbitmq_port: int = Field(5672, ge=1, le=65535, description="Its port.")
    rabbitmq_user: str = Field("guest", min_length=1, description="Its user.")
    rabbitmq_password: SecretStr = Field(SecretStr("guest"), description="Its password.")
    rabbitmq_vhost: str = Field("/", min_length=1, description="Its virtual host.")

    # Queues
    execution_queue: str = Field(
        "order-manager.execution_events",
        min_length=1,
        description="Queue of execution events; declared by us when absent.",
    )
    execution_queue_is_ours: bool = Field(
        True, description="false: another service declares it, and we wait for it instead of declaring it."
    )
    execution_reconciliation_interval_seconds: float = Field(
        2.0, ge=0.1, le=3600, description="Time between two looks at the shared table orders."
    )
    execution_reconciliation_grace_seconds: float = Field(
        5.0, ge=0, le=3600, description="So long events may come before the table's totals are taken."
    )
    execution_reconciliation_sweep_seconds: float = Field(
        300.0, ge=1, le=86_400, description="Time between two looks at all orders of the last 24 hours."
    )
    market_data_queues: Names = Field(
        ("ws-gateway.ticker", "ws-gateway.trade", "ws-gateway.orderbook", "ws-gateway.kline"),
        description="Gateway queues to take from; taking from one that another service reads robs it. Empty: `none`.",
    )
    market_data_declare_queues: bool = Field(
        False, description="true: declare them when absent (only where no gateway does it with its own arguments)."
    )
    market_data_bar_seconds: int = Field(60, ge=1, le=3600, description="Length of a bar.")
    market_data_max_age_seconds: float = Field(
        60.0, gt=0, le=604_800, description="Older market data is stale: no openings."
    )

    # Strategies
    trading_strategies: Names = Field(("default",), description="Names of the strategies, separated by commas.")
    trading_assets: Names = Field(("BTCUSDT",), description="Assets of every strategy, separated by commas.")
    trading_fee_rate: float = Field(0.00055, ge=-0.01, le=0.05, description="Fee per side as a fraction of notional.")
    trading_min_order_amount: float = Field(10.0, gt=0, description="The exchange's minimum in quote currency.")
    trading_max_position_amount: float = Field(
        10000.0, gt=0, description="Largest position per strategy and asset, quote."
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

    # Warm-up
    warmup_mode_enabled: bool = Field(True, description="false: a strategy without a model is silent.")
    warmup_signal_frequency: float = Field(1.0, gt=0, le=600, description="Signals per minute and strategy.")
    warmup_randomness_level: float = Field(0.5, ge=0, le=1, description="0: heuristics alone; 1: a coin.")
    warmup_probability_floor: float = Field(
        0.1, gt=0, le=0.5, description="Least probability of each side, given a signal."
    )
    warmup_min_amount: float = Field(100.0, gt=0, description="Quote currency.")
    warmup_max_amount: float = Field(1000.0, gt=0, description="Quote currency.")

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

    # Learning
    model_training_model_type: ModelType = Field("xgboost", description="Kind of model.")
    model_prediction_horizon_seconds: int = Field(900, ge=3, description="H: at this age a trade is judged.")
    model_classification_threshold: float = Field(
        0.0, ge=-1, le=1, description="Least net return of label 1, a fraction."
    )
    model_training_min_dataset_size: int = Field(1000, ge=500, description="Rows under which training is refused.")
    model_training_max_duration_seconds: float = Field(
        1800.0, gt=0, le=604_800, description="A run over this is killed."
    )
    model_training_threads: int = Field(2, ge=1, le=64, description="Threads of the training child.")
    model_training_seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of training.")
    model_training_device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where XGBoost computes; cuda needs the extra gpu in place of cpu, and a GPU."
    )
    model_training_hyperparameters: Hyperparameters = Field({}, description="What a fit takes instead of the defaults.")
    model_training_class_weight: Annotated[ClassWeight, Words(CLASS_WEIGHT_WORDS)] = Field(
        "none", description="Weight of label 1 against 1 of label 0; balanced: both classes weigh the same."
    )
    model_training_recency_half_life_hours: float | None = Field(
        None, gt=0, description="A row that is older by so much counts half in a fit. Unset: age does not count."
    )
    model_training_monotone_constraints: MonotoneConstraints = Field(
        {},
        description="The score may only rise (1) or fall (-1) with the feature as the model reads it: aligned to the "
        "side, so that a sell sees a directional feature negated. XGBoost only.",
    )
    model_training_early_stopping_rounds: int = Field(
        40, ge=1, le=1000, description="XGBoost stops after so many rounds without a better loss on later rows."
    )
    model_training_search_trials: int = Field(
        0, ge=0, le=1000, description="Sets of hyperparameters tried inside the training block (extra tune). 0: none."
    )
    model_training_walk_forward_folds: int = Field(
        4, ge=0, le=20, description="Folds of the walk-forward report, which decides nothing. 0: no report."
    )
    training_engine: Literal["local", "dask"] = Field(
        "local", description="Where a fit happens: in the training child, or on a Dask cluster (extra dask; xgboost)."
    )
    dask_scheduler_address: SchedulerAddress = Field(None, description="Where the scheduler of the engine dask is.")
    training_dataset_path: Path | None = Field(
        None,
        description="Folder for the datasets of the engine dask, the same path on this machine and on every worker; "
        "the platform uses /datasets. Unset: in the state folder, for workers on this machine.",
    )
    model_quality_threshold_accuracy: float = Field(0.75, ge=0, le=1, description="Gate condition 2.")
    model_exploration_rate: float = Field(0.05, ge=0, le=1, description="Share of exploring draws after promotion.")
    model_action_threshold: float = Field(0.5, ge=0, lt=1, description="Least probability of profit to act on.")
    model_live_window_outcomes: int = Field(200, ge=30, description="Least outcomes in the live window.")

    # When to train
    model_retraining_schedule: str | None = Field(
        None, description="Five cron fields, also as cron(0 2 * * *), @daily, @weekly. Unset: no schedule."
    )
    model_retraining_timezone: str = Field("UTC", description="Time zone of the schedule.")
    model_retraining_min_new_outcomes: int = Field(1000, ge=1, description="So many new outcomes start a run.")
    model_retraining_interval_days: float = Field(
        7.0, gt=0, le=3650, description="A run at least this often, if outcomes came."
    )

    @field_validator("market_data_queues", "trading_strategies", "trading_assets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip() and part.strip().lower() != "none")
        return value

    @field_validator("trading_strategies")
    @classmethod
    def _strategies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(len(name) > 100 for name in value) or len(set(value)) != len(value):
            raise ValueError("allowed: 1 or more different names of 1 to 100 characters, separated by commas")
        return value

    @field_validator("trading_assets")
    @classmethod
    def _assets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not (asset.isascii() and asset.isalnum() and 4 <= len(asset) <= 20) for asset in value):
            raise ValueError("allowed: assets of 4 to 20 letters and digits, separated by commas: BTCUSDT,ETHUSDT")
        assets = tuple(asset.upper() for asset in value)
        if len(set(assets)) != len(assets):
            raise ValueError("an asset stands there twice; allowed: different assets, separated by commas")
        return assets

    @field_validator("model_retraining_schedule")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        if value is not None:
            parse_schedule(value)
        return value

    @field_validator("model_retraining_timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        parse_timezone(value)
        return value

    @field_validator("model_training_hyperparameters", mode="before")
    @classmethod
    def _hyperparameters(cls, value: object, info: ValidationInfo) -> Mapping[str, Any]:
        return parse_hyperparameters(value, info.data.get("model_training_model_type"))

    @field_validator("model_training_monotone_constraints", mode="before")
    @classmethod
    def _monotone_constraints(cls, value: object, info: ValidationInfo) -> Mapping[str, Any]:
        return parse_monotone_constraints(value, info.data.get("model_training_model_type"))

    @field_validator("model_training_class_weight", mode="before")
    @classmethod
    def _class_weight(cls, value: object) -> object:
        return parse_class_weight(value)

    @field_validator("model_training_device")
    @classmethod
    def _device(cls, value: str, info: ValidationInfo) -> str:
        model_type = info.data.get("model_training_model_type", "xgboost")
        if value == "cuda" and model_type != "xgboost":
            raise ValueError(f"allowed: cpu, or xgboost as MODEL_TRAINING_MODEL_TYPE, which is {model_type}")
        return value

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.warmup_max_amount < self.warmup_min_amount:
            raise ValueError(
                f"WARMUP_MAX_AMOUNT is {self.warmup_max_amount}; allowed: from WARMUP_MIN_AMOUNT, "
                f"which is {self.warmup_min_amount}"
            )
        if self.model_prediction_horizon_seconds < 3 * self.market_data_bar_seconds:
            raise ValueError(
                f"MODEL_PREDICTION_HORIZON_SECONDS is {self.model_prediction_horizon_seconds}; allowed: from 3 bars of "
                f"MARKET_DATA_BAR_SECONDS, {self.market_data_bar_seconds}; lengthen one or shorten the other"
            )
        if self._trailing_stop_is_never_armed:
            raise ValueError(
                f"TRAILING_STOP_ACTIVATION_PCT is {self.trailing_stop_activation_pct}; allowed: under "
                f"MODEL_SERVICE_TAKE_PROFIT_PCT, {self.model_service_take_profit_pct}, where all of a lot is closed; "
                "lower it, or set TAKE_PROFIT_PARTIAL_EXIT=true or TAKE_PROFIT_ENABLED=false"
            )
        if self.training_engine == "dask":
            self._require_what_dask_needs()
        return self

    @property
    def _trailing_stop_is_never_armed(self) -> bool:
        whole = self.take_profit_enabled and not self.take_profit_partial_exit
        reachable = not whole or self.trailing_stop_activation_pct < self.model_service_take_profit_pct
        return self.exit_strategy_enabled and self.trailing_stop_enabled and not reachable

    def _require_what_dask_needs(self) -> None:
        if self.dask_scheduler_address is None:
            raise ValueError("TRAINING_ENGINE is 'dask'; then DASK_SCHEDULER_ADDRESS is needed, as tcp://host:8786")
        if self.model_training_model_type != "xgboost":
            raise ValueError(
                f"MODEL_TRAINING_MODEL_TYPE is {self.model_training_model_type!r}; allowed with TRAINING_ENGINE=dask: "
                "xgboost; change one or the other"
            )
        if self.model_training_search_trials:
            raise ValueError(
                f"MODEL_TRAINING_SEARCH_TRIALS is {self.model_training_search_trials}; allowed with "
                "TRAINING_ENGINE=dask: 0; search with TRAINING_ENGINE=local and set MODEL_TRAINING_HYPERPARAMETERS"
            )

    @property
    def storage_path(self) -> Path:
        """Folder of model files."""
        return self.model_storage_path or self.model_service_state_path / "models"

    @property
    def dataset_path(self) -> Path | None:
        """Folder where runs lay down their datasets; None when they keep them in memory."""
        if self.training_engine == "local":
            return None
        return self.training_dataset_path or self.model_service_state_path / "datasets"

    @property
    def uses_embedded_database(self) -> bool:
        """Whether the service brings its own PostgreSQL."""
        return self.postgres_host is None

    @property
    def uses_rabbitmq(self) -> bool:
        """Whether messages travel through RabbitMQ."""
        return self.rabbitmq_host is not None
