"""All settings, from environment variables with the platform's names. Wrong ones stop the start with one line each."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from model_service.config.settings_learning import LearningSettings


class Settings(LearningSettings):
    """Settings of the service. Field `x_y` is read from the environment variable `X_Y`.

    Without POSTGRES_HOST the embedded PostgreSQL is started; without RABBITMQ_HOST messages travel through PostgreSQL.
    """

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
