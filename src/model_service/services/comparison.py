"""Two versions side by side on the same rows: stored outcomes that neither of them was fitted on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.models.artifact import ArtifactDamaged, LoadedModel
from model_service.models.decision_rule import Acting
from model_service.models.job import Metric
from model_service.models.live_window import LiveWindow, metric_of
from model_service.services.errors import NotFound, Refused
from model_service.services.fallback import RecentTrades, RecentTradesStore
from model_service.services.modes import Modes
from model_service.services.ports import ModelFiles, ModelVersion, RegistryStore

MOST_ROWS = 5_000
LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Judged:
    """What one version says of the rows.

    Attributes:
        all_rows: Brier, ece and log loss over the side that was really traded, whether it would have or not.
        taken: of the trades that it would have made itself.
    """

    version: str
    trades: int
    all_rows: Sequence[Metric]
    taken: Sequence[Metric]


@dataclass(frozen=True, slots=True)
class Compared:
    """Both, and the paired differences, the first less the second, with an interval each.

    Attributes:
        agreed: rows of which both would have taken the trade, or neither.
    """

    strategy_id: str
    rows: int
    first_us: int
    last_us: int
    agreed: int
    versions: tuple[Judged, Judged]
    differences: Sequence[Metric]


class Comparisons:
    """Loads two versions and asks both; changes nothing."""

    def __init__(self, modes: Modes, registry: RegistryStore, files: ModelFiles, trades: RecentTradesStore) -> None:
        self._modes = modes
        self._registry = registry
        self._files = files
        self._trades = trades
        self._turn = asyncio.Lock()

    async def compare(self, first: str, second: str) -> Compared:
        """The two on the newest outcomes of their strategy, whoever opened them.

        Raises:
            NotFound: there is no such version, or its strategy is not there.
            Refused: they speak for different strategies, files do not verify, or too few rows are new to both.
        """
        rows = [await self._row(first), await self._row(second)]
        strategy = self._strategy(rows)
        async with self._turn:
            models = [await self._load(row) for row in rows]
            recent = await self._trades.recent_trades(strategy.strategy_id, MOST_ROWS)
            new = recent.after(max(row.trained_until_us for row in rows))
            if len(new.labels) < LEAST_ROWS:
                message = f"{len(new.labels)} outcomes are newer than what both were fitted on; {LEAST_ROWS} are needed"
                raise Refused("not_enough_data", message, kind="conflict")
            return await asyncio.to_thread(compared, strategy, (first, second), (models[0], models[1]), new)

    async def _row(self, version: str) -> ModelVersion:
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"there is no version {version}; GET /api/v1/models lists them")
        return row

    def _strategy(self, rows: Sequence[ModelVersion]) -> StrategyDefinition:
        names = sorted({row.strategy_id for row in rows if row.strategy_id is not None})
        if len(names) != 1:
            message = f"they speak for {' and '.join(names) or 'no strategy of their own'}; compare versions of one"
            raise Refused("other_strategy", message)
        return self._modes.known(names[0])

    async def _load(self, row: ModelVersion) -> LoadedModel:
        try:
            return await asyncio.to_thread(self._files.load, row.version, row.files)
        except ArtifactDamaged as error:
            raise Refused(error.reason, f"{row.version} cannot be asked: {error}", kind="conflict") from error


def compared(
    strategy: StrategyDefinition, names: tuple[str, str], models: tuple[LoadedModel, LoadedModel], rows: RecentTrades
) -> Compared:
    """Both versions on these rows, at least one."""
    horizon_us = strategy.horizon_seconds * 1_000_000
    words = [_word(strategy, model, rows) for model in models]
    whole = [_window(rows, probability, np.ones(len(rows.labels), dtype=bool), horizon_us) for probability, _ in words]
    judged = [
        Judged(name, int(np.sum(taken)), _of_all(window), _window(rows, probability, taken, horizon_us).metrics())
        for name, window, (probability, taken) in zip(names, whole, words, strict=True)
    ]
    gaps = [(probability - rows.labels) ** 2 for probability, _ in words]
    earned = [rows.net_returns * taken for _, taken in words]
    differences = [
        metric_of("brier", "classification", whole[0].blocks.ratio(gaps[0] - gaps[1])),
        metric_of("return_per_opening", "trading_performance", whole[0].blocks.ratio(earned[0] - earned[1])),
    ]
    return Compared(
        strategy_id=strategy.strategy_id,
        rows=len(rows.labels),
        first_us=int(rows.decided_us[0]),
        last_us=int(rows.decided_us[-1]),
        agreed=int(np.sum(words[0][1] == words[1][1])),
        versions=(judged[0], judged[1]),
        differences=differences,
    )


def _word(
    strategy: StrategyDefinition, model: LoadedModel, rows: RecentTrades
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the traded side, and whether the version would have traded it."""
    own = model.predict(rows.features, rows.side_signs).probability
    other = model.predict(rows.features, -rows.side_signs).probability
    rule = Acting.of(strategy).rule(model.calibration)
    return own, rule.chosen_sides(own, other, rows.side_signs, rows.features) == rows.side_signs


def _window(
    rows: RecentTrades, probability: NDArray[np.float64], kept: NDArray[np.bool_], horizon_us: int
) -> LiveWindow:
    return LiveWindow(rows.decided_us[kept], rows.labels[kept], probability[kept], rows.net_returns[kept], horizon_us)


def _of_all(window: LiveWindow) -> Sequence[Metric]:
    """Without those that are the same for every version, since they are about the rows alone."""
    return [metric for metric in window.metrics() if metric.name in ("brier", "ece", "ece_floor", "log_loss")]
