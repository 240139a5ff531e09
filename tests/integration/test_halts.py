"""A stop holds for every process on the database, survives them, and takes back what was not sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from model_service.config.clock import VirtualClock
from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.halts import PostgresHaltStore
from model_service.database.loss_levels import PostgresLossStore
from model_service.database.outbox import Outbox
from model_service.messaging.postgres import PostgresTransport
from model_service.messaging.transport import PublishingLease
from model_service.policies.reasons import ReasonCode
from model_service.publishers.signal_publisher import SignalPublisher
from model_service.services.shared_limits import SharedLimits
from tests.support.builders import NOON
from tests.support.openings import opening

SECOND = timedelta(seconds=1)
WHY = "the exchange is on fire"


async def statuses(database: Database) -> dict[int, str]:
    rows = await database.fetch("SELECT signal_id, status FROM model_service.trading_signals ORDER BY signal_id")
    return {row["signal_id"].int: row["status"] for row in rows}


async def holder(database: Database) -> Outbox:
    outbox = Outbox(database, "model-service.publisher")
    await outbox.take(NOON)
    return outbox


async def test_a_stop_takes_back_openings_that_were_not_sent_and_no_exit(database: Database) -> None:
    outbox, halts = await holder(database), PostgresHaltStore(database)
    signals = [opening(1), opening(2, side=Side.SELL, intent="reduce"), opening(3, intent="exit"), opening(4)]
    await PostgresDecisionStore(database).record(signals, (), ())
    await outbox.settle({UUID(int=4): "published"}, NOON)
    stopped = await halts.stop("http", WHY, NOON + SECOND)
    assert (stopped.withdrawn, stopped.halt.strategy_id, stopped.halt.reason) == (2, None, WHY)
    assert await statuses(database) == {1: "stopped", 2: "stopped", 3: "pending", 4: "published"}
    assert [one.signal_id.int for one in (await outbox.next_batch(NOON + SECOND)).signals] == [3]


@pytest.mark.parametrize("limits", [SharedLimits(), SharedLimits(conflict_window_seconds=10.0)])
async def test_what_was_decided_before_a_stop_and_comes_after_it_is_not_recorded(
    database: Database, limits: SharedLimits
) -> None:
    await PostgresHaltStore(database).stop("http", WHY, NOON)
    store = PostgresDecisionStore(database, limits=limits)
    refused = await store.record([opening(1), opening(2, intent="exit")], (), ())
    assert [(one.decided.signal.signal_id.int, one.reason.code) for one in refused] == [(1, ReasonCode.STOPPED)]
    assert await statuses(database) == {2: "pending"}
    assert await database.fetchval("SELECT sum(occurrences) FROM model_service.decision_counts") == 1


class SlowRoute:
    """A lease of which the route takes so long to be renewed that something happens meanwhile."""

    def __init__(self, lease: PublishingLease, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self.lease = lease
        self.meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lease, name)

    async def renew_route(self) -> None:
        await self.meanwhile()
        await self.lease.renew_route()


@pytest.mark.parametrize("by", ["person", "loss"])
async def test_a_halt_while_the_publisher_is_about_to_send_is_kept(
    database: Database, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = PostgresTransport(database, clock=VirtualClock(NOON))
    await transport.start()
    store, outbox = PostgresLossStore(database), Outbox(database, "model-service.publisher")
    publisher = SignalPublisher(outbox, transport)
    await publisher.step(NOON)
    await PostgresDecisionStore(database).record([opening(1), opening(2, intent="exit")], (), ())

    async def halt() -> None:
        if by == "loss":
            assert await store.begin_loss_halt(None, "lost", {}, NOON)
        else:
            assert (await store.stop("http", WHY, NOON)).withdrawn == 1

    monkeypatch.setattr(publisher, "_lease", SlowRoute(publisher._lease, halt))  # type: ignore[arg-type]
    with capture_logs() as logs:
        assert await publisher.step(NOON + SECOND) == 1, "the exit"
    assert [(entry["event"], entry["count"]) for entry in logs] == [("signals_withdrawn", 1)]
    await publisher.step(NOON + SECOND)
    assert await statuses(database) == {1: "stopped", 2: "published"}
    await transport.close()


async def test_a_quick_resumption_does_not_let_out_what_waited_under_the_halt(database: Database) -> None:
    outbox, store = await holder(database), PostgresLossStore(database)
    waiting = [opening(1, "a"), opening(2, "b"), opening(3, "a", intent="exit")]
    await PostgresDecisionStore(database).record(waiting, (), ())
    await store.begin_loss_halt("a", "lost", {}, NOON)
    await store.resume("a", "http", "go on", NOON + SECOND)
    assert await statuses(database) == {1: "stopped", 2: "pending", 3: "pending"}
    await store.resume("a", "http", "nothing is halted", NOON + SECOND)
    assert [one.signal_id.int for one in (await outbox.next_batch(NOON)).signals] == [2, 3]


async def test_what_lies_in_the_outbox_when_a_halt_begins_is_not_sent(database: Database) -> None:
    outbox = await holder(database)
    await PostgresDecisionStore(database).record([opening(1), opening(2, intent="exit")], (), ())
    await PostgresLossStore(database).begin_loss_halt(None, "lost", {}, NOON)
    batch = await outbox.next_batch(NOON + SECOND)
    assert ([one.signal_id.int for one in batch.signals], batch.stopped, batch.expired) == ([2], 1, 0)
    assert await statuses(database) == {1: "stopped", 2: "pending"}


async def test_the_halt_of_one_strategy_holds_back_its_openings_alone(database: Database) -> None:
    outbox, store = await holder(database), PostgresLossStore(database)
    assert await store.begin_loss_halt("a", "lost", {}, NOON)
    assert not await store.begin_loss_halt("a", "lost again", {}, NOON)
    await PostgresDecisionStore(database).record([opening(1, "a"), opening(2, "b")], (), ())
    assert [one.strategy_id for one in (await outbox.next_batch(NOON)).signals] == ["b"]


@pytest.mark.parametrize(("outcome", "expected"), [("published", "published"), ("expired", "stopped")])
async def test_what_was_with_the_broker_at_that_moment_is_recorded_as_it_was(
    database: Database, outcome: str, expected: str
) -> None:
    outbox = await holder(database)
    await PostgresDecisionStore(database).record([opening(1)], (), ())
    await outbox.next_batch(NOON)
    await PostgresHaltStore(database).stop("http", WHY, NOON)
    await outbox.settle({UUID(int=1): outcome}, NOON)
    assert await statuses(database) == {1: expected}


async def test_a_stop_is_one_row_until_it_is_ended(database: Database) -> None:
    halts, other = PostgresHaltStore(database), PostgresHaltStore(database)
    first = await halts.stop("http", WHY, NOON)
    again = await other.stop("somebody else", "me too", NOON + SECOND)
    assert again.halt == first.halt
    assert await other.open_halts() == [first.halt]
    resumed = await other.resume(None, "http", "it is out", NOON + 2 * SECOND)
    assert (resumed.ended, resumed.holding) == ([first.halt], [])
    assert (await halts.resume(None, "http", "once more", NOON + 3 * SECOND)).ended == []
    row = await database.fetchrow("SELECT ended_at, ended_by, ended_reason FROM model_service.trading_halts")
    assert row is not None
    assert tuple(row) == (NOON + 2 * SECOND, "http", "it is out")
    assert (await halts.stop("http", "again", NOON + 4 * SECOND)).halt.halt_id != first.halt.halt_id


async def test_ending_a_stop_of_all_leaves_a_strategys_loss_limit_and_the_other_way_round(database: Database) -> None:
    store = PostgresLossStore(database)
    await store.stop("http", WHY, NOON)
    await store.begin_loss_halt("a", "lost", {"loss": 2.0}, NOON)
    await store.begin_loss_halt(None, "all lost", {}, NOON)
    of_a = await store.resume("a", "http", "go on", NOON)
    assert [(halt.strategy_id, halt.kind) for halt in of_a.ended] == [("a", "loss_limit")]
    assert [(halt.strategy_id, halt.kind) for halt in of_a.holding] == [(None, "manual"), (None, "loss_limit")]
    await store.begin_loss_halt("a", "lost", {}, NOON)
    of_all = await store.resume(None, "http", "go on", NOON)
    assert [(halt.strategy_id, halt.kind) for halt in of_all.holding] == [("a", "loss_limit")]
