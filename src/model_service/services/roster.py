"""Which strategies there are now: the one place that everybody asks, and that changes all at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from model_service.config.strategies import StrategyDefinition
from model_service.config.strategy_file import ConfiguredStrategy

StrategyState = Literal["enabled", "disabled", "removed"]


class StrategyRoster:
    """The present strategies. Who works through them takes `current` once and keeps that until the work is done.

    Args:
        configured: as they were asked for, disabled ones too.
        fallback: the definition by which positions of a strategy are closed that nobody remembers anything else of.
    """

    def __init__(
        self,
        configured: Sequence[ConfiguredStrategy],
        fallback: Callable[[str], StrategyDefinition] | None = None,
    ) -> None:
        self._fallback = fallback
        self._last: dict[str, StrategyDefinition] = {}
        self._joined_at: dict[str, datetime] = {}
        self._found_assets: tuple[str, ...] = ()
        self._take(configured)

    @classmethod
    def of(cls, definitions: Iterable[StrategyDefinition]) -> StrategyRoster:
        """A roster of these strategies, all enabled."""
        return cls([ConfiguredStrategy(definition) for definition in definitions])

    @property
    def configured(self) -> Sequence[ConfiguredStrategy]:
        """As they were asked for, disabled ones too; assets that come from the balances are not filled in."""
        return self._configured

    @property
    def current(self) -> Sequence[StrategyDefinition]:
        """The strategies that tick, each with its assets."""
        return self._current

    @property
    def position_limits(self) -> Mapping[str, float]:
        """By asset, what all strategies together may hold, quote currency."""
        return self._position_limits

    @property
    def found_assets(self) -> Sequence[str]:
        """The assets of the strategies that trade what the account holds."""
        return self._found_assets

    def get(self, strategy_id: str) -> StrategyDefinition | None:
        """The strategy of that name; None when it does not tick."""
        return self._by_name.get(strategy_id)

    def state(self, strategy_id: str) -> StrategyState:
        """Whether it ticks, was switched off, or is not there any more."""
        if strategy_id in self._by_name:
            return "enabled"
        return "disabled" if any(one.definition.strategy_id == strategy_id for one in self._configured) else "removed"

    def for_exits(self, strategy_id: str) -> StrategyDefinition | None:
        """By what the positions of a strategy are closed, also after it was taken away; None: by nothing."""
        found = self._by_name.get(strategy_id) or self._last.get(strategy_id)
        if found is None and self._fallback is not None:
            found = self._last[strategy_id] = self._fallback(strategy_id)
        return found

    def last(self, strategy_id: str) -> StrategyDefinition | None:
        """As it was last asked for, whatever its state; None for a strategy that nobody remembers."""
        return self._last.get(strategy_id)

    def joined_at(self, strategy_id: str) -> datetime | None:
        """When it was added to a running service; None when it was there from the start."""
        return self._joined_at.get(strategy_id)

    def remember(self, definitions: Iterable[StrategyDefinition]) -> None:
        """What strategies once were that are no more; what is configured now counts before that."""
        self._last = {one.strategy_id: one for one in definitions} | self._last

    def adopt(self, configured: Sequence[ConfiguredStrategy], now: datetime) -> None:
        """From now on these, in one step: nobody sees some of the old and some of the new."""
        known = {one.definition.strategy_id for one in self._configured}
        for one in configured:
            if one.definition.strategy_id not in known:
                self._joined_at[one.definition.strategy_id] = now
        self._take(configured)

    def adopt_assets(self, assets: Sequence[str]) -> None:
        """From now on these for the strategies that trade what the account holds."""
        self._found_assets = tuple(assets)
        self._take(self._configured)

    def _take(self, configured: Sequence[ConfiguredStrategy]) -> None:
        self._configured = tuple(configured)
        self._current = tuple(self._filled_in(one.definition) for one in self._configured if one.enabled)
        self._by_name = {one.strategy_id: one for one in self._current}
        self._last |= {one.definition.strategy_id: one.definition for one in self._configured}
        limits: dict[str, float] = defaultdict(float)
        for strategy in self._current:
            for asset in strategy.assets:
                limits[asset] += float(strategy.maximum_position_amount)
        self._position_limits = limits

    def _filled_in(self, definition: StrategyDefinition) -> StrategyDefinition:
        if not definition.assets_from_balances:
            return definition
        return definition.model_copy(update={"assets": self._found_assets})
