"""The siblings' tables `orders`, `positions` and two of balances: read, never written, and distrusted.

CONTRACTS 0, 3.2, 3.6 and 3.8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from model_service.contracts.order_rows import ORDER_COLUMNS
from model_service.contracts.types import Side
from model_service.database.shared_schema import SharedSchema, SharedUse
from model_service.services.balances import Balance, Balances
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
QUOTE_COIN = "USDT"
"""What order-manager pays every buy from, whatever the asset."""
# Both are only ever added to. Times there are UTC without a zone.
QUOTE_BALANCE = SharedUse(
    "the guard of the balance for buys",
    "account_balances",
    ("coin", "available_balance", "received_at"),
    """
    SELECT available_balance::float8 AS available, received_at AT TIME ZONE 'UTC' AS received_at,
           isfinite(received_at) AS is_dated
    FROM {schema}.account_balances WHERE coin = $1 ORDER BY account_balances.received_at DESC LIMIT 1
    """,
    (QUOTE_COIN,),
)
MARGIN_BALANCE = SharedUse(
    "the guard of the balance for sells",
    "account_margin_balances",
    ("total_available_balance", "received_at"),
    """
    SELECT total_available_balance::float8 AS available, received_at AT TIME ZONE 'UTC' AS received_at,
           isfinite(received_at) AS is_dated
    FROM {schema}.account_margin_balances ORDER BY account_margin_balances.received_at DESC LIMIT 1
    """,
)
USES = (ORDERS_OF_SIGNALS, SIGNALS_WITH_ORDERS, FOREIGN_OPEN_ORDERS, POSITIONS, QUOTE_BALANCE, MARGIN_BALANCE)

UNREAD = Balance(math.nan, datetime.min.replace(tzinfo=UTC))
"""Stands for a balance that is there and cannot be read."""


class SharedTables:
    """What the siblings' tables say, as far as they can be read; `schema` knows how far that is."""

    def __init__(self, schema: SharedSchema) -> None:
        self.schema = schema

    async def open_orders(self) -> list[OpenOrder]:
        """Open orders that were not made from a signal of ours; none where that cannot be read."""
        rows = await self.schema.rows(FOREIGN_OPEN_ORDERS) or []
        return [OpenOrder(None, row["asset"], Side(row["side"]), None) for row in rows]

    async def positions(self) -> dict[str, float] | None:
        """Signed base units by asset, as position-manager and order-manager have counted them (often twice).

        NaN where nobody can say how many; None where there is no such table, or where it cannot be read.
        """
        rows = await self.schema.rows(POSITIONS)
        return None if rows is None else {row["asset"]: row["size"] for row in rows if row["size"] is not None}

    async def balances(self) -> Balances:
        """The newest balances; None where there is no row or no table, `unread` where there is and it says nothing."""
        quote = await self._balance(QUOTE_BALANCE, QUOTE_COIN)
        margin = await self._balance(MARGIN_BALANCE)
        found = {Side.BUY: quote, Side.SELL: margin}
        return Balances(
            quote=None if quote is UNREAD else quote,
            margin=None if margin is UNREAD else margin,
            unread=frozenset(side for side, one in found.items() if one is UNREAD),
        )

    async def _balance(self, use: SharedUse, *arguments: object) -> Balance | None:
        rows = await self.schema.rows(use, *arguments)
        if rows is None:
            return UNREAD if self.schema.has_table(use) else None
        known = [row for row in rows if row["available"] is not None and row["received_at"] is not None]
        if not known:
            return None
        row = known[0]
        # PostgreSQL takes NaN for an amount, and infinity for an amount and a time.
        if not row["is_dated"] or not math.isfinite(row["available"]):
            return UNREAD
        return Balance(row["available"], row["received_at"])

    async def orders_of(self, signal_ids: Sequence[UUID]) -> list[dict[str, Any]] | None:
        """Rows of all orders of the signals, oldest first, with ORDER_COLUMNS; None where they cannot be read."""
        rows = await self.schema.rows(ORDERS_OF_SIGNALS, list(signal_ids))
        return None if rows is None else [dict(row) for row in rows]

    async def with_orders(self, signal_ids: Sequence[UUID]) -> set[UUID] | None:
        """Those of the signals that have an order; None where that cannot be read."""
        rows = await self.schema.rows(SIGNALS_WITH_ORDERS, list(signal_ids))
        return None if rows is None else {row["signal_id"] for row in rows}
