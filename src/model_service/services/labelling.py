"""Labels for filled openings, once their horizon has passed (METHOD 3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from model_service.market.snapshot import Bar
from model_service.services.ports import FilledSignal, Outcome, OutcomeStore
from model_service.trades.labels import (
    Barriers,
    Entry,
    ImpossibleReturn,
    Label,
    PathBroken,
    label_opening,
    label_reported,
    opposite_entry,
)

log = structlog.get_logger()


class Labeller:
    """Takes filled signals whose horizon has passed and writes outcomes and samples."""

    def __init__(self, store: OutcomeStore, bar_seconds: int, *, batch: int = 500) -> None:
        self._store = store
        self._bar_seconds = bar_seconds
        self._batch = batch
        self.labelled = 0

    async def step(self, now: datetime) -> int:
        """Label what is due; returns how many samples were written."""
        due = await self._store.due(now, self._batch)
        if not due:
            return 0
        outcomes: list[Outcome] = []
        for asset in sorted({filled.asset for filled in due}):
            outcomes += await self._label_asset(asset, [filled for filled in due if filled.asset == asset], now)
        written = await self._store.store(outcomes) if outcomes else 0
        self.labelled += written
        return written

    async def _label_asset(self, asset: str, due: Sequence[FilledSignal], now: datetime) -> list[Outcome]:
        start = min(filled.entry_at for filled in due) - timedelta(seconds=self._bar_seconds)
        bars = await self._store.bars(asset, self._bar_seconds, start, now)
        outcomes, pathless = [], []
        for filled in due:
            try:
                outcome = _on_path(filled, [bar for bar in bars if bar.end > filled.entry_at], now)
            except PathBroken:
                pathless.append(filled)
                continue
            if outcome is not None:
                outcomes.append(outcome)
            elif now >= filled.entry_at + self._patience(filled):
                pathless.append(filled)
        return outcomes + (await self._as_reported(pathless, now) if pathless else [])

    def _patience(self, filled: FilledSignal) -> timedelta:
        """How long after the entry bars may still come; then the platform's own report is the last word."""
        return timedelta(seconds=2 * filled.horizon_seconds + 10 * self._bar_seconds)

    async def _as_reported(self, pathless: Sequence[FilledSignal], now: datetime) -> list[Outcome]:
        reports = await self._store.reported([filled.signal_id for filled in pathless])
        outcomes = []
        for filled in pathless:
            outcomes.append(Outcome(filled, _reported_label(filled, reports.get(filled.signal_id)), now))
        return outcomes


def _on_path(filled: FilledSignal, path: Sequence[Bar], now: datetime) -> Outcome | None:
    """The outcome of both sides on `path`; None while it does not reach the horizon. Raises PathBroken."""
    entry, half_spread = _entry(filled), filled.spread_percent / 2.0
    label = _judge(filled, entry, path, half_spread)
    if label is None:
        return None
    opposite = _judge(filled, opposite_entry(entry, half_spread), path, half_spread)
    # Whether a path reaches the horizon does not depend on the side.
    assert opposite is not None, "the path has labelled the side that was traded"
    return Outcome(filled, label, now, opposite.net_return)


def _judge(filled: FilledSignal, entry: Entry, path: Sequence[Bar], half_spread_percent: float) -> Label | None:
    horizon = timedelta(seconds=filled.horizon_seconds)
    return label_opening(
        entry,
        Barriers(filled.take_profit_percent, filled.stop_loss_percent, horizon),
        path,
        half_spread_percent=half_spread_percent,
        exit_fee_rate=filled.fee_rate,
        minimum_net_return=filled.minimum_net_return,
    )


def _entry(filled: FilledSignal) -> Entry:
    return Entry(filled.side, filled.entry_at, filled.entry_price, filled.entry_quantity, filled.entry_fees)


def _reported_label(filled: FilledSignal, report: tuple[Decimal, datetime] | None) -> Label | None:
    """The label that the platform's report gives; None, with a log line, when there is none to give."""
    if report is None:
        log.warning("outcome_without_path", signal_id=str(filled.signal_id), asset=filled.asset)
        return None
    try:
        return label_reported(_entry(filled), report[0], report[1], filled.minimum_net_return)
    except ImpossibleReturn as error:
        log.warning("outcome_impossible", signal_id=str(filled.signal_id), error=str(error))
        return None
