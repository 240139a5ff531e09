"""The daily loss limit over the real ledger: from the day's first look, over a restart and midnight, until resumed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from model_service.contracts.types import Side
from model_service.database.bars import BarStore
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.loss_levels import PostgresLossStore
from model_service.database.queries import warmup_results
from model_service.market.snapshot import Bar
from model_service.services.loss_limit import LossLimits, LossWatch
from tests.integration.test_stores import increment, path, record
from tests.support.builders import NOON
from tests.support.openings import opening

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NAMES = ("momentum_v1", "other")


class Account:
    """Strategies that buy and sell, and a process that watches what becomes of it."""

    def __init__(self, database: Database, limits: LossLimits) -> None:
        self.database = database
        self.limits = limits
        self.store = PostgresLossStore(database)
        self.number = 0
        self.restart()

    def restart(self) -> None:
        """A new process: it knows nothing but what the database says."""
        self.watch = LossWatch(self.store, self.limits)

    async def fill(self, strategy_id: str, side: Side, quantity: str, price: str) -> None:
        """A signal and its fill; each costs a fee of 0.5."""
        self.number += 1
        await PostgresDecisionStore(self.database).record([opening(self.number, strategy_id, side)], (), ())
        event = increment(f"e{self.number}", str(UUID(int=self.number)), side, quantity, price)
        await record(self.database, event)

    async def look(self, at: datetime, price: float | None) -> list[tuple[str | None, Any]]:
        """The halts that hold after a look at this price: whose, and the loss that began it."""
        prices = {} if price is None else {"BTCUSDT": price}
        await self.watch.look(NAMES, prices, at)
        return [(halt.strategy_id, halt.evidence["loss"]) for halt in await self.store.open_halts()]


async def test_an_open_loss_and_a_realised_one_count_with_their_fees(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    assert await account.look(NOON, 100.0) == []
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    # 10 * (90.05 - 100) less the entry's fee of 0.5 is a loss of exactly 100.
    assert await account.look(NOON + MINUTE, 90.05) == []
    await account.fill("momentum_v1", Side.SELL, "5", "90")
    # Half is realised at 90, with all the exit's fee: 50 + 0.25 + 0.5; the other half is open.
    assert await account.look(NOON + 2 * MINUTE, 90.3) == []
    assert await account.look(NOON + 3 * MINUTE, 90.2) == []
    with capture_logs() as logs:
        ((name, loss),) = await account.look(NOON + 4 * MINUTE, 90.1)
        await account.look(NOON + 5 * MINUTE, 80.0)
    assert (name, loss) == ("momentum_v1", pytest.approx(50 + 0.25 + 0.5 + 49.5 + 0.25))
    assert [entry["event"] for entry in logs] == ["loss_limit_reached"], "once, and the first numbers stay"
    assert logs[0]["log_level"] == "error"


@pytest.mark.parametrize(("price", "halted"), [(90.05, False), (90.04, True)])
async def test_the_limit_itself_is_allowed(database: Database, price: float, halted: bool) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert bool(await account.look(NOON + MINUTE, price)) is halted


async def test_a_position_of_yesterday_counts_with_what_it_moves_today(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert await account.look(NOON + HOUR, 91.0) == [], "90.5 of 100"
    tomorrow = NOON + 13 * HOUR
    assert await account.look(tomorrow, 91.0) == []
    assert await account.look(tomorrow + MINUTE, 81.5) == [], "95 more are another day's loss"
    await account.fill("momentum_v1", Side.SELL, "10", "80")
    # Of 201 realised today 90.5 were lost yesterday.
    assert await account.look(tomorrow + 2 * MINUTE, 80.0) == [("momentum_v1", pytest.approx(201 - 90.5))]


async def test_a_restart_begins_no_new_day_and_ends_no_halt(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    await account.look(NOON + MINUTE, 95.0)
    account.restart()
    assert await account.look(NOON + 2 * MINUTE, 89.0) == [("momentum_v1", pytest.approx(110.5))]
    account.restart()
    for at in (NOON + 3 * MINUTE, NOON + 13 * HOUR, NOON + 14 * HOUR, NOON + 40 * HOUR):
        assert await account.look(at, 100.0) == [("momentum_v1", pytest.approx(110.5))], "no midnight ends it"


async def test_after_a_resumption_the_same_loss_does_not_count_again(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert await account.look(NOON + MINUTE, 85.0)
    await account.store.resume("momentum_v1", "http", "it was a glitch", NOON + 2 * MINUTE)
    account.restart()
    assert await account.look(NOON + 2 * MINUTE, 85.0) == []
    assert await account.look(NOON + 3 * MINUTE, 75.1) == [], "99 more"
    assert await account.look(NOON + 4 * MINUTE, 74.9) == [("momentum_v1", pytest.approx(101.0))]


async def test_the_limit_of_all_adds_strategies_up_and_the_other_one_does_not(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0, total=150.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    await account.fill("other", Side.BUY, "10", "100")
    assert await account.look(NOON + MINUTE, 92.6) == []
    assert await account.look(NOON + 2 * MINUTE, 92.5) == [(None, pytest.approx(151.0))]
    await account.store.resume(None, "http", "go on", NOON + 3 * MINUTE)
    await account.look(NOON + 3 * MINUTE, 92.5)
    halts = await account.look(NOON + 4 * MINUTE, 90.0)
    assert [name for name, _ in halts] == list(NAMES), "each has lost its own 100 since the morning"


async def test_a_gain_of_one_pays_for_a_loss_of_another_in_the_total_alone(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0, total=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "20", "100")
    await account.fill("other", Side.SELL, "20", "100")
    assert [name for name, _ in await account.look(NOON + MINUTE, 90.0)] == ["momentum_v1"]


async def test_without_a_price_the_last_known_one_counts_then_the_last_bar_then_the_entry(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, None)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert await account.look(NOON + MINUTE, None) == [], "the entry"
    await BarStore(database, 60).save(path([100, 91]))
    assert await account.look(NOON + 2 * MINUTE, None) == []
    await account.look(NOON + 3 * MINUTE, 90.5)
    assert await account.look(NOON + 4 * MINUTE, None) == []
    await account.fill("momentum_v1", Side.SELL, "1", "85")
    assert await account.look(NOON + 5 * MINUTE, None) == [("momentum_v1", pytest.approx(15 + 0.5 + 0.5 + 9 * 9.5))]


@pytest.mark.parametrize(("old_close", "price", "halted"), [(200.0, 100.0, False), (20.0, 89.0, True)])
@pytest.mark.parametrize("lengths", [(300, 60), (60, 300)])
async def test_without_a_price_the_bar_that_ended_last_counts_whatever_its_length(
    database: Database, old_close: float, price: float, halted: bool, lengths: tuple[int, int]
) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    for seconds, start, close in (
        (lengths[0], NOON - 7 * 24 * HOUR, old_close),
        (lengths[1], NOON - 5 * MINUTE, 100.0),
        (15, NOON - HOUR, old_close),
    ):
        bar = Bar(start, start + timedelta(seconds=seconds), close, close, close, close, 1.0)
        await BarStore(database, seconds).save([("BTCUSDT", bar)])
    assert await account.look(NOON, None) == []
    assert bool(await account.look(NOON + MINUTE, price)) is halted


async def test_a_clock_that_is_set_back_after_a_resumption_hides_no_loss(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert await account.look(NOON + MINUTE, 85.0)
    await account.store.resume("momentum_v1", "http", "it was a glitch", NOON + 2 * MINUTE)
    earlier = NOON - HOUR
    assert await account.look(earlier, 85.0) == []
    assert await account.look(earlier + MINUTE, 80.0) == []
    assert await account.look(earlier + 2 * MINUTE, 74.9) == [("momentum_v1", pytest.approx(101.0))]


async def test_a_resumption_by_a_clock_that_lies_behind_ends_the_halt_all_the_same(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    await account.look(NOON, 100.0)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    assert await account.look(NOON + MINUTE, 85.0)
    await account.store.resume("momentum_v1", "http", "it was a glitch", NOON - MINUTE)
    assert await account.look(NOON + 2 * MINUTE, 85.0) == []
    assert await account.look(NOON + 3 * MINUTE, 75.1) == [], "99 more"
    assert await account.look(NOON + 4 * MINUTE, 74.9) == [("momentum_v1", pytest.approx(101.0))]


async def test_two_processes_count_from_one_level(database: Database) -> None:
    account = Account(database, LossLimits(strategy=100.0))
    other = LossWatch(PostgresLossStore(database), account.limits)
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    await account.look(NOON, 100.0)
    await other.look(NAMES, {"BTCUSDT": 80.0}, NOON + MINUTE)
    (halt,) = await account.store.open_halts()
    assert Decimal(halt.evidence["loss"]) == 200


async def test_the_warm_up_has_cost_what_its_own_positions_brought_after_both_fees(database: Database) -> None:
    account = Account(database, LossLimits())
    await account.fill("momentum_v1", Side.BUY, "10", "100")
    await account.fill("momentum_v1", Side.SELL, "4", "99")
    await account.fill("other", Side.BUY, "1", "100")
    # 4 lost, 0.2 of the entry's fee and 0.5 of the exit's; what is still open is not in it.
    assert await warmup_results(database) == {"momentum_v1": Decimal("-4.7")}
    await database.execute("UPDATE model_service.trading_signals SET is_warmup = false")
    assert await warmup_results(database) == {}
