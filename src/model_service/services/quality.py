"""Watches the active version's live outcomes, and takes the word from a model that is no longer good (METHOD 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import structlog

from model_service.config.strategies import StrategyDefinition
from model_service.models.intervals import block_ratio
from model_service.services.modes import Modes
from model_service.services.ports import LiveOutcome, ModelVersion, QualityStore
from model_service.services.training import TrainingService

log = structlog.get_logger()
TOLERANCE = 0.05
"""How far live accuracy may lie under the test's accuracy at the threshold (METHOD 9)."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The live window.

    Attributes:
        window: outcomes that are looked at, the newest ones.
        minimum: fewer say nothing; no verdict.
        check_every_seconds: time between two looks.
    """

    window: int = 200
    minimum: int = 50
    check_every_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class LiveQuality:
    """What the window shows. `accuracy` is the share of the version's openings with y = 1."""

    n: int
    accuracy: float
    accuracy_upper: float
    accuracy_lower: float
    average_return: float
    brier: float

    @property
    def metrics(self) -> Mapping[str, float]:
        """By the names of the table; what is not finite is left out."""
        values = {
            "accuracy": self.accuracy,
            "accuracy_lower": self.accuracy_lower,
            "accuracy_upper": self.accuracy_upper,
            "average_return": self.average_return,
            "brier": self.brier,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}


class QualityWatch:
    """Keeps the live metrics of every active version and acts when one degrades."""

    def __init__(
        self,
        strategies: Sequence[StrategyDefinition],
        modes: Modes,
        store: QualityStore,
        training: TrainingService,
        limits: QualityLimits,
    ) -> None:
        self._strategies = tuple(strategies)
        self._modes = modes
        self._store = store
        self._training = training
        self._limits = limits
        self._next_check: datetime | None = None
        self._seen: dict[str, datetime] = {}
        self.latest: dict[str, LiveQuality] = {}

    async def step(self, now: datetime) -> None:
        """Look at every active version when a look is due."""
        if self._next_check is not None and now < self._next_check:
            return
        self._next_check = now + timedelta(seconds=self._limits.check_every_seconds)
        for strategy in self._strategies:
            version = self._modes.active(strategy.strategy_id)
            if version is not None:
                await self._look(strategy, version, now)

    async def _look(self, strategy: StrategyDefinition, version: ModelVersion, now: datetime) -> None:
        outcomes = await self._store.live_outcomes(strategy.strategy_id, version.version, self._limits.window)
        if not outcomes or self._seen.get(version.version) == outcomes[-1].available_at:
            return
        quality = live_quality(outcomes)
        self.latest[strategy.strategy_id] = quality
        window = {"window": self._limits.window, "from": outcomes[0].available_at.isoformat()}
        await self._store.store_metrics(version.id, quality.metrics, quality.n, now, window)
        if is_degraded(quality, version, self._limits):
            await self._hand_back(strategy, version, quality, now)
        # Only what has been dealt with to the end is not looked at again.
        self._seen[version.version] = outcomes[-1].available_at

    async def _hand_back(
        self, strategy: StrategyDefinition, version: ModelVersion, quality: LiveQuality, now: datetime
    ) -> None:
        floor = (version.accuracy_at_threshold or 0.0) - TOLERANCE
        evidence = {
            "version": version.version,
            "live_accuracy": quality.accuracy,
            "live_accuracy_upper": quality.accuracy_upper,
            "floor": floor,
            "n": quality.n,
        }
        log.warning("quality_degraded", strategy=strategy.strategy_id, **evidence)
        speaking = self._modes.active(strategy.strategy_id)
        if speaking is None or speaking.version != version.version:
            return
        # In this order, and asked for once: when the process dies or the database goes away in between, the version
        # still speaks and the next look comes here again. The other way round nobody would ask for the run any more.
        if not await self._training.is_asked_for(strategy.strategy_id, "quality"):
            reason = f"live accuracy of {version.version} at most {quality.accuracy_upper:.3f}, floor {floor:.3f}"
            await self._training.request(strategy.strategy_id, "full", "quality", reason, now)
        await self._modes.fall_back_to_warmup(strategy.strategy_id, version.version, "quality_degraded", evidence, now)


def live_quality(outcomes: Sequence[LiveOutcome]) -> LiveQuality:
    """Metrics over the window; the interval of the accuracy is two-sided 95 % over contiguous blocks (METHOD 7)."""
    n = len(outcomes)
    accuracy = block_ratio(np.array([float(outcome.label) for outcome in outcomes]))
    lower, upper = accuracy.lower(0.975), accuracy.upper(0.975)
    return LiveQuality(
        n=n,
        accuracy=accuracy.value,
        accuracy_lower=max(0.0, lower) if math.isfinite(lower) else math.nan,
        accuracy_upper=min(1.0, upper) if math.isfinite(upper) else math.nan,
        average_return=sum(outcome.net_return for outcome in outcomes) / n,
        brier=sum((outcome.confidence - outcome.label) ** 2 for outcome in outcomes) / n,
    )


def is_degraded(quality: LiveQuality, version: ModelVersion, limits: QualityLimits) -> bool:
    """Whether even the upper bound of live accuracy lies under the version's own test by more than the tolerance."""
    if quality.n < limits.minimum or version.accuracy_at_threshold is None:
        return False
    return quality.accuracy_upper < version.accuracy_at_threshold - TOLERANCE
