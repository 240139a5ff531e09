"""Limits that hold over processes: two of them on one database never grant more than one would."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from model_service.contracts.types import Side
from model_service.database import opening_limits
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.policies.base import ActionProbabilities
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.halts import HaltStore
from model_service.services.ports import DecidedSignal, NoneDraw, RefusedOpening, SilentTick
from model_service.services.shared_limits import SharedLimits
from tests.integration.test_lost_answers import distant, hole  # noqa: F401 - fixtures
from tests.integration.test_stores import increment, record
from tests.support.black_hole import BlackHole
from tests.support.builders import NOON
from tests.support.openings import FEATURES, opening

SECOND = timedelta(seconds=1)
LIMIT = SharedLimits(maximum_exposure=2000.0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes nobody give the lock up; the test that is about that says so."""
    monkeypatch.setattr(opening_limits, "LOCK_SECONDS", 20.0)


def store(database: Database, limits: SharedLimits = LIMIT) -> PostgresDecisionStore:
    return PostgresDecisionStore(database, limits=limits)


def codes(refused: Sequence[RefusedOpening]) -> list[ReasonCode]:
    return [one.reason.code for one in refused]


async def stored(database: Database) -> list[int]:
    rows = await database.fetch("SELECT signal_id FROM model_service.trading_signals ORDER BY signal_id")
    return [row["signal_id"].int for row in rows]


async def test_two_processes_together_never_exceed_the_exposure(database: Database) -> None:
    """Without the lock each of them sees the exposure before the other's openings."""
    both = [store(database), store(database)]
    passes = [
        [opening(1000 * process + 10 * number + index, f"s{process}") for index in range(2)]
        for process in range(2)
        for number in range(1, 9)
    ]
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(both[index % 2].record(one, (), ()) for index, one in enumerate(passes)))
    total = await database.fetchval("SELECT sum(amount) FROM model_service.trading_signals")
    assert total == 2000
    refused = [one for result in results for one in result]
    assert len(refused) == sum(len(one) for one in passes) - 4
    assert set(codes(refused)) == {ReasonCode.EXPOSURE_LIMIT}
    counted = await database.fetchval("SELECT sum(occurrences) FROM model_service.decision_counts")
    assert counted == len(refused)


async def test_two_processes_share_one_rate(database: Database) -> None:
    limits = SharedLimits(rate_per_minute=60.0, burst=5)
    both = [store(database, limits), store(database, limits)]
    results = await asyncio.gather(
        *(both[index % 2].record([opening(index + 1, f"s{index}")], (), ()) for index in range(12))
    )
    assert len(await stored(database)) == 5
    assert codes([one for result in results for one in result]) == [ReasonCode.TOTAL_RATE_LIMITED] * 7
    later = [
        opening(100, "late", at=NOON + 2 * SECOND),
        *(opening(101 + one, "l", at=NOON + 2 * SECOND) for one in (0, 1)),
    ]
    assert codes(await both[0].record(later, (), ())) == [ReasonCode.TOTAL_RATE_LIMITED], "two tokens came back"


async def test_the_other_side_in_another_process_is_a_conflict(database: Database) -> None:
    limits = SharedLimits(conflict_window_seconds=10.0)
    one, other = store(database, limits), store(database, limits)
    assert await one.record([opening(1, "a")], (), ()) == ()
    sells = [opening(2, "b", Side.SELL, at=NOON + 4 * SECOND), opening(3, "b", Side.SELL, asset="ETHUSDT")]
    refused = await other.record(sells[:1], (), ())
    assert [one.reason for one in refused] == [Reason(ReasonCode.CONFLICTING_SIGNAL, 4.0, 10.0)]
    assert await other.record(sells[1:], (), ()) == ()
    assert await other.record([opening(4, "b", Side.SELL, at=NOON + 10 * SECOND)], (), ()) == ()


async def test_what_was_never_sent_conflicts_with_nothing_and_is_no_exposure(database: Database) -> None:
    limits = SharedLimits(conflict_window_seconds=10.0, maximum_exposure=500.0)
    await store(database, limits).record([opening(1, "a")], (), ())
    await database.execute("UPDATE model_service.trading_signals SET status = 'stopped'")
    assert await store(database, limits).record([opening(2, "b", Side.SELL)], (), ()) == ()


