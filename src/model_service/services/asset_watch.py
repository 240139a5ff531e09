"""Keeps the strategies that trade what the account holds on the assets that it holds now."""

from __future__ import annotations

from datetime import datetime

import structlog

from model_service.services.balance_assets import BalanceAssets
from model_service.services.markets import Markets
from model_service.services.ports import RegistryStore
from model_service.services.roster import StrategyRoster

log = structlog.get_logger()
SUBJECT = "account_balances"
"""What the audit says was changed: all strategies with these assets change together."""


class AssetWatch:
    """Does nothing while no strategy takes its assets from the balances."""

    def __init__(self, roster: StrategyRoster, found: BalanceAssets, markets: Markets, registry: RegistryStore) -> None:
        self._roster = roster
        self._found = found
        self._markets = markets
        self._registry = registry
        self._said: str | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """How many strategies have no assets, and why. Shown without a key, so without names."""
        count = len(self._without_assets())
        if not count:
            return ()
        strategies = "1 strategy has" if count == 1 else f"{count} strategies have"
        return (f"{strategies} no assets: {self._found.reason}",)

    async def step(self, now: datetime) -> None:
        """Look at the balances when a look is due. Raises DatabaseUnavailable, with nothing changed."""
        if not any(one.enabled and one.definition.assets_from_balances for one in self._roster.configured):
            return
        await self._found.look(now)
        await self._adopt(now)
        self._say_what_is_missing()

    async def _adopt(self, now: datetime) -> None:
        before, after = self._roster.found_assets, self._found.assets
        if tuple(before) == after:
            return
        await self._markets.ensure(after, now)
        details = {"added": sorted(set(after) - set(before)), "removed": sorted(set(before) - set(after))}
        await self._registry.audit("service", "assets_changed", SUBJECT, details, now)
        self._roster.adopt_assets(after)
        log.info("strategy_assets_changed", **details, assets=list(after))

    def _say_what_is_missing(self) -> None:
        silent = self._without_assets()
        reason = self._found.reason if silent else None
        if reason is not None and reason != self._said:
            log.warning("strategies_without_assets", strategies=silent, reason=reason)
        self._said = reason

    def _without_assets(self) -> list[str]:
        return [one.strategy_id for one in self._roster.current if not one.assets]
