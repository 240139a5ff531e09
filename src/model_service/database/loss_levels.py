"""The results of a day in PostgreSQL: open lots, closures since a level was taken, and the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from model_service.database.connection import Database
from model_service.database.halts import PostgresHaltStore
from model_service.services.loss_limit import Books, Level, NewLevel, OpenPosition

# One statement, so that a lot is seen open or closed and never both or neither. Of each length of bars, found one after
# the other along the index, the newest one; of these the one that ended last, whatever its length.
BOOKS = """
    SELECT (
        SELECT coalesce(jsonb_agg(positions), '[]') FROM (
            SELECT strategy_id, asset, sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * remaining_quantity) AS quantity,
                   sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * remaining_quantity * entry_price) AS cost,
                   sum(entry_fees * remaining_quantity / quantity) AS fees, (
                       WITH RECURSIVE lengths AS (
                           SELECT min(interval_seconds) AS seconds FROM model_service.market_bars AS bars
                           WHERE bars.asset = lots.asset
                           UNION ALL
                           SELECT (
                               SELECT min(interval_seconds) FROM model_service.market_bars AS bars
                               WHERE bars.asset = lots.asset AND interval_seconds > lengths.seconds
                           ) FROM lengths WHERE seconds IS NOT NULL
                       )
                       SELECT newest.close FROM lengths CROSS JOIN LATERAL (
                           SELECT close, start_at FROM model_service.market_bars AS bars
                           WHERE bars.asset = lots.asset AND interval_seconds = seconds AND close < 'Infinity'
                           ORDER BY start_at DESC LIMIT 1
                       ) AS newest ORDER BY newest.start_at + make_interval(secs => seconds) DESC LIMIT 1
                   ) AS last_close
            FROM model_service.lots AS lots WHERE remaining_quantity > 0 GROUP BY strategy_id, asset
        ) AS positions
    ) AS positions, (
        SELECT coalesce(jsonb_agg(levels), '[]') FROM (
            SELECT strategy_id, open_result, taken_at, (
                       SELECT coalesce(sum(realized_pnl), 0) FROM model_service.lot_closures AS closures
                       WHERE closures.closure_id > levels.closure_id
                         AND (levels.strategy_id IS NULL OR closures.strategy_id = levels.strategy_id)
                   ) AS realized, (
                       SELECT max(ended_at) FROM model_service.trading_halts AS halts
                       WHERE kind = 'loss_limit' AND halts.strategy_id IS NOT DISTINCT FROM levels.strategy_id
                   ) AS resumed_at
            FROM model_service.result_levels AS levels WHERE day = $1
        ) AS levels
    ) AS levels, (SELECT coalesce(max(closure_id), 0) FROM model_service.lot_closures) AS closure_id
"""
TAKE = """
    INSERT INTO model_service.result_levels AS levels (strategy_id, day, closure_id, open_result, taken_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (coalesce(strategy_id, ''), day) DO UPDATE
    SET closure_id = excluded.closure_id, open_result = excluded.open_result, taken_at = excluded.taken_at
    WHERE levels.taken_at < $6::timestamptz
"""


class PostgresLossStore(PostgresHaltStore):
    """The ledger as the loss limit reads it, and the halts that it begins."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)

    async def books(self, day: date) -> Books:
        """Open positions and levels, all of one moment."""
        row = await self._database.fetchrow(BOOKS, day)
        assert row is not None, "a SELECT of scalars has one row"
        return Books(
            positions=[OpenPosition(**one) for one in row["positions"]],
            levels=[_level(one) for one in row["levels"]],
            closure_id=row["closure_id"],
        )

    async def take_levels(self, levels: Sequence[NewLevel]) -> None:
        """Levels as rows; another process may have been first."""
        rows = [
            (one.strategy_id, one.day, one.closure_id, Decimal(repr(one.open_result)), one.taken_at, one.resumed_at)
            for one in levels
        ]
        await self._database.executemany(TAKE, rows)


def _level(one: Mapping[str, Any]) -> Level:
    resumed = one["resumed_at"]
    return Level(
        strategy_id=one["strategy_id"],
        open_result=one["open_result"],
        taken_at=datetime.fromisoformat(one["taken_at"]),
        realized=one["realized"],
        resumed_at=None if resumed is None else datetime.fromisoformat(resumed),
    )
