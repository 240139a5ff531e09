"""Settings of learning: how a model is fitted and judged, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from model_service.config.allowed import Words
from model_service.config.hyperparameters import Value
from model_service.config.limits import LARGEST_AMOUNT, LARGEST_INTEGER, LONGEST_HOURS
from model_service.config.schedule import parse_schedule, parse_timezone
from model_service.config.settings_trading import TradingSettings
from model_service.config.training import (
    CLASS_WEIGHT_WORDS,
    ClassWeight,
    parse_class_weight,
    parse_hyperparameters,
    parse_monotone_constraints,
)

Sizing = Literal["fixed", "confidence", "kelly"]
ModelType = Literal["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
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


class LearningSettings(TradingSettings):
    """How a model is fitted and judged, and when."""

    # Learning
    model_training_model_type: ModelType = Field("xgboost", description="Kind of model.")
    model_prediction_horizon_seconds: int = Field(
        900, ge=3, le=LARGEST_INTEGER, description="H: at this age a trade is judged."
    )
    model_classification_threshold: float = Field(
        0.0, ge=-1, le=1, description="Least net return of label 1, a fraction."
    )
    model_training_min_dataset_size: int = Field(
        1000, ge=500, le=LARGEST_INTEGER, description="Rows under which training is refused."
    )
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
        None,
        gt=0,
        le=LONGEST_HOURS,
        description="A row that is older by so much counts half in a fit. Unset: age does not count.",
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
    model_action_hysteresis: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="What the probability must reach over that to act against the strategy's own position.",
    )
    model_sizing: Sizing = Field(
        "confidence",
        description="Amount of a model's signal: fixed; from WARMUP_MIN_AMOUNT where it begins to act to "
        "WARMUP_MAX_AMOUNT at a probability of 1; or Kelly's, within those two. Exploring draws have the least.",
    )
    model_amount: float | None = Field(
        None,
        gt=0,
        le=LARGEST_AMOUNT,
        description="Amount of MODEL_SIZING=fixed, quote currency. Unset: WARMUP_MIN_AMOUNT.",
    )
    model_kelly_fraction: float = Field(
        0.25, gt=0, le=1, description="Part of Kelly's share that MODEL_SIZING=kelly stakes."
    )
    model_live_window_outcomes: int = Field(200, ge=30, description="Least outcomes in the live window.")

    model_retention_versions: int = Field(
        100,
        ge=100,
        le=1_000_000,
        description="So many newest versions of each strategy keep their files, beside those that speak, might be put "
        "back, or were built upon. What is known of the others is kept for ever.",
    )

    # When to train
    model_retraining_schedule: str | None = Field(
        None, description="Five cron fields, also as cron(0 2 * * *), @daily, @weekly. Unset: no schedule."
    )
    model_retraining_timezone: str = Field("UTC", description="Time zone of the schedule.")
    model_drift_psi_threshold: float | None = Field(
        None,
        gt=0,
        le=100,
        description="A feature with a larger PSI against the training rows starts a run. Unset: none. "
        "Without any change slow features pass 1 on most days (docs/evidence.md).",
    )
    model_retraining_min_new_outcomes: int = Field(
        1000, ge=1, le=LARGEST_INTEGER, description="So many new outcomes start a run."
    )
    model_retraining_interval_days: float = Field(
        7.0, gt=0, le=3650, description="A run at least this often, if outcomes came."
    )

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
