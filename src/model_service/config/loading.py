"""Settings out of an environment: one line for each variable that is wrong or unknown."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from model_service.config.allowed import allowed_values, is_secret
from model_service.config.settings import Settings

OWN_PREFIXES = (
    "MODEL_", "SIGNAL_", "WARMUP_", "TRADING_", "EXIT_STRATEGY_", "TAKE_PROFIT_", "STOP_LOSS_", "TRAILING_STOP_",
    "TIME_BASED_EXIT_", "BALANCE_", "MARKET_DATA_", "EXECUTION_", "TRAINING_",
    "ALERT_",
)  # fmt: skip

ACCEPTED_BUT_UNUSED = frozenset(
    {
        "MODEL_SERVICE_SERVICE_NAME", "MODEL_RETRAINING_TRAIN_PERIOD_DAYS", "MODEL_RETRAINING_VALIDATION_PERIOD_DAYS",
        "MODEL_RETRAINING_TEST_PERIOD_DAYS",
        "SIGNAL_PROCESSING_DELAY_ALERT_THRESHOLD_SECONDS", "MODEL_SERVICE_MAX_POSITION_SIZE_RATIO",
    }
)  # fmt: skip
"""Variables that the platform sets and that change nothing here yet: accepted with a warning."""


class SettingsError(Exception):
    """One or more settings cannot be used; the text has one line for each: variable, value, what is allowed."""


def load_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from `environ`, and warnings about variables that have no effect.

    Raises:
        SettingsError: with one line per variable that is unknown or has a value that is not allowed.
    """
    names = {name.upper(): value for name, value in environ.items()}
    problems, warnings = _unknown_variables(names)
    known = {field: names[field.upper()] for field in Settings.model_fields if names.get(field.upper())}
    try:
        settings = _FromMapping(**known)  # type: ignore[arg-type]
    except ValidationError as error:
        problems += [_describe(item) for item in error.errors()]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings, warnings


class _FromMapping(Settings):
    """The same settings, read from nothing but the arguments."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives."""
        return (init_settings,)


def _unknown_variables(names: Mapping[str, str]) -> tuple[list[str], list[str]]:
    known = {field.upper() for field in Settings.model_fields}
    problems, warnings = [], []
    for name in sorted(names):
        if name in ACCEPTED_BUT_UNUSED:
            warnings.append(f"{name} is accepted, but has no effect in this version")
            continue
        if name in known or not name.startswith(OWN_PREFIXES):
            continue
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.append(f"{name}: there is no such setting{hint}")
    return problems, warnings


def _describe(item: ErrorDetails) -> str:
    reason = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:
        return reason
    name = str(item["loc"][0])
    field = Settings.model_fields[name]
    given = "" if is_secret(field) else f" is {item['input']!r}"
    wanted = reason if item["type"] == "value_error" else f"allowed: {allowed_values(field)}"
    return f"{name.upper()}{given}; {wanted} ({field.description})"
