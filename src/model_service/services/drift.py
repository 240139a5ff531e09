"""Watches whether features still look as they did in the training rows of the version that speaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from model_service.models.drift import LEAST_ROWS, DriftReport, drift_of, effective_rows, from_manifest
from model_service.models.features import FEATURE_NAMES
from model_service.services.modes import Modes
from model_service.services.ports import TrainingStore
from model_service.services.roster import StrategyRoster
from model_service.services.training import TrainingService

log = structlog.get_logger()


@dataclass(frozen=True)
class RecentDecisions:
    """Feature vectors of decisions, whatever they came to.

    Attributes:
        features: float32 (n, F) in today's order, not aligned.
        weights: how many decisions each stands for, (n,): a draw of `none` that was kept with probability q for 1 / q.
        newest: the moment of the newest one; None where there is none.
    """

    features: NDArray[np.float32]
    weights: NDArray[np.float64]
    newest: datetime | None


class RecentDecisionsStore(Protocol):
    """Where they are read."""

    async def count_since(self, strategy_id: str, since: datetime, most: int) -> int:
        """Decisions after this moment; of each kind at most `most` are counted."""
        ...

    async def recent_decisions(self, strategy_id: str, since: datetime, limit: int) -> RecentDecisions:
        """The newest `limit` after `since`."""
        ...


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """How drift is looked at.

    Attributes:
        threshold: a PSI above it asks for a training; None: never.
        every: so many new decisions make a new look.
        rows: of the newest decisions, at most.
        span: how old they may be.
        look_every_seconds: between two looks whether there are so many.
        pause: between two runs that drift has asked for.
    """

    threshold: float | None = None
    every: int = 200
    rows: int = 5_000
    span: timedelta = timedelta(hours=24)
    look_every_seconds: float = 60.0
    pause: timedelta = timedelta(hours=24)


class DriftWatch:
    """Keeps a report for every strategy whose version has kept what its training rows looked like."""

    def __init__(
        self,
        roster: StrategyRoster,
        modes: Modes,
        store: RecentDecisionsStore,
        training: TrainingService,
        runs: TrainingStore,
        limits: DriftLimits,
    ) -> None:
        self._roster = roster
        self._modes = modes
        self._store = store
        self._training = training
        self._runs = runs
        self._limits = limits
        self._next_look: datetime | None = None
        self._seen: dict[str, tuple[str, datetime]] = {}
        self._reports: dict[str, DriftReport] = {}

    def report(self, strategy_id: str) -> DriftReport | None:
        """As of the last look, of the version that speaks; None before that, and while none does."""
        report, version = self._reports.get(strategy_id), self._modes.active(strategy_id)
        return report if report is not None and version is not None and report.version == version.version else None

    async def step(self, now: datetime) -> None:
        """Look at every strategy when a look is due."""
        if self._next_look is not None and now < self._next_look:
            return
        self._next_look = now + timedelta(seconds=self._limits.look_every_seconds)
        for strategy in self._roster.current:
            await self._look(strategy.strategy_id, now)

    async def _look(self, strategy_id: str, now: datetime) -> None:
        model, version = self._modes.model(strategy_id), self._modes.active(strategy_id)
        if model is None or version is None:
            return
        seen_version, seen = self._seen.get(strategy_id, ("", now - self._limits.span))
        if seen_version == version.version and not await self._has_news(strategy_id, seen):
            return
        references = from_manifest(model.manifest)
        if not references:
            why = f"{version.version} was trained before the quantiles of its rows were kept"
            self._reports[strategy_id] = DriftReport(version.version, now, 0, (), why)
            self._seen[strategy_id] = version.version, now
            return
        recent = await self._store.recent_decisions(strategy_id, now - self._limits.span, self._limits.rows)
        rows = effective_rows(recent.weights)
        if rows < LEAST_ROWS:
            why = f"{rows} decisions of the last {self._limits.span / timedelta(hours=1):g} hours, {LEAST_ROWS} needed"
            report = DriftReport(version.version, now, rows, (), why)
        else:
            found = await asyncio.to_thread(drift_of, references, FEATURE_NAMES, recent.features, recent.weights)
            report = DriftReport(version.version, now, rows, found)
        await self._ask(strategy_id, report, now)
        self._reports[strategy_id] = report
        self._seen[strategy_id] = version.version, recent.newest or now

    async def _has_news(self, strategy_id: str, seen: datetime) -> bool:
        return await self._store.count_since(strategy_id, seen, self._limits.every) >= self._limits.every

    async def _ask(self, strategy_id: str, report: DriftReport, now: datetime) -> None:
        """Ask for a run when drift is over the threshold and none was asked for lately."""
        farthest, threshold = report.farthest, self._limits.threshold
        if farthest is None or threshold is None or farthest.psi <= threshold:
            return
        last = await self._runs.last_run(strategy_id)
        if last is not None and now - last.requested_at < self._limits.pause:
            return
        reason = f"{farthest.feature} has drifted: PSI {farthest.psi:.3f}, MODEL_DRIFT_PSI_THRESHOLD is {threshold:g}"
        log.warning(
            "features_drifted", strategy=strategy_id, version=report.version, feature=farthest.feature,
            psi=farthest.psi, threshold=threshold,
        )  # fmt: skip
        await self._training.request(strategy_id, "full", "drift", reason, now)
