"""Market data are asked for at a gateway on a real socket: idempotent, with back-off, and the service goes on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from model_service.consumers.gateway_client import GatewayClient
from model_service.consumers.market_subscriptions import LAST_RETRY_SECONDS, MarketSubscriber
from tests.support.builders import NOON
from tests.support.gateway import SmallGateway, as_documented, says, small_gateway

QUEUES = ("ws-gateway.ticker", "ws-gateway.trade", "ws-gateway.orderbook", "ws-gateway.kline")
CHANNELS = {"ticker", "trades", "orderbook", "kline"}
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture
async def gateway() -> AsyncIterator[SmallGateway]:
    async with small_gateway() as listening:
        yield listening


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


def subscriber(
    gateway: SmallGateway, *, key: str | None = "secret", queues: tuple[str, ...] = QUEUES
) -> MarketSubscriber:
    secret = None if key is None else SecretStr(key)
    client = GatewayClient("127.0.0.1", gateway.port, secret, timeout_seconds=0.3)
    return MarketSubscriber(client, queues, random.Random(1))


async def test_every_asset_and_channel_once_upper_case_and_under_our_name(gateway: SmallGateway) -> None:
    ours = subscriber(gateway)
    assert await ours.step(["btcusdt", "ETHUSDT"], NOON) == 8
    assert gateway.topics == {(channel, asset) for channel in CHANNELS for asset in ("BTCUSDT", "ETHUSDT")}
    assert {request["requesting_service"] for request in gateway.requests} == {"model-service"}
    assert await ours.step(["btcusdt", "ETHUSDT"], NOON + MINUTE) == 0
    assert len(gateway.requests) == 8
    assert not ours.notices


async def test_only_the_channels_of_our_queues(gateway: SmallGateway) -> None:
    await subscriber(gateway, queues=("ws-gateway.ticker", "replayed.somewhere")).step(["BTCUSDT"], NOON)
    assert gateway.topics == {("ticker", "BTCUSDT")}


async def test_a_new_asset_at_once_and_all_again_after_some_minutes(gateway: SmallGateway) -> None:
    ours = subscriber(gateway)
    await ours.step(["BTCUSDT"], NOON)
    gateway.requests.clear()
    await ours.step(["BTCUSDT", "SOLUSDT"], NOON + SECOND)
    assert gateway.topics == {(channel, "SOLUSDT") for channel in CHANNELS}
    gateway.requests.clear()
    await ours.step(["BTCUSDT", "SOLUSDT"], NOON + 5 * MINUTE + SECOND)
    assert len(gateway.requests) == 8


async def test_an_asset_that_is_gone_is_asked_for_no_more_and_never_taken_back(gateway: SmallGateway) -> None:
    ours = subscriber(gateway)
    await ours.step(["BTCUSDT", "SOLUSDT"], NOON)
    gateway.requests.clear()
    await ours.step(["BTCUSDT"], NOON + 6 * MINUTE)
    assert gateway.topics == {(channel, "BTCUSDT") for channel in CHANNELS}


@pytest.mark.parametrize("fault", ["500", "hangs", "away"])
async def test_a_gateway_that_fails_is_tried_with_growing_delays_and_said_once(
    gateway: SmallGateway, logged: list[Any], fault: str
) -> None:
    ours = subscriber(gateway)
    gateway.answer = None if fault == "hangs" else says(500)
    port, tries, now = gateway.port, [], NOON
    if fault == "away":
        ours = MarketSubscriber(GatewayClient("127.0.0.1", 9, None), QUEUES, random.Random(1))
    for _ in range(200):
        before = len(gateway.requests)
        await ours.step(["BTCUSDT"], now)
        if len(gateway.requests) > before:
            tries.append(now)
        now += SECOND
    if fault != "away":
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(tries)]
        assert gaps[0] <= 2
        assert LAST_RETRY_SECONDS / 2 <= gaps[-1] <= LAST_RETRY_SECONDS
        assert len(tries) <= 12
    assert len([entry for entry in logged if entry["event"] == "market_subscription_failed"]) == 1
    assert len(ours.notices) == 1
    assert str(port) not in ours.notices[0]
    if fault != "away":
        gateway.answer = as_documented
        assert await ours.step(["BTCUSDT"], now + MINUTE) == 4
        assert not ours.notices


async def test_one_topic_that_makes_the_gateway_fail_does_not_hold_up_the_others(gateway: SmallGateway) -> None:
    gateway.answer = lambda body: says(500)(body) if body["channel_type"] == "kline" else as_documented(body)
    ours, now = subscriber(gateway), NOON
    for _ in range(20):
        await ours.step(["BTCUSDT"], now)
        now += SECOND
    assert gateway.topics == {(channel, "BTCUSDT") for channel in CHANNELS}


async def test_a_wrong_key_is_not_tried_hot_and_shown(gateway: SmallGateway, logged: list[Any]) -> None:
    ours, now = subscriber(gateway, key="wrong"), NOON
    for _ in range(290):
        await ours.step(["BTCUSDT"], now)
        now += SECOND
    assert len(gateway.requests) == 4
    assert ours.notices == ("the gateway refuses our subscriptions: it does not accept WS_GATEWAY_API_KEY (HTTP 401)",)
    assert {entry["event"] for entry in logged} == {"market_subscription_refused"}
    assert not any("wrong" in str(value) for entry in logged for value in entry.values())


async def test_one_refused_topic_leaves_the_others(gateway: SmallGateway) -> None:
    gateway.answer = lambda body: says(422)(body) if body["channel_type"] == "kline" else as_documented(body)
    ours = subscriber(gateway)
    assert await ours.step(["BTCUSDT"], NOON) == 3
    assert ours.notices == ("the gateway refuses our subscriptions: HTTP 422 for kline of BTCUSDT",)
    gateway.answer = as_documented
    assert await ours.step(["BTCUSDT"], NOON + 6 * MINUTE) == 4
    assert not ours.notices


async def test_no_key_where_the_gateway_wants_none() -> None:
    async with small_gateway(key=None) as open_gateway:
        assert await subscriber(open_gateway, key=None).step(["BTCUSDT"], NOON) == 4


async def test_what_is_not_http_counts_as_no_answer(gateway: SmallGateway) -> None:
    gateway.answer = lambda _: (200, "text/plain\r\nx: y", "")
    gateway._reply = lambda *_: ("garbage", "", "")  # type: ignore[assignment, method-assign]
    ours = subscriber(gateway)
    await ours.step(["BTCUSDT"], NOON)
    assert ours.notices == ("market data cannot be subscribed to: the gateway does not answer",)


async def test_a_clock_that_steps_back_does_not_put_renewals_off(gateway: SmallGateway) -> None:
    ours = subscriber(gateway)
    await ours.step(["BTCUSDT"], NOON)
    await ours.step(["BTCUSDT"], NOON - timedelta(hours=2))
    assert len(gateway.requests) == 8
