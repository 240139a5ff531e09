"""Every tick of the real signal generator is in the funnel that PostgreSQL gives, exactly once."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, TickerEvent
from model_service.database import decision_counts
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.market.state import AssetMarket
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.warmup import WarmupPolicy
from model_service.services.decision_funnel import Funnel, funnel
from model_service.services.decision_pass import GenerationLimits
from model_service.services.opening_request import GuardLimits
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.support.api import FakeOperations, client_of, make_app
from tests.support.api_rows import add_strategy, insert
from tests.support.builders import NOON, strategy

ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
LIMITS = GenerationLimits(
    guards=GuardLimits(60.0, skip_if_open_order=True, opposite_orders_only=False), tick_seconds=5.0,
    expiry_seconds=30.0, rate_per_minute=20.0, burst=3, none_sample_rate=0.5, seed="7", statistics_refresh_seconds=60.0,
)  # fmt: skip


class Moody:
    """Modes that change at random: the warm-up, a pause, or a policy that fails."""

    is_unsettled = False

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def policy(self, strategy_id: str, now: datetime) -> Any:
        return self._rng.choice([WarmupPolicy(), WarmupPolicy(), Reason(ReasonCode.PAUSED), Failing()])

    def mode(self, strategy_id: str) -> str:
        return "warmup"

    async def pause(self, strategy_id: str, **_: Any) -> None:
        """Somebody resumes it at once."""


class Failing:
    """Breaks off."""

    def propose(self, *_: Any) -> Any:
        raise ValueError("a model that cannot")


def quote(market: AssetMarket, at: datetime, rng: random.Random) -> None:
    """Sometimes nothing, sometimes a crossed book, else a price around 50,000."""
    kind = rng.random()
    if kind < 0.2:
        return
    price = 50_000.0 * rng.uniform(0.9, 1.1)
    market.apply(TickerEvent(asset=market.asset, at=at, last_price=price))
    gap = -1.0 if kind < 0.4 else 1.0
    market.apply(BookEvent(market.asset, at, price - gap, 2.0, price + gap, 1.0, is_snapshot=True))


async def random_run(database: Database, seed: int, passes: int) -> SignalGenerator:
    rng = random.Random(seed)
    markets = {asset: AssetMarket(asset, 60) for asset in ASSETS}
    pair = [
        strategy(strategy_id=name, assets=ASSETS, signals_per_minute=rng.choice([1.0, 30.0, 120.0]), horizon_seconds=20)
        for name in ("a", "b")
    ]
    modes: Any = Moody(rng)
    limits = replace(LIMITS, guards=replace(LIMITS.guards, skip_if_open_order=rng.random() < 0.5), seed=str(seed))
    source = SignalGenerator(
        StrategyRoster.of(pair), markets, modes, PostgresDecisionStore(database), SeededIdentifiers(seed), limits
    )
    for index in range(passes):
        now = NOON + timedelta(seconds=5 * index)
        for market in markets.values():
            quote(market, now, rng)
        with capture_logs():  # a traceback of each failed decision would be printed otherwise
            await source.step(now)
    return source


async def funnel_of(
    database: Database,
    strategy_id: str,
    start: datetime = NOON - DAY,
    end: datetime = NOON + DAY,
    asset: str | None = None,
) -> Funnel:
    return funnel(*await decision_counts.counted(database, strategy_id, start, end, asset))


@pytest.mark.parametrize("seed", range(6))
async def test_ticks_are_signals_and_counted_reasons_and_nothing_else(database: Database, seed: int) -> None:
    passes = 40
    source = await random_run(database, seed, passes)
    seen = [await funnel_of(database, name) for name in ("a", "b")]
    assert [one.ticks for one in seen] == [passes * len(ASSETS)] * 2
    assert sum(one.signals for one in seen) == source.signals
    for name, whole in zip(("a", "b"), seen, strict=True):
        parts = [await funnel_of(database, name, asset=asset) for asset in ASSETS]
        assert [part.ticks for part in parts] == [passes] * len(ASSETS)
        assert sum(part.openings for part in parts) == whole.openings
        starts = [NOON + index * MINUTE for index in range(4)]
        minutes = [await funnel_of(database, name, start, start + MINUTE) for start in starts]
        assert [minute.ticks for minute in minutes] == [12 * len(ASSETS)] * 3 + [4 * len(ASSETS)]


async def test_the_runs_reach_what_they_are_meant_to_reach(database: Database) -> None:
    for seed in range(4):
        await random_run(database, seed, 30)
    found = [await funnel_of(database, name) for name in ("a", "b")]
    reached = {stop.name for one in found for step in one.steps for stop in step.stops}
    assert reached >= {"market_data_missing", "paused", "not_drawn", "book_invalid", "decision_failed"}
    assert all(one.openings > 0 for one in found)


async def test_the_answer_counts_whole_minutes_of_one_asset(database: Database) -> None:
    await add_strategy(database, "a")
    await add_strategy(database, "b")
    await random_run(database, 1, 40)
    async with client_of(make_app(database)) as client:
        path = "/api/v1/strategies/a/decisions?asset=BTCUSDT&since=2026-03-02T12:01:30&until=2026-03-02T12:02:01"
        body = (await client.get(path)).json()
    assert (body["asset"], body["ticks"]) == ("BTCUSDT", 24)
    silent = sum(item["occurrences"] for item in body["reasons"])
    assert body["ticks"] == body["openings"] + body["exits"] + silent
    assert body["steps"][0]["entered"] == 24
    by_step = {stop["name"]: stop["count"] for step in body["steps"][:-2] for stop in step["stops"]}
    assert by_step == {item["reason"]: item["occurrences"] for item in body["reasons"]}
    assert all(item["last_asset"] == "BTCUSDT" and item["words"] for item in body["reasons"])


async def test_a_strategy_without_ticks_says_what_to_check(database: Database) -> None:
    present = FakeOperations(roster=StrategyRoster.of([strategy(strategy_id=name) for name in "ab"]))
    await add_strategy(database, "a")
    await add_strategy(database, "b")
    await insert(
        database, "decision_counts", strategy_id="b", asset="BTCUSDT", reason="market_data_missing", occurrences=2,
        minute=NOON, last_value=None, last_threshold=None,
    )  # fmt: skip
    async with client_of(make_app(database, present)) as client:
        never = (await client.get("/api/v1/strategies/a/decisions")).json()
        before = (await client.get("/api/v1/strategies/b/decisions")).json()
        other = (await client.get("/api/v1/strategies/b/decisions?asset=DOGEUSDT")).json()
        blind = (
            await client.get("/api/v1/strategies/b/decisions?since=2026-03-02T12:00&until=2026-03-02T12:01")
        ).json()
    assert [body["ticks"] for body in (never, before, other, blind)] == [0, 0, 0, 2]
    assert "has not ticked yet" in never["next_checks"][0]
    assert "2026-03-02 12:00:00" in before["next_checks"][0]
    assert "No tick of DOGEUSDT" in other["next_checks"][0]
    async with client_of(make_app(database)) as client:
        gone = (await client.get("/api/v1/strategies/a/decisions")).json()
    assert [text.partition(":")[0] for text in gone["next_checks"]] == ["It is no longer among the strategies"]
    assert "BTCUSDT has no fresh market data: no bar of it was ever stored" in blind["next_checks"][0]
