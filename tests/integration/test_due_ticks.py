"""What was due is stored apart from what came of it, so that the funnel can say where the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, TradeEvent
from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.services.decision_funnel import Funnel
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from model_service.services.silence_checks import next_checks
from model_service.trades.ledger import Lot
from tests.integration.test_decision_funnel import LIMITS, funnel_of
from tests.integration.test_stores import BUY_ID, decided, increment, record, with_signals
from tests.support.api import client_of, make_app
from tests.support.api_rows import add_strategy
from tests.support.builders import NOON, strategy
from tests.unit.test_decision_funnel import around
from tests.unit.test_signal_generation import FakeModes, market

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NAME = "momentum_v1"


class Unsteady(PostgresDecisionStore):
    """A database that is away at times, or whose answer to a COMMIT is lost."""

    away = False
    loses = False

    async def open_lots(self) -> Mapping[tuple[str, str], Sequence[Lot]]:
        if self.away:
            raise DatabaseUnavailable("away")
        return await super().open_lots()

    async def record(self, *given: Any, **named: Any) -> Any:
        refused = await super().record(*given, **named)
        if self.loses:
            raise DatabaseUnavailable("the answer was lost")
        return refused


def deciding(database: Database, **changes: Any) -> tuple[Unsteady, SignalGenerator]:
    store, modes = Unsteady(database), FakeModes()
    given: Any = modes
    roster = StrategyRoster.of([strategy(**{"signals_per_minute": 0.001, **changes})])
    markets = {"BTCUSDT": market(), "ETHUSDT": market("ETHUSDT")}
    return store, SignalGenerator(roster, markets, given, store, SeededIdentifiers(1), LIMITS)


def stops(found: Funnel) -> dict[str, int]:
    return {stop.name: stop.count for step in found.steps for stop in step.stops}


async def step(source: SignalGenerator, now: datetime) -> None:
    try:
        await source.step(now)
    except DatabaseUnavailable:
        pass


async def test_ticks_of_an_outage_are_counted_as_missed_once_the_database_is_back(database: Database) -> None:
    store, source = deciding(database, assets=("BTCUSDT", "ETHUSDT"))
    with capture_logs() as logs:
        for index in range(24):
            store.away = 6 <= index < 18
            await step(source, NOON + 5 * index * SECOND)
    whole = await funnel_of(database, NAME)
    assert (whole.ticks, whole.due, stops(whole)["tick_missed"], source.ticks) == (48, 48, 24, 48)
    for asset in ("BTCUSDT", "ETHUSDT"):
        minutes = [await funnel_of(database, NAME, start, start + MINUTE, asset) for start in (NOON, NOON + MINUTE)]
        assert [(one.ticks, one.due, stops(one)["tick_missed"]) for one in minutes] == [(12, 12, 6)] * 2
    (said,) = [one for one in logs if one["event"] == "ticks_missed"]
    assert (said["ticks"], said["seconds"]) == (24, 60.0)
    last = await database.fetchrow(
        "SELECT last_value, last_threshold FROM model_service.decision_counts WHERE reason = 'tick_missed' LIMIT 1"
    )
    assert last is not None
    assert tuple(last) == (60.0, 5.0)
    (missed, *_) = next_checks(whole, around())
    assert missed.startswith("24 of 48 ticks were missed: nothing was decided for 60.0 s")


async def test_a_pass_that_takes_longer_than_an_interval_misses_what_was_due_meanwhile(database: Database) -> None:
    _, source = deciding(database)
    for seconds in (0, 13, 15):
        await source.step(NOON + seconds * SECOND)
    found = await funnel_of(database, NAME)
    assert (found.ticks, found.due, stops(found)["tick_missed"]) == (4, 4, 1)


async def test_an_exit_between_two_ticks_is_no_tick(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "0.01", "50000"))
    await database.execute(
        "UPDATE model_service.trading_signals SET status = 'published', order_state = 'filled', "
        "decided_at = decided_at - interval '1 day'"
    )
    prices = market()
    modes: Any = FakeModes()
    store = PostgresDecisionStore(database)
    roster = StrategyRoster.of([strategy(signals_per_minute=0.001)])
    source = SignalGenerator(roster, {"BTCUSDT": prices}, modes, store, SeededIdentifiers(1), LIMITS)
    await source.step(NOON)
    for price in (40_000.0, 40_001.0):
        prices.apply(TradeEvent("BTCUSDT", NOON + 2 * SECOND, price, 1.0, Side.SELL))
    prices.apply(BookEvent("BTCUSDT", NOON + 2 * SECOND, 39_999.0, 1.0, 40_001.0, 1.0, is_snapshot=True))
    (closing,) = await source.step(NOON + 2 * SECOND)
    assert (closing.intent, closing.at_tick) == ("exit", False)
    found = await funnel_of(database, NAME, NOON, NOON + MINUTE)
    assert (found.ticks, found.due, found.exits, found.looks, source.ticks) == (1, 1, 1, 1, 1)
    assert found.silent == 1


async def test_a_pass_that_was_counted_twice_is_seen(database: Database) -> None:
    await add_strategy(database, NAME)
    store, source = deciding(database)
    store.loses = True
    for index in range(5):
        await step(source, NOON + index * 0.3 * SECOND)
    store.loses = False
    await source.step(NOON + 1.6 * SECOND)
    found = await funnel_of(database, NAME)
    assert (found.ticks, found.due, source.ticks) == (6, 1, 1)
    assert next_checks(found, around())[0].startswith("1 ticks were due and 6 were recorded")
    async with client_of(make_app(database)) as client:
        path = f"/api/v1/strategies/{NAME}/decisions?since=2026-03-02T12:00&until=2026-03-02T12:01"
        body = (await client.get(path)).json()
    assert (body["ticks"], body["due_ticks"], body["exits_between_ticks"]) == (6, 1, 0)


@pytest.mark.parametrize("kept", [True, False])
async def test_what_is_older_than_the_record_of_due_ticks_is_not_held_against_it(
    database: Database, kept: bool
) -> None:
    _, source = deciding(database)
    for index in range(24):
        await source.step(NOON + 5 * index * SECOND)
    if not kept:
        await database.execute("DELETE FROM model_service.due_ticks WHERE minute < $1", NOON + MINUTE)
    assert (await funnel_of(database, NAME)).due == (24 if kept else None)
    assert (await funnel_of(database, NAME, NOON + MINUTE, NOON + 2 * MINUTE)).due == 12
