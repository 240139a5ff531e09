"""Balances as the platform's tables have them: the newest row, its age, and what is allowed without one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from model_service.services import balances
from model_service.services.balances import Balance, BalanceReader, Balances
from tests.support.builders import NOON
from tests.support.platform_tables import BALANCES

QUOTE = (
    "INSERT INTO public.account_balances (coin, wallet_balance, available_balance, received_at) VALUES ($1, $2, $2, $3)"
)
MARGIN = "INSERT INTO public.account_margin_balances (total_available_balance, received_at) VALUES ($1, $2)"
SECOND = timedelta(seconds=1)


def tables(database: Database) -> SharedTables:
    return SharedTables(SharedSchema(database, "public", USES))


async def test_the_newest_row_of_the_quote_coin_and_of_the_margin(database: Database) -> None:
    await database.execute(BALANCES)
    naive = NOON.replace(tzinfo=None)
    for coin, amount, age in (("USDT", 900, 5), ("USDT", 700, 1), ("BTC", 3, 0), ("USDT", 800, 3)):
        await database.execute(QUOTE, coin, amount, naive - age * SECOND)
    for margin, age in ((-50, 2), (100, 9)):
        await database.execute(MARGIN, margin, naive - age * SECOND)
    found = await tables(database).balances()
    assert found == Balances(Balance(700.0, NOON - SECOND), Balance(-50.0, NOON - 2 * SECOND))
    assert found.of(Side.BUY) == found.quote
    assert found.of(Side.SELL) == found.margin


async def test_without_rows_or_tables_nothing_is_known_which_allows_everything(database: Database) -> None:
    with capture_logs() as logs:
        assert await tables(database).balances() == Balances()
    assert {entry["disabled"] for entry in logs} >= {"the guard of the balance for buys"}
    await database.execute(BALANCES)
    assert await tables(database).balances() == Balances()
    await database.execute(MARGIN, None, NOON.replace(tzinfo=None))
    assert await tables(database).balances() == Balances()


@pytest.mark.parametrize(
    ("amount", "received_at"),
    [("'NaN'", "'2026-03-02'"), ("700", "'infinity'"), ("700", "'-infinity'")],
)
async def test_a_row_that_says_nothing_allows_nothing(database: Database, amount: str, received_at: str) -> None:
    await database.execute(BALANCES)
    await database.execute(
        "INSERT INTO public.account_balances (coin, wallet_balance, available_balance, received_at)"
        f" VALUES ('USDT', 1000, {amount}, {received_at})"
    )
    assert await tables(database).balances() == Balances(unread=frozenset({Side.BUY}))


async def test_a_table_that_cannot_be_read_allows_nothing_and_one_that_is_not_there_everything(
    database: Database,
) -> None:
    await database.execute(BALANCES)
    await database.execute("ALTER TABLE public.account_balances RENAME COLUMN available_balance TO free")
    found = tables(database)
    with capture_logs():
        assert await found.balances() == Balances(unread=frozenset({Side.BUY}))
        await database.execute("DROP TABLE public.account_balances")
        await found.schema.check()
        assert await found.balances() == Balances()


@pytest.mark.parametrize(("elapsed", "reads"), [(1.9, 1), (2.0, 2), (-2.0, 2)])
async def test_they_are_read_every_two_seconds_at_most(elapsed: float, reads: int) -> None:
    asked: list[Any] = []

    async def read() -> Balances:
        asked.append(1)
        return Balances(Balance(float(len(asked)), NOON))

    reader = BalanceReader(read)
    await reader.at(NOON)
    found = await reader.at(NOON + elapsed * SECOND)
    assert len(asked) == reads
    assert found.quote == Balance(float(reads), NOON)


async def test_a_table_that_is_slow_to_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balances, "READ_SECONDS", 0.05)
    hangs = asyncio.Event()

    async def read() -> Balances:
        await hangs.wait()
        return Balances(Balance(1.0, NOON))

    reader = BalanceReader(read)
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            assert await reader.at(NOON) == Balances(unread=frozenset(Side))
            assert await reader.at(NOON + 3 * SECOND) == Balances(unread=frozenset(Side))
    assert [entry["event"] for entry in logs] == ["balances_slow"], "said once"
    hangs.set()
    assert (await reader.at(NOON + 6 * SECOND)).quote == Balance(1.0, NOON)
