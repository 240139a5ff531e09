"""Who speaks for each strategy: the warm-up policy, a model, or nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog

from model_service.config.strategies import StrategyDefinition
from model_service.models.artifact import ArtifactDamaged, ArtifactUnreachable, LoadedModel
from model_service.policies.base import Policy
from model_service.policies.model import ModelPolicy
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.warmup import WarmupPolicy, warmup_expired
from model_service.services.alerts import Alerts, NoAlerts
from model_service.services.errors import NotFound
from model_service.services.ports import (
    ActiveVersionChanged,
    ModelFiles,
    ModelVersion,
    NothingToActivate,
    RegistryStore,
)
from model_service.services.roster import StrategyRoster

log = structlog.get_logger()


class Modes:
    """The mode of each strategy and the policy that goes with it; every change is a row with its evidence.

    A strategy is in mode `model` exactly when a version is active for it and loaded; `paused` overrides both.
    """

    def __init__(
        self,
        roster: StrategyRoster,
        registry: RegistryStore,
        files: ModelFiles,
        *,
        warmup: bool,
        alerts: Alerts | None = None,
    ) -> None:
        self._roster = roster
        self._registry = registry
        self._files = files
        self._warmup_enabled = warmup
        self._alerts = alerts or NoAlerts()
        self._warmup = WarmupPolicy()
        self._models: dict[str, ModelPolicy] = {}
        self._active: dict[str, ModelVersion] = {}
        self._modes: dict[str, str] = {}
        self._since: dict[str, datetime] = {}
        self._expired: set[str] = set()
        # People and the quality watch change modes side by side; each change is seen whole or not at all.
        self._lock = asyncio.Lock()
        self._unsettled: set[str] = set()

    def mode(self, strategy_id: str) -> str:
        """`warmup`, `model` or `paused`."""
        return self._modes.get(strategy_id, "warmup")

    def active(self, strategy_id: str) -> ModelVersion | None:
        """The version that speaks, whatever the mode."""
        return self._active.get(strategy_id)

    def model(self, strategy_id: str) -> LoadedModel | None:
        """The version that speaks, as it is loaded."""
        policy = self._models.get(strategy_id)
        return None if policy is None else policy.model

    def policy(self, strategy_id: str, now: datetime) -> Policy | Reason:
        """Who decides now, or why nobody does."""
        if self.mode(strategy_id) == "paused":
            return Reason(ReasonCode.PAUSED)
        model = self._models.get(strategy_id)
        if model is not None:
            return model
        if not self._warmup_enabled:
            return Reason(ReasonCode.WARMUP_DISABLED)
        return self._over(strategy_id, now) or self._warmup

    def _over(self, strategy_id: str, now: datetime) -> Reason | None:
        """Why the warm-up has ended without a model, said once in the log; None while it lasts."""
        strategy = self._roster.get(strategy_id)
        duration_hours = None if strategy is None else strategy.warmup_duration_hours
        reason = warmup_expired(duration_hours, self._since.get(strategy_id, now), now)
        if reason is not None and strategy_id not in self._expired:
            self._expired.add(strategy_id)
            log.warning("warmup_expired", strategy=strategy_id, hours=reason.value, allowed_hours=reason.threshold)
        return reason

    def is_known(self, strategy_id: str) -> bool:
        """Whether there is a strategy of that name, which ticks."""
        return self._roster.get(strategy_id) is not None

    def known(self, strategy_id: str) -> StrategyDefinition:
        """The definition of a strategy. Raises NotFound when there is none of that name."""
        strategy = self._roster.get(strategy_id)
        if strategy is None:
            names = sorted(one.strategy_id for one in self._roster.current)
            message = f"There is no strategy of that name; there are: {', '.join(names) or 'none'}."
            raise NotFound("unknown_strategy", message, {"strategies": names})
        return strategy

    async def restore(self, now: datetime) -> None:
        """Read modes and active versions from the database, as every start does.

        A damaged artifact is refused, and the version that was active before it speaks instead (promise P5).
        """
        stored, since = await self._registry.modes(), await self._registry.in_mode_since()
        self._modes = dict(stored)
        for one in self._roster.configured:
            strategy_id = one.definition.strategy_id
            await self._take_up(strategy_id, stored.get(strategy_id), since.get(strategy_id), "start", now)

    async def take_up(self, strategy_id: str, now: datetime) -> None:
        """Mode and active version of a strategy that is about to be added, as `restore` reads them."""
        async with self._lock:
            stored, since = await self._registry.modes(), await self._registry.in_mode_since()
            await self._take_up(strategy_id, stored.get(strategy_id), since.get(strategy_id), "added", now)

    @property
    def is_unsettled(self) -> bool:
        """Whether a change broke off, so that `settle` has something to read."""
        return bool(self._unsettled)

    async def settle(self, now: datetime) -> None:
        """After a change that broke off, let the database say whether it took effect; before anybody decides again."""
        for strategy_id in sorted(self._unsettled):
            async with self._changing(strategy_id, now):
                pass

    @asynccontextmanager
    async def _changing(self, strategy_id: str, now: datetime) -> AsyncIterator[None]:
        """One change at a time. One that breaks off may have taken effect, so the next one begins by reading."""
        async with self._lock:
            if strategy_id in self._unsettled:
                stored, since = await self._registry.modes(), await self._registry.in_mode_since()
                await self._take_up(strategy_id, stored.get(strategy_id), since.get(strategy_id), "recovered", now)
            self._unsettled.add(strategy_id)
            try:
                yield
            except (ActiveVersionChanged, NothingToActivate) as error:
                active = self._active.get(strategy_id)
                if isinstance(error, ActiveVersionChanged) and error.active != (active and active.version):
                    raise  # another process has changed it, so the next one begins by reading
                self._unsettled.discard(strategy_id)
                raise
            self._unsettled.discard(strategy_id)

    async def _take_up(
        self, strategy_id: str, stored_mode: str | None, since: datetime | None, reason: str, now: datetime
    ) -> None:
        if stored_mode is not None and since is not None:
            self._modes[strategy_id], self._since[strategy_id] = stored_mode, since
        version = await self._load_first_intact(strategy_id, now)
        if version is None:
            self._models.pop(strategy_id, None)
            self._active.pop(strategy_id, None)
        if stored_mode != "paused":
            wanted = "model" if version is not None else "warmup"
            await self._enter(strategy_id, wanted, reason, {"version": version}, now)

    async def activate(
        self, strategy_id: str, version: ModelVersion, *, actor: str, reason: str, forced: bool, now: datetime,
        expected: str | None = None,
    ) -> None:  # fmt: skip
        """Let `version` speak: load it, then the row, then the swap.

        Raises ArtifactDamaged, and as `RegistryStore.activate` does, with nothing changed.
        """
        policy = await self._load(version)
        name = version.version
        async with self._changing(strategy_id, now):
            await self._registry.activate(
                strategy_id, name, actor=actor, reason=reason, forced=forced, now=now, expected=expected
            )
            self._models[strategy_id] = policy
            self._active[strategy_id] = version
            log.info("version_activated", strategy=strategy_id, version=name, actor=actor, reason=reason)
            if self.mode(strategy_id) != "paused":
                await self._enter(strategy_id, "model", reason, {"version": name, "actor": actor}, now)

    async def activate_general(
        self,
        version: ModelVersion,
        *,
        actor: str,
        reason: str,
        forced: bool,
        now: datetime,
        expected: str | None = None,
    ) -> None:
        """Let a general model speak for every strategy that has no version of its own. Raises as `activate`."""
        await self._load(version)
        name = version.version
        # Whoever has no version of its own reads anew what it has by now, whatever becomes of the change.
        names = {one.definition.strategy_id for one in self._roster.configured}
        self._unsettled |= {name for name in names if self._speaks_generally(name)}
        await self._registry.activate(None, name, actor=actor, reason=reason, forced=forced, now=now, expected=expected)
        log.info("version_activated", strategy=None, version=name, actor=actor, reason=reason)
        await self.settle(now)

    def _speaks_generally(self, strategy_id: str) -> bool:
        active = self._active.get(strategy_id)
        return active is None or active.strategy_id is None

    async def fall_back(
        self, strategy_id: str, version: str, to: ModelVersion | None, reason: str, evidence: Mapping[str, Any],
        now: datetime,
    ) -> bool:  # fmt: skip
        """Take the word from `version`, for `to` or (None) for the warm-up.

        False, and nothing changed, when another one speaks by now. A version that cannot be loaded gives way to the
        warm-up.
        """
        policy = await self._loaded_or_none(strategy_id, to)
        async with self._changing(strategy_id, now):
            active = self._active.get(strategy_id)
            if active is None or active.version != version:
                return False
            name = to.version if to is not None and policy is not None else None
            await self._registry.activate(
                strategy_id, name, actor="service", reason=reason, forced=False, now=now, evidence=evidence
            )
            if to is None or policy is None:
                del self._models[strategy_id], self._active[strategy_id]
            else:
                self._models[strategy_id], self._active[strategy_id] = policy, to
                log.info("version_activated", strategy=strategy_id, version=name, actor="service", reason=reason)
            if self.mode(strategy_id) != "paused":
                await self._enter(strategy_id, "warmup" if name is None else "model", reason, evidence, now)
            return True

    async def _loaded_or_none(self, strategy_id: str, version: ModelVersion | None) -> ModelPolicy | None:
        if version is None:
            return None
        try:
            return await self._load(version)
        except ArtifactDamaged as error:
            log.error("artifact_refused", strategy=strategy_id, version=version.version, error=str(error))
            return None

    async def pause(self, strategy_id: str, *, actor: str, reason: str, now: datetime) -> None:
        """No openings until somebody resumes; exits go on."""
        async with self._changing(strategy_id, now):
            await self._enter(strategy_id, "paused", reason, {"actor": actor}, now)

    async def resume(self, strategy_id: str, *, actor: str, reason: str, now: datetime) -> None:
        """Back to the model, or to the warm-up where there is none."""
        async with self._changing(strategy_id, now):
            mode = "model" if strategy_id in self._models else "warmup"
            await self._enter(strategy_id, mode, reason, {"actor": actor}, now)

    async def _enter(
        self, strategy_id: str, mode: str, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> None:
        if self._modes.get(strategy_id) == mode:
            return
        await self._registry.set_mode(strategy_id, mode, reason, evidence, now)
        self._modes[strategy_id], self._since[strategy_id] = mode, now
        self._expired.discard(strategy_id)
        log.info("mode_changed", strategy=strategy_id, mode=mode, reason=reason)
        self._alerts.send("mode_changed", strategy_id, {"mode": mode, "reason": reason, "why": dict(evidence)}, now)

    async def _load_first_intact(self, strategy_id: str, now: datetime) -> str | None:
        version = await self._registry.active(strategy_id)
        tried: set[str] = set()
        lost: Collection[str] = ()
        reason = ""
        while version is not None and version.version not in tried:
            tried.add(version.version)
            try:
                self._models[strategy_id] = await self._load(version)
            except ArtifactUnreachable as error:
                # What is away may come back: no row is changed for it, and the next start looks again.
                log.error("model_folder_unreachable", strategy=strategy_id, version=version.version, error=str(error))
                return None
            except ArtifactDamaged as error:
                reason = error.reason
                log.error("artifact_refused", strategy=strategy_id, version=version.version, error=str(error))
                lost = lost or await self._registry.lost_for_quality(strategy_id)
                version = await self._registry.previous(strategy_id, version.version)
                while version is not None and version.version in lost and version.version not in tried:
                    tried.add(version.version)
                    version = await self._registry.previous(strategy_id, version.version)
                continue
            self._active[strategy_id] = version
            if len(tried) > 1:
                await self._registry.activate(
                    strategy_id, version.version, actor="service", reason=reason, forced=False, now=now
                )
            return version.version
        if tried:
            await self._registry.activate(strategy_id, None, actor="service", reason=reason, forced=False, now=now)
        return None

    async def _load(self, version: ModelVersion) -> ModelPolicy:
        # Beside the event loop: hashes and the session of a large ensemble cost more than a decision may wait.
        model = await asyncio.to_thread(self._files.load, version.version, version.files)
        return ModelPolicy(model, version.version)
