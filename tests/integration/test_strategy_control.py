"""Changes of the strategies on a real database: recorded once, remembered over a restart, never half."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from model_service.config.loading import load_settings
from model_service.config.strategy_file import (
    ConfiguredStrategy,
    StrategiesRefused,
    StrategyText,
    configured_strategies,
)
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.strategy_store import PostgresStrategyStore
from model_service.services.errors import Refused
from model_service.services.markets import Markets
from model_service.services.roster import StrategyRoster
from model_service.services.strategy_changes import StrategyChange
from model_service.services.strategy_control import StrategyControl
from tests.support.builders import NOON

SECOND = timedelta(seconds=1)


class File:
    """A strategy file that the test writes."""

    def __init__(self, content: str) -> None:
        self.content: str | None = content
        self.parsed = 0

    async def read(self) -> StrategyText | None:
        if self.content is None:
            raise StrategiesRefused(["strategies.toml: it cannot be read: No such file or directory"])
        return StrategyText("strategies.toml", self.content.encode())

    def parse(self, text: StrategyText | None) -> tuple[ConfiguredStrategy, ...]:
        self.parsed += 1
        return configured_strategies(load_settings({})[0], text, ())


class Bystanders:
    """Modes, training and bars, which note what is asked of them."""

    def __init__(self) -> None:
        self.taken_up: list[str] = []
        self.cancelled: list[str] = []
        self.fails = 0

    async def take_up(self, strategy_id: str, now: Any) -> None:
        self.taken_up.append(strategy_id)

    async def cancel(self, strategy_id: str, now: Any) -> None:
        if self.fails:
            self.fails -= 1
            raise DatabaseUnavailable("away")
        self.cancelled.append(strategy_id)

    async def newest(self, asset: str, until: Any, count: int) -> Sequence[Any]:
        return []


class LossyStore(PostgresStrategyStore):
    """Loses the answer to a COMMIT."""

    lose = 0

    async def record(self, changes: Sequence[StrategyChange], actor: str, now: Any) -> None:
        await super().record(changes, actor, now)
        if self.lose:
            self.lose -= 1
            raise DatabaseUnavailable("the answer is lost")


class House:
    """A control, and all that it works with."""

    def __init__(self, database: Database, content: str) -> None:
        from model_service.market.state import AssetMarket

        self.database = database
        self.file = File(content)
        self.others = Bystanders()
        self.store = LossyStore(database)
        self.text = StrategyText("strategies.toml", content.encode())
        self.roster = StrategyRoster(self.file.parse(self.text))
        fakes: Any = self.others
        self.markets = Markets(fakes, lambda asset: AssetMarket(asset, 60))
        self.control = StrategyControl(self.roster, self.file, self.text, self.store, fakes, fakes, self.markets)

    async def looks(self, count: int, start: int = 0) -> None:
        for index in range(count):
            await self.control.step(NOON + (start + index) * SECOND)

    async def audit(self) -> list[tuple[str, str, str]]:
        rows = await self.database.fetch("SELECT action, subject, actor FROM model_service.audit_log ORDER BY audit_id")
        return [tuple(row) for row in rows]

    @property
    def names(self) -> list[str]:
        return [one.strategy_id for one in self.roster.current]


async def test_a_changed_file_is_taken_when_it_has_stayed_the_same(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    assert await house.audit() == [("strategy_added", "a", "start")]
    await house.looks(3)
    house.file.content = '[strategies.b]\nassets = ["ETHUSDT"]'
    await house.looks(1, start=3)
    assert house.names == ["a"], "it may still be in writing"
    await house.looks(1, start=4)
    assert house.names == ["b"]
    assert set(house.markets) == {"BTCUSDT", "ETHUSDT"}
    assert (house.others.taken_up, house.others.cancelled) == (["b"], ["a"])
    assert (await house.audit())[1:] == [("strategy_removed", "a", "file"), ("strategy_added", "b", "file")]
    parsed = house.file.parsed
    await house.looks(3, start=5)
    assert house.file.parsed == parsed, "a file that stays as it is costs nothing"


async def test_a_wrong_file_changes_nothing_and_is_told_of_once(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    house.file.content = "[strategies.b]\nhorizon = 3"
    await house.looks(5)
    assert (house.names, house.file.parsed) == (["a"], 2)
    (notice,) = house.control.notices
    assert notice == "the strategy file was refused (1 fault, see the log): the strategies of before go on"
    house.file.content = None
    await house.looks(3, start=5)
    assert len(house.control.notices) == 1
    house.file.content = "[strategies.a]"
    await house.looks(3, start=8)
    assert not house.control.notices
    assert len(await house.audit()) == 1


async def test_a_file_that_is_away_for_a_moment_is_not_worth_a_word(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    await house.looks(1)
    house.file.content = None
    await house.looks(1, start=1)
    house.file.content = "[strategies.a]"
    await house.looks(2, start=2)
    assert house.control.notices == ()


async def test_who_asks_for_a_reload_gets_the_lines(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    house.file.content = "[strategies.b]\nhorizon = 3"
    with pytest.raises(Refused) as refused:
        await house.control.reload("http", NOON)
    assert refused.value.details == {
        "faults": ["strategies.toml: strategies.b.horizon: there is no such key; did you mean horizon_seconds?"]
    }
    house.file.content = "[strategies.a]\nrandomness = 0.3"
    (change,) = await house.control.reload("http", NOON)
    assert (change.kind, dict(change.values)) == ("changed", {"randomness": (0.5, 0.3)})
    assert await house.control.reload("http", NOON) == []
    details = await database.fetchval("SELECT details FROM model_service.audit_log ORDER BY audit_id DESC LIMIT 1")
    assert details == {"values": {"randomness": {"from": 0.5, "to": 0.3}}, "label_rule_changed": False}


async def test_what_was_taken_away_is_remembered_by_the_next_process(database: Database) -> None:
    house = House(database, "[strategies.a]\nstop_loss_percent = 1.25\n[strategies.b]")
    await house.control.start(NOON)
    after = House(database, "[strategies.b]\nenabled = false")
    await after.control.start(NOON)
    kept = after.roster.for_exits("a")
    assert kept is not None
    assert (kept.stop_loss_percent, after.roster.state("a"), after.names) == (1.25, "removed", [])
    assert (await after.audit())[2:] == [("strategy_removed", "a", "start"), ("strategy_disabled", "b", "start")]
    again = House(database, "[strategies.b]\nenabled = false")
    await again.control.start(NOON)
    assert len(await again.audit()) == 4, "nothing has changed since"


async def test_a_change_whose_commit_was_not_answered_is_recorded_once(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    house.store.lose = 1
    house.file.content = "[strategies.b]"
    await house.looks(1)
    with pytest.raises(DatabaseUnavailable):
        await house.looks(1, start=1)
    assert house.names == ["a"]
    await house.looks(1, start=2)
    assert house.names == ["b"]
    assert [row[:2] for row in await house.audit()] == [
        ("strategy_added", "a"), ("strategy_removed", "a"), ("strategy_added", "b"),
    ]  # fmt: skip


async def test_a_training_that_could_not_be_cancelled_is_cancelled_later(database: Database) -> None:
    house = House(database, "[strategies.a]")
    await house.control.start(NOON)
    house.others.fails = 1
    house.file.content = "[strategies.b]"
    await house.looks(1)
    with pytest.raises(DatabaseUnavailable):
        await house.looks(1, start=1)
    assert house.names == ["b"], "the change itself is made"
    await house.looks(1, start=2)
    assert house.others.cancelled == ["a"]
