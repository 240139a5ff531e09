"""The service as a process beside a gateway: it subscribes, says what is wrong, stays ready, and stops in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.process import running
from tests.support.gateway import small_gateway

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
