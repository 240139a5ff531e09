"""Settings for a command, with warnings logged and logging configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from model_service.config.hyperparameters import unknown_feature_fault
from model_service.config.loading import SettingsError, load_settings
from model_service.config.logging import configure_logging
from model_service.config.settings import Settings
from model_service.config.strategy_file import ConfiguredStrategy, configured_strategies
from model_service.config.strategy_source import read_strategies
from model_service.models.features import FEATURE_NAMES


def settings_from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings; variables without effect are warned about. Raises SettingsError."""
    settings, warnings = usable_settings(environ)
    configure_logging(settings.model_service_log_level, settings.model_service_log_format)
    for warning in warnings:
        structlog.get_logger().warning("setting_without_effect", detail=warning)
    return settings


def usable_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings and warnings as `load_settings` gives them, once the features that they name are known to exist.

    Raises:
        SettingsError: as there, or a monotone constraint on a feature that does not exist, or a strategy file that
            cannot be used.
    """
    settings, warnings = load_settings(environ)
    fault = unknown_feature_fault(settings.model_training_monotone_constraints, FEATURE_NAMES)
    if fault is not None:
        given = settings.model_training_monotone_constraints
        raise SettingsError(f"MODEL_TRAINING_MONOTONE_CONSTRAINTS is {given!r}; {fault}")
    strategies_of(settings)
    return settings, warnings


def strategies_of(settings: Settings, path: Path | None = None) -> tuple[ConfiguredStrategy, ...]:
    """The strategies in force with the file of the settings, or with `path` in its place. Raises SettingsError."""
    chosen = path or settings.trading_strategies_file
    text = None if chosen is None else read_strategies(chosen)
    return configured_strategies(settings, text, FEATURE_NAMES)
