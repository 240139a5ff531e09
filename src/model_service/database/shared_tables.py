"""The siblings' tables `orders` and `positions`: read, never written, and distrusted (CONTRACTS 0, 3.2, 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from model_service.contracts.order_rows import ORDER_COLUMNS
from model_service.contracts.types import Side
from model_service.database.shared_schema import SharedSchema, SharedUse
from model_service.services.ports import OpenOrder

# Some exchange states never reach the table, so an order can stay pending in it for ever: after an hour it no longer
# counts. Times there are UTC without a zone.
FOREIGN_OPEN_ORDERS = SharedUse(
    "the guard against other services' open orders",
    "orders",
    ("signal_id", "asset", "side", "status", "created_at"),
    """
    SELECT upper(o.asset) AS asset, lower(o.side) AS side FROM {schema}.orders AS o
    WHERE o.status IN ('pending', 'partially_filled') AND o.created_at > (now() AT TIME ZONE 'UTC') - interval '1 hour'
      AND lower(o.side) IN ('buy', 'sell')
      AND NOT EXISTS (SELECT 1 FROM model_service.trading_signals AS s WHERE s.signal_id = o.signal_id)
    """,
)
POSITIONS = SharedUse(
    "the guard of the platform's position limit",
    "positions",
    ("asset", "size"),
    "SELECT upper(asset) AS asset, sum(size)::float8 AS size FROM {schema}.positions GROUP BY 1",
)
# By signal_id, which has an index.
ORDERS_OF_SIGNALS = SharedUse(
    "reconciliation with the table orders",
    "orders",
    ORDER_COLUMNS,
    f"SELECT {', '.join(ORDER_COLUMNS)} FROM {{schema}}.orders"  # noqa: S608 - the columns are constants
    " WHERE signal_id = ANY($1::uuid[]) ORDER BY created_at, id",
    ([],),
)
SIGNALS_WITH_ORDERS = SharedUse(
    "the search for lost signals",
    "orders",
    ("signal_id",),
    "SELECT DISTINCT signal_id FROM {schema}.orders WHERE signal_id = ANY($1::uuid[])",
    ([],),
)
USES = (ORDERS_OF_SIGNALS, SIGNALS_WITH_ORDERS, FOREIGN_OPEN_ORDERS, POSITIONS)


class SharedTables:
    """What the siblings' tables say, as far as they can be read; `schema` knows how far that is."""

    def __init__(self, schema: SharedSchema) -> None:
        self.schema = schema

    async def open_orders(self) -> list[OpenOrder]:
        """Open orders that were not made from a signal of ours; none where that cannot be read."""
        rows = await self.schema.rows(FOREIGN_OPEN_ORDERS) or []
        return [OpenOrder(None, row["asset"], Side(row["side"]), None) for row in rows]

    async def positions(self) -> dict[str, float]:
        """Signed base units by asset, as position-manager and order-manager have counted them (often twice)."""
        rows = await self.schema.rows(POSITIONS) or []
        return {row["asset"]: row["size"] for row in rows if row["size"] is not None}

    async def orders_of(self, signal_ids: Sequence[UUID]) -> list[dict[str, Any]] | None:
        """Rows of all orders of the signals, oldest first, with ORDER_COLUMNS; None where they cannot be read."""
        rows = await self.schema.rows(ORDERS_OF_SIGNALS, list(signal_ids))
        return None if rows is None else [dict(row) for row in rows]

    async def with_orders(self, signal_ids: Sequence[UUID]) -> set[UUID] | None:
        """Those of the signals that have an order; None where that cannot be read."""
        rows = await self.schema.rows(SIGNALS_WITH_ORDERS, list(signal_ids))
        return None if rows is None else {row["signal_id"] for row in rows}
