"""The service as a process beside a gateway: it asks, says what is wrong, stays ready, and stops in time."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from model_service.database.connection import Database
from tests.e2e.process import command, environment, running
from tests.e2e.test_service import database_settings
from tests.e2e.test_strategies import FAST, moving_market, signals
from tests.support.gateway import Answer, small_gateway, sync_fails, syncs_nothing
from tests.support.platform_tables import BALANCES

TOPICS = {
    (channel, asset) for channel in ("ticker", "trades", "orderbook", "kline") for asset in ("BTCUSDT", "ETHUSDT")
}


async def test_subscribes_and_says_when_it_is_refused(open_folder: Path) -> None:
    async with small_gateway() as gateway:
        settings = {
            "WS_GATEWAY_HOST": "127.0.0.1",
            "WS_GATEWAY_PORT": gateway.port,
            "TRADING_ASSETS": "btcusdt,ethusdt",
        }
        async with running(open_folder, WS_GATEWAY_API_KEY="wrong", **settings) as service:
            health = await service.until("/health", lambda _, body: bool(body and body["notices"]), 60)
            assert health["notices"] == [
                "the gateway refuses our subscriptions: it does not accept WS_GATEWAY_API_KEY (HTTP 401)"
            ]
            assert (await service.get("/readyz"))[0] == 200
        gateway.requests.clear()
        async with running(open_folder, WS_GATEWAY_API_KEY="secret", **settings) as service:
            await service.until("/readyz", lambda status, _: status == 200, 60)
            async with asyncio.timeout(20):
                while gateway.topics != TOPICS:
                    await asyncio.sleep(0.1)
            assert (await service.get("/health"))[1]["notices"] == []


async def test_a_gateway_that_hangs_holds_neither_the_service_nor_its_stop_up(open_folder: Path) -> None:
    async with small_gateway() as gateway:
        gateway.answer = None
        settings = {"WS_GATEWAY_HOST": "127.0.0.1", "WS_GATEWAY_PORT": gateway.port, "WS_GATEWAY_API_KEY": "secret"}
        async with running(open_folder, **settings) as service:
            await service.until("/readyz", lambda status, _: status == 200, 60)
            service.process.terminate()
            assert await asyncio.to_thread(service.process.wait, 12) == 0


OLD_BALANCES = """
    INSERT INTO public.account_balances (coin, wallet_balance, available_balance, received_at)
    VALUES ('USDT', 100000, 100000, now() AT TIME ZONE 'UTC' - interval '1 hour');
    INSERT INTO public.account_margin_balances (total_available_balance, received_at)
    VALUES (100000, now() AT TIME ZONE 'UTC' - interval '1 hour');
"""


async def test_old_balances_open_nothing_until_the_gateway_writes_them_anew(
    empty_database: Database, tmp_path: Path
) -> None:
    servers = database_settings(empty_database)
    subprocess.run(command("db", "up"), env=environment(**servers), check=True, capture_output=True)
    await empty_database.execute(BALANCES)
    await empty_database.execute(OLD_BALANCES)

    async def writes() -> Answer:
        await empty_database.execute(OLD_BALANCES.replace("1 hour", "0 hours"))
        return await syncs_nothing()

    async with small_gateway() as gateway, moving_market(empty_database):
        gateway.sync = sync_fails
        settings = {
            **servers,
            **FAST,
            "TRADING_ORDER_LOOKUP_ENABLED": "true",
            "TRADING_ASSETS": "BTCUSDT",
            "MARKET_DATA_SUBSCRIBE": "false",
            "WS_GATEWAY_HOST": "127.0.0.1",
            "WS_GATEWAY_PORT": gateway.port,
            "WS_GATEWAY_API_KEY": "secret",
            "BALANCE_SYNC_MIN_INTERVAL_SECONDS": 1,
        }
        async with running(tmp_path, **settings) as service:
            await service.until("/readyz", lambda status, _: status == 200, 30)
            trouble = "balances cannot be kept fresh: the gateway answers with 502"
            await service.until("/health", lambda _, body: bool(body) and trouble in body["notices"], 20)
            decisions = "/api/v1/strategies/default/decisions"
            await service.until(decisions, lambda _, body: "balance_stale" in str(body), 20)
            _, body = await service.get("/api/v1/strategies")
            assert signals(body, "default") == 0
            gateway.sync = writes
            await service.until("/api/v1/strategies", lambda _, body: signals(body, "default") > 0, 20)
            await service.until("/health", lambda _, body: trouble not in body["notices"], 20)
