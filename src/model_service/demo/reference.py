"""The Bayes accuracy of a version's own test rows, put together from its files, the tables and the simulated market."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np

from model_service.config.strategies import StrategyDefinition
from model_service.database.connection import Database
from model_service.demo.bayes import BayesReference, LabelRule, Opening, bayes_reference
from model_service.demo.market import SimulatedMarket

TEST_PREDICTIONS_FILE = "test_predictions.npz"
ROWS = """
SELECT o.signal_id, o.asset, o.side, o.entry_at, o.entry_price::float8 AS entry_price, s.decided_at,
       s.price::float8 AS price
  FROM model_service.outcomes o
  JOIN model_service.trading_signals s USING (signal_id)
 WHERE o.signal_id = ANY($1::uuid[]) AND o.revision = 1
"""


async def bayes_for_version(
    database: Database, folder: Path, market: SimulatedMarket, strategy: StrategyDefinition, *, seed: int
) -> BayesReference | None:
    """What the best possible model reaches on the test rows in `folder`; None when the folder does not name any.

    The label of a row is the one that the version was judged by. Raises DatabaseUnavailable.
    """
    labels = labels_of_test_rows(folder / TEST_PREDICTIONS_FILE)
    if not labels:
        return None
    rows = await database.fetch(ROWS, list(labels))
    openings = [_opening(row, market, labels[row["signal_id"]]) for row in sorted(rows, key=_order)]
    return bayes_reference(openings, rule_of(strategy), market.process, seed=seed) if openings else None


def labels_of_test_rows(path: Path) -> dict[UUID, int]:
    """Label by signal of the test rows that a version was judged on; empty when there is no such file."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        identifiers, labels = stored["signal_ids"], stored["label"]
    return {UUID(bytes=row.tobytes()): int(label) for row, label in zip(identifiers, labels, strict=True)}


def rule_of(strategy: StrategyDefinition) -> LabelRule:
    """The part of a strategy that its labels depend on."""
    return LabelRule(
        horizon_seconds=strategy.horizon_seconds,
        take_profit_percent=strategy.take_profit_percent,
        stop_loss_percent=strategy.stop_loss_percent,
        fee_rate=strategy.fee_rate,
        minimum_net_return=strategy.minimum_net_return,
    )


def _order(row: asyncpg.Record) -> tuple[float, UUID]:
    return row["decided_at"].timestamp(), row["signal_id"]


def _opening(row: asyncpg.Record, market: SimulatedMarket, label: int) -> Opening:
    return Opening(
        pressure=market.pressure_at(row["asset"], row["decided_at"]),
        side=1 if row["side"] == "buy" else -1,
        decided_second=row["decided_at"].timestamp(),
        entry_second=row["entry_at"].timestamp(),
        entry_ratio=row["entry_price"] / row["price"],
        label=label,
    )
