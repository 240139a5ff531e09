"""All settings, from environment variables with the platform's names. Wrong ones stop the start with one line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import model_validator

from model_service.config.settings_learning import LearningSettings
from model_service.config.strategy_checks import (
    OF_SETTINGS,
    amounts_fault,
    dask_faults,
    exchange_minimum_fault,
    horizon_fault,
    model_amount_fault,
    sizing_fault,
    trailing_fault,
)


class Settings(LearningSettings):
    """Settings of the service. Field `x_y` is read from the environment variable `X_Y`.

    Without POSTGRES_HOST the embedded PostgreSQL is started; without RABBITMQ_HOST messages travel through PostgreSQL.
    """

    @model_validator(mode="after")
    def _together(self) -> Settings:
        faults = [
            amounts_fault(self.warmup_min_amount, self.warmup_max_amount, OF_SETTINGS),
            exchange_minimum_fault(
                self.trading_min_order_amount, self.trading_min_order_amounts, self.warmup_max_amount, OF_SETTINGS
            ),
            horizon_fault(self.model_prediction_horizon_seconds, self.market_data_bar_seconds, OF_SETTINGS),
            sizing_fault(self.model_sizing, self.trading_capital_amount, OF_SETTINGS),
            model_amount_fault(self.model_amount, self.warmup_min_amount, self.warmup_max_amount, OF_SETTINGS),
            self._trailing_fault(),
            *(self._dask_faults() if self.training_engine == "dask" else ()),
        ]
        fault = next((fault for fault in faults if fault is not None), None)
        if fault is not None:
            raise ValueError(fault)
        return self

    def _trailing_fault(self) -> str | None:
        whole = self.take_profit_enabled and not self.take_profit_partial_exit
        if not (self.exit_strategy_enabled and self.trailing_stop_enabled and whole):
            return None
        return trailing_fault(self.trailing_stop_activation_pct, self.model_service_take_profit_pct, OF_SETTINGS)

    def _dask_faults(self) -> Sequence[str]:
        if self.dask_scheduler_address is None:
            return ["TRAINING_ENGINE is 'dask'; then DASK_SCHEDULER_ADDRESS is needed, as tcp://host:8786"]
        return dask_faults(self.model_training_model_type, self.model_training_search_trials, OF_SETTINGS)

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
