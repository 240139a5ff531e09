"""Watches the active version's live outcomes, and takes the word from a model that is no longer good (METHOD 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from model_service.config.strategies import StrategyDefinition
from model_service.models.decision_rule import Acting
from model_service.models.degradation import reference_of
from model_service.services.alerts import Alerts
from model_service.services.errors import NotFound
from model_service.services.fallback import Fallback
from model_service.services.live_state import LiveQuality, LiveState
from model_service.services.modes import Modes
from model_service.services.ports import QUALITY_DEGRADED, ModelVersion, QualityStore
from model_service.services.roster import StrategyRoster
from model_service.services.training import TrainingService

log = structlog.get_logger()
_AT_ONCE = 1_000
"""Of a long-lived version thousands are read at the start: a page must not hold up the decisions meanwhile."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The live window, and how often it is looked at.

    Attributes:
        window: outcomes that the window holds at least.
        look_every_seconds: between two looks whether there are new outcomes.
        store_every_seconds: between two sets of metrics in the table, while nothing fires.
        least_after_fallback: outcomes that a version has before it hands on what was handed back to it.
    """

    window: int = 200
    look_every_seconds: float = 1.0
    store_every_seconds: float = 30.0
    least_after_fallback: int = 50


class QualityWatch:
    """Keeps the live metrics of every active version and acts when one degrades."""

    def __init__(
        self,
        roster: StrategyRoster,
        modes: Modes,
        store: QualityStore,
        training: TrainingService,
        fallback: Fallback,
        limits: QualityLimits,
        alerts: Alerts,
    ) -> None:
        self._roster = roster
        self._modes = modes
        self._store = store
        self._training = training
        self._fallback = fallback
        self._limits = limits
        self._alerts = alerts
        self._next_look: datetime | None = None
        self._states: dict[str, LiveState] = {}
        self._judged_by: dict[str, tuple[object, ...]] = {}
        self._by_fallback: dict[str, bool] = {}
        self._stored: dict[str, tuple[datetime, LiveQuality]] = {}
        self.latest: dict[str, LiveQuality] = {}

    async def step(self, now: datetime) -> None:
        """Look at every active version when a look is due."""
        if self._next_look is not None and now < self._next_look:
            return
        self._next_look = now + timedelta(seconds=self._limits.look_every_seconds)
        for strategy in self._roster.current:
            version = self._modes.active(strategy.strategy_id)
            if version is None:
                self._forget(strategy.strategy_id)
            else:
                with suppress(NotFound):  # it was taken away while the others were looked at
                    await self._look(strategy, version, now)

    def _forget(self, strategy_id: str) -> None:
        known: dict[str, Any]
        for known in (self._states, self._judged_by, self._by_fallback, self._stored, self.latest):
            known.pop(strategy_id, None)

    async def _look(self, strategy: StrategyDefinition, version: ModelVersion, now: datetime) -> None:
        name = strategy.strategy_id
        state = await self._state(strategy, version)
        await self._read(name, state)
        if state.has_news or name not in self.latest:
            # Beside the event loop: over a day of many outcomes it costs more than a decision may wait.
            quality = await asyncio.to_thread(state.quality, now)
            if quality.fired and self._may_fall(name, state):
                await self._store_metrics(version, quality, now)
                await self._hand_back(strategy, version, state, quality, now)
            # Only what has been dealt with to the end is not looked at again.
            state.has_news = False
            self.latest[name] = quality
        quality = self.latest[name]
        stored = self._stored.get(name)
        if stored is None or (stored[1] is not quality and now - stored[0] >= self._every):
            await self._store_metrics(version, quality, now)

    async def _store_metrics(self, version: ModelVersion, quality: LiveQuality, now: datetime) -> None:
        if quality.metrics:
            await self._store.store_metrics(version.id, quality.metrics, quality.n, now, quality.window)
            self._stored[quality.strategy_id] = now, quality

    @property
    def _every(self) -> timedelta:
        return timedelta(seconds=self._limits.store_every_seconds)

    def _may_fall(self, strategy_id: str, state: LiveState) -> bool:
        """Whether it has had its chance: no second fallback right after the first."""
        return not self._by_fallback[strategy_id] or state.outcomes >= self._limits.least_after_fallback

    async def _state(self, strategy: StrategyDefinition, version: ModelVersion) -> LiveState:
        name = strategy.strategy_id
        activation = await self._store.activation(name, version.version)
        model = self._modes.model(name)
        floor = Acting.of(strategy).rule(model.calibration).floor if model is not None else 0.5
        # By another floor or horizon, which people change while it runs, the same outcomes say something else.
        judged_by = (version.version, activation.at, floor, strategy.horizon_seconds)
        state = self._states.get(name)
        if state is not None and self._judged_by.get(name) == judged_by:
            return state
        reference = reference_of(await self._store.test_metrics(version.id))
        state = LiveState(
            name, version.version, activation.at, reference, strategy.horizon_seconds, floor, self._limits.window
        )
        self._forget(name)
        self._judged_by[name] = judged_by
        self._states[name], self._by_fallback[name] = state, activation.reason == QUALITY_DEGRADED
        return state

    async def _read(self, strategy_id: str, state: LiveState) -> None:
        """Take what has become available since the last look."""
        while True:
            outcomes = await self._store.live_outcomes(strategy_id, state.version, state.since, state.last, _AT_ONCE)
            for outcome in outcomes:
                state.add(outcome)
            if len(outcomes) < _AT_ONCE:
                return

    async def _hand_back(
        self, strategy: StrategyDefinition, version: ModelVersion, state: LiveState, quality: LiveQuality, now: datetime
    ) -> None:
        name = strategy.strategy_id
        speaking = self._modes.active(name)
        if speaking is None or speaking.version != version.version:
            return
        to, found = await self._fallback.candidate(strategy, version.version, state.onset)
        evidence = evidence_of(quality, to, found)
        log.warning(
            "quality_degraded", strategy=name, version=version.version, to=evidence["to"], reason=reason_of(quality)
        )
        # In this order, and asked for once: when the process dies or the database goes away in between, the version
        # still speaks and the next look comes here again. The other way round nobody would ask for the run any more.
        if not await self._training.is_asked_for(name, "quality"):
            await self._training.request(name, "full", "quality", reason_of(quality), now)
        if await self._modes.fall_back(name, version.version, to, QUALITY_DEGRADED, evidence, now):
            self._alerts.send(QUALITY_DEGRADED, name, evidence, now)


def evidence_of(quality: LiveQuality, to: ModelVersion | None, found: Mapping[str, Any]) -> dict[str, Any]:
    """What a fallback rests on: every detector with value and threshold, the window, and what the one before shows."""
    return {
        "version": quality.version,
        "to": to.version if to is not None else None,
        "fired": [one.detector for one in quality.fired],
        "detectors": [asdict(one) for one in quality.detectors],
        "n": quality.n,
        "outcomes": quality.outcomes,
        **quality.window,
        "previous": dict(found),
    }


def reason_of(quality: LiveQuality) -> str:
    """One sentence for the run that a fallback asks for."""
    said = ", ".join(f"{one.detector} {one.value:.3f} {one.comparison} {one.threshold:.3f}" for one in quality.fired)
    return f"{quality.version} after {quality.outcomes} live outcomes: {said}"