async def test_fills_and_prices_make_the_exposure(database: Database) -> None:
    first = store(database, SharedLimits(maximum_exposure=1000.0))
    await first.record([opening(1, "momentum_v1")], (), ())
    await record(database, increment("e1", str(UUID(int=1)), Side.BUY, "5", "100"))
    # 5 at a price of 120 are 600; 400 more fit, and a cent more does not.
    over = opening(2, "b", amount="400.01")
    assert [one.reason for one in await first.record([over], (), (), prices={"BTCUSDT": 120.0})] == [
        Reason(ReasonCode.EXPOSURE_LIMIT, 1000.01, 1000.0)
    ]
    assert await first.record([opening(3, "b", amount="400")], (), (), prices={"BTCUSDT": 120.0}) == ()


async def test_a_stop_is_seen_in_the_transaction_and_exits_pass(database: Database) -> None:
    from model_service.database.halts import PostgresHaltStore

    halts: HaltStore = PostgresHaltStore(database)
    await halts.stop("http", "enough", NOON)
    refused = await store(database).record([opening(1), opening(2, intent="exit", amount="99999")], (), ())
    assert codes(refused) == [ReasonCode.STOPPED]
    assert await stored(database) == [2]


def none_for(decided: DecidedSignal) -> NoneDraw:
    signal = decided.signal
    return NoneDraw(
        UUID(int=signal.signal_id.int + 10**6), signal.strategy_id, signal.asset, signal.timestamp, "warmup", None,
        FEATURES, decided.feature_set, ActionProbabilities(0.0, 0.2), 0.5, "7",
    )  # fmt: skip


async def test_a_refused_opening_becomes_its_draw_of_none(database: Database) -> None:
    openings = [opening(number, amount="1500") for number in (1, 2)]
    spare = {one.signal.signal_id: none_for(one) for one in openings}
    await store(database).record(openings, (), (), spare=spare)
    rows = await database.fetch("SELECT decision_id, probability_buy FROM model_service.decisions")
    assert [(row["decision_id"].int, row["probability_buy"]) for row in rows] == [(2 + 10**6, 0.0)]


async def test_whoever_holds_the_lock_for_long_holds_back_openings_and_no_exit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_limits, "LOCK_SECONDS", 0.5)
    async with database.transaction() as hanging:
        await hanging.fetchval(opening_limits.LOCK)
        async with asyncio.timeout(5):
            refused = await store(database).record([opening(1), opening(2, intent="exit")], (), ())
        assert codes(refused) == [ReasonCode.LIMITS_BUSY]
        assert await stored(database) == [2]
    assert await store(database).record([opening(3)], (), ()) == ()


@pytest.mark.parametrize(
    ("words", "is_stored"),
    [(b"COMMIT", True), (b"INSERT INTO model_service.trading_signals", False), (b"pg_try_advisory_xact_lock", False)],
)
async def test_a_lost_answer_says_which_openings_are_stored_although_the_first_was_refused(
    hole: BlackHole,  # noqa: F811
    distant: Database,  # noqa: F811
    database: Database,
    words: bytes,
    is_stored: bool,
) -> None:
    making = store(distant)
    hole.lose_answer_to(words)
    tried = [opening(1, amount="9999"), opening(2), opening(3, intent="exit")]
    with pytest.raises(DatabaseUnavailable):
        await making.record(tried, (), [SilentTick("a", "ETHUSDT", NOON, Reason(ReasonCode.PAUSED))])
    assert hole.has_lost
    expected = frozenset({UUID(int=2), UUID(int=3)}) if is_stored else frozenset()
    assert await making.took_effect() == expected
    assert await stored(database) == [one.int for one in sorted(expected)]
    assert await database.fetchval("SELECT count(*) FROM model_service.decision_counts") == (2 if is_stored else 0)


async def test_a_pass_without_openings_asks_nothing_more(database: Database) -> None:
    async with database.transaction() as hanging:
        await hanging.fetchval(opening_limits.LOCK)
        async with asyncio.timeout(0.4):
            await store(database).record([opening(1, intent="exit")], (), ())
