"""The strategy file on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from model_service.config.settings import Settings
from model_service.config.strategies import StrategyDefinition
from model_service.config.strategy_file import (
    ConfiguredStrategy,
    StrategiesRefused,
    StrategyText,
    configured_strategies,
)

LARGEST_BYTES = 4 * 2**20
"""Thousands of strategies; more is a wrong path."""


def read_strategies(path: Path) -> StrategyText:
    """The file as it is now; messages call it by its path. Raises StrategiesRefused when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise StrategiesRefused(
            [f"{path}: it cannot be read: {error.strerror}; see TRADING_STRATEGIES_FILE"]
        ) from error
    if len(content) > LARGEST_BYTES:
        raise StrategiesRefused([f"{path}: it is larger than {LARGEST_BYTES} bytes; see TRADING_STRATEGIES_FILE"])
    return StrategyText(str(path), content)


class StrategyFile:
    """The file of the settings, where there is one, as the running service reads it again and again."""

    def __init__(self, settings: Settings, features: Collection[str]) -> None:
        self._settings = settings
        self._features = tuple(features)

    async def read(self) -> StrategyText | None:
        """What stands in it now, read beside the event loop; None where there is no file. Raises StrategiesRefused."""
        path = self._settings.trading_strategies_file
        return None if path is None else await asyncio.to_thread(read_strategies, path)

    def parse(self, text: StrategyText | None) -> tuple[ConfiguredStrategy, ...]:
        """The strategies in force with it. Raises StrategiesRefused."""
        return configured_strategies(self._settings, text, self._features)


class FixedStrategies:
    """Strategies that somebody has made, and that nothing changes."""

    def __init__(self, definitions: Sequence[StrategyDefinition]) -> None:
        self._configured = tuple(ConfiguredStrategy(definition) for definition in definitions)

    async def read(self) -> StrategyText | None:
        """There is no file."""
        return None

    def parse(self, text: StrategyText | None) -> tuple[ConfiguredStrategy, ...]:
        """Always the same."""
        return self._configured
