"""Balances are asked for anew at a gateway on a real socket: before the guard refuses, no more often than set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from model_service.consumers.balance_sync import BalanceSync, SyncLimits
from model_service.consumers.gateway_client import GatewayClient
from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.shared_schema import SharedSchema
from model_service.database.shared_tables import USES, SharedTables
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.balances import Balance, BalanceReader, Balances
from model_service.services.guards import refuse_opening
from model_service.services.opening_request import GuardLimits, OpeningRequest
from tests.integration.test_balances import MARGIN, QUOTE
from tests.support.builders import NOON, snapshot, strategy
from tests.support.gateway import Answer, SmallGateway, says, small_gateway, sync_fails, syncs_nothing
from tests.support.platform_tables import BALANCES

SECOND = timedelta(seconds=1)
LIMITS = SyncLimits(max_age_seconds=60.0, min_interval_seconds=30.0)


class Account:
    """Balances as a gateway keeps them: a sync that works makes them as old as `clock` says."""

    def __init__(self, quote: datetime | None = NOON, margin: datetime | None = NOON) -> None:
        self.quote, self.margin, self.clock = quote, margin, NOON

    async def read(self) -> Balances:
        quote, margin = (
            None if received is None else Balance(1000.0, received) for received in (self.quote, self.margin)
        )
        return Balances(quote, margin)

    async def sync(self) -> Answer:
        self.quote = self.margin = self.clock
        return await syncs_nothing()


class Watched:
    """A sync of balances that is stepped every second, and when the gateway was asked."""

    def __init__(self, account: Account, gateway: SmallGateway, port: int | None = None, key: str = "secret") -> None:
        client = GatewayClient("127.0.0.1", port or gateway.port, SecretStr(key), timeout_seconds=0.2)
        self.account, self.gateway = account, gateway
        self.reader = BalanceReader(account.read)
        self.sync = BalanceSync(client, self.reader, LIMITS)
        self.asked: list[float] = []
        self.oldest = 0.0

    async def until(self, last: int, first: int = 0) -> None:
        for second in range(first, last):
            now = self.account.clock = NOON + second * SECOND
            if await self.sync.step(now):
                self.asked.append(second)
            quote = (await self.reader.at(now)).quote
            self.oldest = max(self.oldest, 0.0 if quote is None else quote.age_seconds(now))


@pytest.fixture
async def gateway() -> AsyncIterator[SmallGateway]:
    async with small_gateway() as listening:
        yield listening


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


async def test_a_quiet_account_is_never_too_old(gateway: SmallGateway, logged: list[Any]) -> None:
    account = Account()
    gateway.sync = account.sync
    watched = Watched(account, gateway)
    await watched.until(200)
    assert watched.asked == [30, 60, 90, 120, 150, 180]
    assert gateway.syncs == 6
    assert watched.oldest <= 32
    assert not gateway.requests
    assert not watched.sync.notices
    assert not logged


async def test_nothing_is_asked_while_the_balances_move(gateway: SmallGateway) -> None:
    account = Account()
    watched = Watched(account, gateway)
    for start in range(0, 200, 25):
        account.quote = account.margin = NOON + start * SECOND
        await watched.until(start + 25, start)
    assert gateway.syncs == 0


async def test_one_old_balance_of_the_two_is_enough_and_one_that_is_not_there_is_not_old(gateway: SmallGateway) -> None:
    for account, asks in (
        (Account(margin=NOON - 40 * SECOND), 1),
        (Account(quote=NOON - 40 * SECOND), 1),
        (Account(quote=None, margin=NOON - 40 * SECOND), 1),
        (Account(quote=None, margin=None), 0),
    ):
        gateway.syncs = 0
        await Watched(account, gateway).until(5)
        assert gateway.syncs == asks


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("502", "the gateway answers with 502"),
        ("500", "the gateway answers with 500"),
        ("hangs", "the gateway does not answer"),
        ("away", "the gateway does not answer"),
        ("wrong key", "the gateway does not accept WS_GATEWAY_API_KEY (HTTP 401)"),
    ],
)
async def test_a_gateway_that_fails_is_asked_at_the_interval_said_once_and_forgiven(
    gateway: SmallGateway, logged: list[Any], fault: str, trouble: str
) -> None:
    async def breaks() -> Answer:
        return says(500)({})

    account = Account()
    gateway.sync = {"502": sync_fails, "500": breaks, "hangs": None}.get(fault, account.sync)
    away, key = (9 if fault == "away" else None), ("wrong" if fault == "wrong key" else "secret")
    watched = Watched(account, gateway, away, key)
    await watched.until(200)
    assert watched.asked == [30, 60, 90, 120, 150, 180]
    assert gateway.syncs == (0 if fault == "away" else 6)
    assert watched.sync.notices == (f"balances cannot be kept fresh: {trouble}",)
    assert [entry["event"] for entry in logged] == ["balance_sync_failed"]
    assert "BALANCE_SYNC_FAILED" in logged[0]["reason"] or fault != "502"
    assert not any("wrong" in str(value) for entry in logged for value in entry.values())
    if fault in ("502", "500", "hangs"):
        gateway.sync = account.sync
        await watched.until(212, 200)
    else:
        account.quote = account.margin = NOON + 200 * SECOND
        await watched.until(212, 200)
    assert not watched.sync.notices
    assert [entry["event"] for entry in logged][1:] == ["balance_sync_resumed"]


async def test_a_failure_that_lasts_is_said_again_after_ten_minutes(gateway: SmallGateway, logged: list[Any]) -> None:
    gateway.sync = sync_fails
    await Watched(Account(), gateway).until(1300)
    assert len([entry for entry in logged if entry["event"] == "balance_sync_failed"]) == 3


async def test_a_sync_that_leaves_a_balance_old_is_no_success(gateway: SmallGateway) -> None:
    account = Account()

    async def only_the_margin() -> Answer:
        account.margin = account.clock
        return await syncs_nothing()

    gateway.sync = only_the_margin
    watched = Watched(account, gateway)
    await watched.until(61)
    assert watched.sync.notices == ("balances cannot be kept fresh: the gateway's sync writes no balance for buys",)
    gateway.sync = account.sync
    await watched.until(125, 61)
    assert not watched.sync.notices


async def test_a_gateway_that_hangs_holds_up_nobody_who_reads_the_balances(gateway: SmallGateway) -> None:
    gateway.sync = None
    client = GatewayClient("127.0.0.1", gateway.port, SecretStr("secret"), timeout_seconds=60.0)
    reader = BalanceReader(Account().read)
    now = NOON + 45 * SECOND
    asking = asyncio.create_task(BalanceSync(client, reader, LIMITS).step(now))
    async with asyncio.timeout(5):
        while not gateway.syncs:
            await asyncio.sleep(0.01)
        assert (await reader.at(now + 3 * SECOND)).quote == Balance(1000.0, NOON)
        assert not asking.done()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_clock_that_steps_back_does_not_put_it_off(gateway: SmallGateway) -> None:
    watched = Watched(Account(quote=NOON - 7200 * SECOND), gateway)
    await watched.until(1)
    assert await watched.sync.step(NOON - 3600 * SECOND)


async def test_the_guard_passes_after_a_sync(database: Database, gateway: SmallGateway) -> None:
    await database.execute(BALANCES)
    late = NOON + 61 * SECOND

    async def writes(at: datetime = late) -> Answer:
        await database.execute(QUOTE, "USDT", 5000, at.replace(tzinfo=None))
        await database.execute(MARGIN, 5000, at.replace(tzinfo=None))
        return await syncs_nothing()

    await writes(NOON)
    reader = BalanceReader(SharedTables(SharedSchema(database, "public", USES)).balances)
    client = GatewayClient("127.0.0.1", gateway.port, SecretStr("secret"))
    sync = BalanceSync(client, reader, LIMITS)
    stale = Reason(ReasonCode.BALANCE_STALE, 61.0, 60.0)
    assert [refused(await reader.at(late), side, late) for side in Side] == [stale, stale]
    gateway.sync = writes
    assert await sync.step(late)
    # At once: the next tick need not wait until the reader would look again.
    assert [refused(await reader.at(late), side, late) for side in Side] == [None, None]
    assert not await sync.step(late + SECOND)


def refused(balances: Balances, side: Side, now: datetime) -> Reason | None:
    limits = GuardLimits(60.0, False, False, 300.0, balance_share=0.95, balance_max_age_seconds=60.0)
    return refuse_opening(
        OpeningRequest(
            strategy=strategy(),
            limits=limits,
            snapshot=snapshot(at=now, updated_at=now, quote_at=now, bars_until=now),
            side=side,
            amount=Decimal(500),
            position_amount=0.0,
            open_orders=(),
            tokens=5.0,
            balance=balances.of(side),
        )
    )
