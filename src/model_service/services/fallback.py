"""Whom a version that is no longer good hands back to: the one before it, if recent outcomes speak for that one."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.models.artifact import ArtifactDamaged, LoadedModel
from model_service.models.decision_rule import Acting
from model_service.models.intervals import TimeBlocks
from model_service.services.ports import ModelFiles, ModelVersion, RegistryStore

LEAST_TRADES = 30
LEAST_SINCE_ONSET = 10
CONFIDENCE = 0.95
"""One-sided, of the bound that must lie above break-even."""


@dataclass(frozen=True)
class RecentTrades:
    """Labelled openings of a strategy, whoever opened them, in the order of their decisions; arrays (n,).

    Attributes:
        decided_us: microseconds since 1970.
        features: float32 (n, F) in today's order, not aligned.
        net_returns: fractions of the entry notional.
    """

    decided_us: NDArray[np.int64]
    side_signs: NDArray[np.int8]
    labels: NDArray[np.int8]
    features: NDArray[np.float32]
    net_returns: NDArray[np.float64]

    def after(self, moment_us: int) -> RecentTrades:
        """Those that were decided later."""
        later = self.decided_us > moment_us
        return RecentTrades(*(getattr(self, name)[later] for name in self.__dataclass_fields__))


class RecentTradesStore(Protocol):
    """Where they are read."""

    async def recent_trades(self, strategy_id: str, limit: int) -> RecentTrades:
        """The newest `limit` outcomes of the strategy."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a former version would have done on recent outcomes.

    Attributes:
        trades: recent openings that it would have made itself.
        win_rate, lower: share of winners among them, and its one-sided 95 % bound.
        trades_since_onset, win_rate_since_onset: of those since the present version began to fall.
        passes: whether it may have the word back, and `why` not.
    """

    version: str
    trades: int
    win_rate: float
    lower: float
    break_even: float
    trades_since_onset: int
    win_rate_since_onset: float
    passes: bool
    why: str

    @property
    def evidence(self) -> dict[str, Any]:
        """As JSON; numbers that are not known are null."""
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: None if isinstance(one, float) and math.isnan(one) else one for name, one in numbers.items()}


class Fallback:
    """Looks for the version to hand back to."""

    def __init__(self, registry: RegistryStore, files: ModelFiles, trades: RecentTradesStore, window: int) -> None:
        self._registry = registry
        self._files = files
        self._trades = trades
        self._window = window

    async def candidate(
        self, strategy: StrategyDefinition, version: str, onset: datetime | None
    ) -> tuple[ModelVersion | None, dict[str, Any]]:
        """The version that shall speak in the place of `version`, None for the warm-up, and what was found of it.

        A version that has lost the word for its quality does not get it back: only a person gives it that.
        """
        before = await self._registry.previous(strategy.strategy_id, version)
        if before is None:
            return None, {"why": "no version spoke before it"}
        if before.version in await self._registry.lost_for_quality(strategy.strategy_id):
            return None, {"version": before.version, "why": "it has lost the word for its quality itself"}
        try:
            model = await asyncio.to_thread(self._files.load, before.version, before.files)
        except ArtifactDamaged as error:
            return None, {"version": before.version, "why": f"its files do not verify: {error}"}
        recent = await self._trades.recent_trades(strategy.strategy_id, self._window)
        onset_us = None if onset is None else round(onset.timestamp() * 1_000_000)
        found = await asyncio.to_thread(replayed, before.version, model, recent, strategy, onset_us)
        return (before if found.passes else None), found.evidence


def replayed(
    version: str, model: LoadedModel, recent: RecentTrades, strategy: StrategyDefinition, onset_us: int | None
) -> Replayed:
    """What `model` would have taken of the recent trades, and whether that speaks for it.

    It does when the lower bound of its share of winners lies above its break-even, on LEAST_TRADES or more; and when,
    since the moment at which the present version began to fall, it has won more than break-even too: what was good
    before the market turned says nothing of now.
    """
    taken = np.zeros(0, dtype=bool)
    if len(recent.labels):
        own = model.predict(recent.features, recent.side_signs).probability
        other = model.predict(recent.features, -recent.side_signs).probability
        rule = Acting.of(strategy).rule(model.calibration)
        taken = rule.chosen_sides(own, other, recent.side_signs, recent.features) == recent.side_signs
    wins = (recent.labels == 1) & taken
    share = TimeBlocks(recent.decided_us, strategy.horizon_seconds * 1_000_000).ratio(
        wins.astype(np.float64), taken.astype(np.float64)
    )
    late = taken & (recent.decided_us >= onset_us) if onset_us is not None else taken
    trades, trades_late = int(np.sum(taken)), int(np.sum(late))
    rate_late = float(np.sum(wins & late)) / trades_late if trades_late else math.nan
    lower = share.lower(CONFIDENCE)
    why = _why_not(trades, trades_late, lower, rate_late, model.break_even)
    return Replayed(
        version, trades, share.value, lower, model.break_even, trades_late, rate_late, passes=not why, why=why
    )


def _why_not(trades: int, trades_late: int, lower: float, rate_late: float, break_even: float) -> str:
    if trades < LEAST_TRADES:
        return f"it would have taken {trades} of the recent trades, {LEAST_TRADES} are needed"
    if not math.isfinite(lower):
        return "the recent trades span too little time for an interval"
    if lower <= break_even:
        return f"its share of winners may be as low as {lower:.3f}, break-even is {break_even:.3f}"
    if trades_late < LEAST_SINCE_ONSET:
        return f"it would have taken {trades_late} trades since the fall began, {LEAST_SINCE_ONSET} are needed"
    if rate_late <= break_even:
        return f"since the fall began it would have won {rate_late:.3f}, break-even is {break_even:.3f}"
    return ""
