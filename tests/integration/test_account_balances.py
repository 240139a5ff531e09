"""Assets from the platform's real table account_balances, read by a role that may read it and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.database.account_balances import BALANCES, AccountBalances
from model_service.database.connection import Database
from model_service.database.registry import PostgresRegistry
from model_service.database.shared_schema import SharedSchema
from model_service.market.state import AssetMarket
from model_service.services.asset_watch import AssetWatch
from model_service.services.balance_assets import BalanceAssets
from model_service.services.markets import Markets
from model_service.services.roster import StrategyRoster
from tests.support.builders import NOON, strategy
from tests.support.platform_tables import reading_role

TABLE = """
    CREATE TABLE public.account_balances (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        coin varchar(10) NOT NULL,
        wallet_balance numeric(20, 8) NOT NULL CHECK (wallet_balance >= 0),
        available_balance numeric(20, 8) NOT NULL CHECK (available_balance >= 0),
        frozen numeric(20, 8) NOT NULL CHECK (frozen >= 0),
        event_timestamp timestamp,
        received_at timestamp NOT NULL DEFAULT now(),
        trace_id varchar(100),
        CHECK (wallet_balance = available_balance + frozen)
    )
"""
MINUTE = timedelta(minutes=1)


class NoBars:
    """No stored bars."""

    async def newest(self, asset: str, until: datetime, count: int) -> Sequence[Any]:
        return []


class Account:
    """The gateway's hand in its table, and a watch over it that has looked at times of the test's own."""

    def __init__(self, owner: Database, reader: Database | None) -> None:
        self.owner = owner
        balances = None
        if reader is not None:
            balances = AccountBalances(SharedSchema(reader, "public", (BALANCES,)))
        listed = strategy(strategy_id="listed")
        held = strategy(strategy_id="held", assets=(), assets_from_balances=True)
        self.roster = StrategyRoster.of([listed, held])
        self.markets = Markets(NoBars(), lambda asset: AssetMarket(asset, 60))
        found = BalanceAssets(balances, "USDT")
        self.watch = AssetWatch(self.roster, found, self.markets, PostgresRegistry(owner))
        self.minutes = 0

    async def has(self, coin: str, balance: float, minute: float = 0) -> None:
        at = (NOON + minute * MINUTE).replace(tzinfo=None)
        await self.owner.execute(
            "INSERT INTO public.account_balances (coin, wallet_balance, available_balance, frozen, received_at)"
            " VALUES ($1, $2::float8::numeric, $2::float8::numeric, 0, $3)",
            coin,
            balance,
            at,
        )

    async def look(self) -> Sequence[str]:
        await self.watch.step(NOON + self.minutes * MINUTE)
        self.minutes += 1
        return next(one.assets for one in self.roster.current if one.strategy_id == "held")


@asynccontextmanager
async def account(database: Database) -> AsyncIterator[Account]:
    await database.execute(TABLE)
    async with reading_role(database) as reader:
        yield Account(database, reader)


async def test_every_coin_with_a_balance_becomes_an_asset(database: Database) -> None:
    async with account(database) as made:
        for coin, balance in {"BTC": 0.5, "eth": 2, "USDT": 900, "USDC": 5, "DOGE": 0, "A-B": 1, "X" * 10: 1}.items():
            await made.has(coin, balance)
        with capture_logs() as logs:
            assets = await made.look()
        assert assets == ("BTCUSDT", "ETHUSDT", "XXXXXXXXXXUSDT")
        assert set(made.markets) == {"BTCUSDT", "ETHUSDT", "XXXXXXXXXXUSDT"}
        assert made.watch.notices == ()
        assert [(one["event"], one.get("coins")) for one in logs] == [
            ("balance_coins_left_out", ["A-B"]), ("strategy_assets_changed", None),
        ]  # fmt: skip
        assert await database.fetchval("SELECT details FROM model_service.audit_log") == {
            "added": ["BTCUSDT", "ETHUSDT", "XXXXXXXXXXUSDT"], "removed": [],
        }  # fmt: skip
        assert made.roster.position_limits["BTCUSDT"] == 20_000.0, "both strategies have it"


async def test_the_newest_row_of_a_coin_counts_however_old_it_is(database: Database) -> None:
    async with account(database) as made:
        await made.has("BTC", 0, minute=-9000)
        await made.has("BTC", 1, minute=-8000)
        await made.has("ETH", 1, minute=-2)
        await made.has("ETH", 0, minute=-1)
        # Two rows of one moment that contradict each other.
        await made.has("SOL", 0, minute=-1)
        await made.has("SOL", 3, minute=-1)
        assert await made.look() == ("BTCUSDT", "SOLUSDT")


async def test_a_coin_goes_after_three_looks_without_it_and_not_before(database: Database) -> None:
    async with account(database) as made:
        await made.has("BTC", 1, minute=-1)
        await made.has("ETH", 1, minute=-1)
        assert await made.look() == ("BTCUSDT", "ETHUSDT")
        await made.has("ETH", 0, minute=0.5)
        assert [await made.look() for _ in range(2)] == [("BTCUSDT", "ETHUSDT")] * 2
        await made.has("ETH", 2, minute=2.5)
        assert [await made.look() for _ in range(2)] == [("BTCUSDT", "ETHUSDT")] * 2
        await made.has("ETH", 0, minute=4.5)
        assert [await made.look() for _ in range(3)] == [("BTCUSDT", "ETHUSDT"), ("BTCUSDT", "ETHUSDT"), ("BTCUSDT",)]
        assert "ETHUSDT" in made.markets, "a position that is left still has to know the price"


async def test_looks_are_a_minute_apart(database: Database) -> None:
    async with account(database) as made:
        await made.look()
        await made.has("BTC", 1)
        await made.watch.step(NOON + timedelta(seconds=59))
        assert not made.roster.found_assets
        await made.watch.step(NOON + timedelta(seconds=60))
        assert made.roster.found_assets == ("BTCUSDT",)


async def test_an_empty_account_is_said_once_and_mends_itself(database: Database) -> None:
    async with account(database) as made:
        await made.has("USDT", 100)
        with capture_logs() as logs:
            assert [await made.look() for _ in range(3)] == [()] * 3
        assert [one["event"] for one in logs] == ["strategies_without_assets"]
        assert logs[0]["strategies"] == ["held"]
        assert made.watch.notices == (
            "1 strategy has no assets: account_balances has no coin to be traded against USDT",
        )
        await made.has("BTC", 1)
        assert await made.look() == ("BTCUSDT",)
        assert not made.watch.notices


async def test_without_the_table_the_use_is_switched_off_until_it_is_there(database: Database) -> None:
    async with reading_role(database) as reader:
        made = Account(database, reader)
        with capture_logs() as logs:
            assert await made.look() == ()
        assert [one["event"] for one in logs] == ["shared_table_unusable", "strategies_without_assets"]
        (notice,) = made.watch.notices
        assert notice.endswith("is switched off: there is no table public.account_balances")
        await database.execute(TABLE)
        await database.execute(f"GRANT SELECT ON public.account_balances TO {reader.address.user}")
        await made.has("BTC", 1)
        assert await made.look() == ("BTCUSDT",)


async def test_a_table_that_goes_away_takes_the_assets_after_three_looks(database: Database) -> None:
    async with account(database) as made:
        await made.has("BTC", 1)
        assert await made.look() == ("BTCUSDT",)
        await database.execute("ALTER TABLE public.account_balances RENAME COLUMN coin TO currency")
        assert [await made.look() for _ in range(3)] == [("BTCUSDT",), ("BTCUSDT",), ()]
        assert "has no column coin" in made.watch.notices[0]


@pytest.mark.parametrize("looks", [1, 3])
async def test_an_embedded_database_has_no_such_table_and_says_so(database: Database, looks: int) -> None:
    made = Account(database, None)
    assert [await made.look() for _ in range(looks)] == [()] * looks
    assert "TRADING_ORDER_LOOKUP_ENABLED" in made.watch.notices[0]


async def test_nobody_reads_the_table_while_no_strategy_asks_for_it(database: Database) -> None:
    async with reading_role(database) as reader:
        made = Account(database, reader)
        made.roster.adopt([one for one in made.roster.configured if one.definition.strategy_id == "listed"], NOON)
        with capture_logs() as logs:
            await made.watch.step(NOON)
        assert (logs, made.watch.notices) == ([], ())
