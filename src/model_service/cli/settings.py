"""Settings for a command, with warnings logged and logging configured."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from model_service.config.logging import configure_logging
from model_service.config.settings import Settings, load_settings


def settings_from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings; variables without effect are warned about. Raises SettingsError."""
    settings, warnings = load_settings(environ)
    configure_logging(settings.model_service_log_level, settings.model_service_log_format)
    for warning in warnings:
        structlog.get_logger().warning("setting_without_effect", detail=warning)
    return settings
