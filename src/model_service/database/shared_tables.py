"""The siblings' tables `orders` and `positions`: read, never written, and distrusted (CONTRACTS 0, 3.2, 3.6)."""

from __future__ import annotations

import asyncpg
import structlog

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.services.ports import OpenOrder

log = structlog.get_logger()

# Some exchange states never reach the table, so an order can stay pending in it for ever: after an hour it no longer
# counts. Times there are UTC without a zone.

FOREIGN_OPEN_ORDERS = """
    SELECT upper(o.asset) AS asset, lower(o.side) AS side FROM {schema}.orders o
    WHERE o.status IN ('pending', 'partially_filled') AND o.created_at > (now() AT TIME ZONE 'UTC') - interval '1 hour'
      AND NOT EXISTS (SELECT 1 FROM model_service.trading_signals s WHERE s.signal_id = o.signal_id)
"""
POSITIONS = "SELECT upper(asset) AS asset, sum(size)::float8 AS size FROM {schema}.positions GROUP BY 1"


class SharedTables:
    """Looks into the platform's tables where they exist.

    A table that is missing or lacks a column is left out, with one log line, until the next start.
    """

    def __init__(self, database: Database, schema: str = "public") -> None:
        self._database = database
        # The name is checked by the settings: lower-case letters, digits and underscores only.
        self._statements = {
            "orders": FOREIGN_OPEN_ORDERS.format(schema=schema),
            "positions": POSITIONS.format(schema=schema),
        }

    async def open_orders(self) -> list[OpenOrder]:
        """Open orders that were not made from a signal of ours."""
        rows = await self._rows("orders")
        return [OpenOrder(None, row["asset"], Side(row["side"]), None) for row in rows]

    async def positions(self) -> dict[str, float]:
        """Signed base units by asset, as position-manager and order-manager have counted them (often twice)."""
        return {row["asset"]: row["size"] for row in await self._rows("positions") if row["size"] is not None}

    async def _rows(self, table: str) -> list[asyncpg.Record]:
        statement = self._statements.get(table)
        if statement is None:
            return []
        try:
            return await self._database.fetch(statement)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InsufficientPrivilegeError) as error:
            del self._statements[table]
            log.warning("shared_table_left_out", table=table, reason=str(error))
            return []
