"""The siblings' tables as the platform's migrations make them, and a role that may only read them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from model_service.database.connection import Database
from tests.support.builders import NOON
from tests.support.order_histories import OrderRow
from tests.support.postgres import administer

ORDERS = """
    CREATE TABLE public.orders (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        order_id varchar(100) NOT NULL UNIQUE,
        signal_id uuid NOT NULL,
        asset varchar(20) NOT NULL,
        side varchar(10) NOT NULL CHECK (side IN ('Buy', 'SELL')),
        order_type varchar(20) NOT NULL CHECK (order_type IN ('Market', 'Limit')),
        quantity numeric(20, 8) NOT NULL CHECK (quantity > 0),
        price numeric(20, 8) CHECK (order_type <> 'Limit' OR price IS NOT NULL),
        status varchar(20) NOT NULL
            CHECK (status IN ('pending', 'partially_filled', 'filled', 'cancelled', 'rejected', 'dry_run')),
        filled_quantity numeric(20, 8) NOT NULL DEFAULT 0 CHECK (filled_quantity BETWEEN 0 AND quantity),
        average_price numeric(20, 8),
        fees numeric(20, 8),
        created_at timestamp NOT NULL DEFAULT now(),
        updated_at timestamp NOT NULL DEFAULT now(),
        executed_at timestamp,
        trace_id varchar(100),
        is_dry_run boolean NOT NULL DEFAULT false,
        rejection_reason text
    );
    CREATE INDEX idx_orders_signal_id ON public.orders (signal_id);
"""
POSITIONS = """
    CREATE TABLE public.positions (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        asset varchar(20) NOT NULL,
        mode varchar(20) NOT NULL CHECK (mode IN ('one-way', 'hedge')),
        size numeric(20, 8) NOT NULL,
        UNIQUE (asset, mode)
    );
"""
BALANCES = """
    CREATE TABLE public.account_balances (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        coin varchar(10) NOT NULL,
        wallet_balance numeric(20, 8) NOT NULL CHECK (wallet_balance >= 0),
        available_balance numeric(20, 8) NOT NULL CHECK (available_balance >= 0),
        frozen numeric(20, 8) NOT NULL DEFAULT 0 CHECK (frozen >= 0),
        event_timestamp timestamp,
        received_at timestamp NOT NULL DEFAULT now()
    );
    CREATE TABLE public.account_margin_balances (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        account_type varchar(20) NOT NULL DEFAULT 'UNIFIED',
        total_equity numeric(20, 8),
        total_available_balance numeric(20, 8),
        base_currency varchar(10) NOT NULL DEFAULT 'USDT',
        event_timestamp timestamp,
        received_at timestamp NOT NULL DEFAULT now()
    );
"""
UPSERT = """
    INSERT INTO public.orders (
        id, order_id, signal_id, asset, side, order_type, quantity, status, filled_quantity, average_price, fees,
        created_at, executed_at, is_dry_run)
    VALUES ($1, $2, $3, $4, $5, 'Market', $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (id) DO UPDATE SET
        status = excluded.status, filled_quantity = excluded.filled_quantity, average_price = excluded.average_price,
        fees = excluded.fees, executed_at = excluded.executed_at
"""
NAMESPACE = UUID("00000000-0000-0000-0000-00000000a51b")
_numbers = itertools.count(1)


class Platform:
    """order-manager's hand in its own tables."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, order_id: str, signal_id: UUID, status: str, filled: str = "0", **given: Any) -> UUID:
        """Write the row of an order as it stands now; returns its internal identifier."""
        row_id: UUID = given.get("row_id", uuid5(NAMESPACE, order_id))
        quantity = Decimal(filled)
        price = Decimal(given.get("price", "100")) if quantity else None
        fees = Decimal(given.get("fees", "0.5")) if quantity else None
        executed_at = given.get("executed_at", _naive(NOON) if status == "filled" else None)
        await self.database.execute(
            UPSERT, row_id, order_id, signal_id, given.get("asset", "BTCUSDT"), given.get("side", "Buy"),
            max(Decimal(100), quantity), status, quantity, price, fees, given.get("created_at", _naive(NOON)),
            executed_at, given.get("is_dry_run", False),
        )  # fmt: skip
        return row_id

    async def put_row(self, row: OrderRow) -> None:
        """Write a row of a generated history."""
        side = "Buy" if row.side.sign > 0 else "SELL"
        await self.database.execute(
            UPSERT, row.row_id, row.order_id, row.signal_id, row.book.partition(":")[2], side, Decimal(100),
            row.status.value, row.filled_quantity, row.average_price, row.fees, _naive(NOON), None, False,
        )  # fmt: skip


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


@asynccontextmanager
async def reading_role(owner: Database, **session: str) -> AsyncIterator[Database]:
    """The same database for a role that owns our schema and may SELECT from the siblings' tables, and no more."""
    role = f"reader_{owner.address.database}_{next(_numbers)}"
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    await owner.execute(f"GRANT USAGE ON SCHEMA public, model_service TO {role}")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA model_service TO {role}")
    await owner.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA model_service TO {role}")
    await owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    reader = Database(replace(owner.address, user=role), session_settings=session)
    await reader.open()
    try:
        yield reader
    finally:
        await reader.close()
        await owner.execute(f"DROP OWNED BY {role}")
        await administer(owner.address, f"DROP ROLE {role}")
