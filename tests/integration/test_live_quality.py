"""Live quality on real rows: outcomes in their order, who may have the word back, and a whole fallback."""

from __future__ import annotations

import asyncio
import io
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from rich.console import Console

from model_service.cli import version_comparison
from model_service.database.connection import Database
from model_service.database.live_quality import PostgresQualityStore
from model_service.database.recent_decisions import PostgresRecentDecisions
from model_service.database.recent_trades import PostgresRecentTrades
from model_service.learning.run import train_candidate
from model_service.models.drift import from_manifest
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, TODAY
from model_service.models.job import Candidate, Metric
from model_service.services.alerts import NoAlerts
from model_service.services.comparison import Comparisons
from model_service.services.errors import NotFound, Refused
from model_service.services.fallback import Fallback
from model_service.services.modes import Modes
from model_service.services.ports import QUALITY_DEGRADED, LiveOutcome
from model_service.services.quality import QualityLimits, QualityWatch
from model_service.services.roster import StrategyRoster
from tests.integration.test_modes import NAME, House
from tests.support.api import FakeComparisons, client_of, make_app
from tests.support.api_rows import add_signal, add_version, identifier, insert
from tests.support.builders import NOON, strategy
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows, training_job


@pytest.fixture(scope="module")
def artifact() -> tuple[Candidate, dict[str, bytes]]:
    """A candidate and its files, made once."""
    return train_candidate(training_job(), imbalance_rows(2000, seed=3, assets=3), {}, {}, lambda *_: None)


@pytest.fixture
def house(database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]) -> House:
    """A fresh house."""
    return House(database, tmp_path / "models", artifact)


async def add_live(database: Database, name: str, minute: float, **changes: Any) -> UUID:
    """An opening of v1 that was filled at a minute and judged five minutes later."""
    entered = NOON + timedelta(minutes=minute)
    if changes.get("revision", 1) == 1:
        await add_signal(
            database,
            name,
            model_version=changes.get("model_version", "v1"),
            policy="model",
            is_warmup=False,
            confidence=0.7,
        )
    row = {
        "signal_id": identifier(name), "revision": 1, "strategy_id": "momentum", "asset": "BTCUSDT", "side": "buy",
        "model_version": "v1", "entry_at": entered, "exit_at": entered, "entry_price": 1, "exit_price": 1,
        "exit_rule": "horizon", "fees": 0, "net_return": 0.002, "label": 1,
        "available_at": entered + timedelta(minutes=5),
    }  # fmt: skip
    await insert(database, "outcomes", **{**row, **changes})
    return identifier(name)


async def test_outcomes_come_in_the_order_in_which_they_became_available(database: Database) -> None:
    late = await add_live(database, "late", 1, available_at=NOON + timedelta(minutes=30))
    second, first = await add_live(database, "second", 3), await add_live(database, "first", 2)
    tied = await add_live(database, "tied", 4, available_at=NOON + timedelta(minutes=8))
    await add_live(database, "too early", -1)
    await add_live(database, "of another", 5, model_version="v2")
    await add_live(database, "first", 2, revision=2, label=0, available_at=NOON + timedelta(minutes=40))
    quality, found = PostgresQualityStore(database), list[LiveOutcome]()
    while page := await quality.live_outcomes("momentum", "v1", NOON, found[-1] if found else None, 2):
        found += page
    assert [(one.signal_id, one.revision) for one in found] == [
        (first, 1), (second, 1), (tied, 1), (late, 1), (first, 2),
    ]  # fmt: skip
    assert found[0].confidence == 0.7


async def test_a_set_of_metrics_is_stored_once_with_its_intervals_and_window(database: Database) -> None:
    version = await add_version(database, "v1")
    quality = PostgresQualityStore(database)
    metrics = [
        Metric(name="accuracy", value=0.8, type="classification", lower=0.7, upper=0.9, level=0.9, method="blocks"),
        Metric(name="log_loss", value=0.5, type="regression"),
    ]
    for _ in range(2):
        await quality.store_metrics(version, metrics, 210, NOON, {"window": 200})
    rows = await database.fetch("SELECT * FROM model_service.model_quality_metrics ORDER BY metric_name")
    assert [(row["metric_name"], row["slice"], row["evaluation_dataset_size"]) for row in rows] == [
        ("accuracy", "live", 210), ("log_loss", "live", 210),
    ]  # fmt: skip
    assert rows[0]["metadata"] == {
        "dataset_split": "live", "window": 200, "lower": 0.7, "upper": 0.9, "level": 0.9, "method": "blocks",
    }  # fmt: skip


async def test_what_has_lost_the_word_for_quality_gets_it_back_from_a_person_only(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    row = await house.registry.get(second)
    assert row is not None
    await house.modes.fall_back(NAME, first, row, QUALITY_DEGRADED, {"n": 1}, NOON)
    assert await house.registry.lost_for_quality(NAME) == {first}
    await house.registry.activate(NAME, first, actor="service", reason="gate_passed", forced=False, now=NOON)
    assert await house.registry.lost_for_quality(NAME) == {first}
    await house.registry.activate(NAME, second, actor="service", reason="gate_passed", forced=False, now=NOON)
    await house.activate(first)
    assert await house.registry.lost_for_quality(NAME) == set()


async def test_the_version_before_speaks_again_when_recent_outcomes_speak_for_it(
    house: House, database: Database
) -> None:
    before, fallen = await _two_versions(house)
    await store(database, imbalance_rows(400, seed=11, assets=3), strategy_id=NAME)
    to, found = await _fallback(house, database).candidate(strategy(), fallen, None)
    assert to is not None
    assert (to.version, found["passes"], found["why"]) == (before, True, "")
    assert found["lower"] > found["break_even"]
    assert await house.modes.fall_back(NAME, fallen, to, QUALITY_DEGRADED, {"previous": found}, NOON)
    assert await house.speaking() == before
    last = await database.fetchrow("SELECT * FROM model_service.activations ORDER BY activation_id DESC LIMIT 1")
    assert last is not None
    assert (last["version"], last["previous_version"], last["reason"]) == (before, fallen, QUALITY_DEGRADED)
    assert last["evidence"]["previous"]["trades"] == found["trades"]


async def test_the_warm_up_speaks_when_recent_outcomes_speak_against_the_version_before(
    house: House, database: Database
) -> None:
    _, fallen = await _two_versions(house)
    rows = imbalance_rows(400, seed=11, assets=3)
    rows["label"] = 1 - rows["label"]
    await store(database, rows, strategy_id=NAME)
    to, found = await _fallback(house, database).candidate(strategy(), fallen, None)
    assert to is None
    assert "break-even" in found["why"]


async def test_what_was_good_before_the_market_turned_says_nothing_of_now(house: House, database: Database) -> None:
    _, fallen = await _two_versions(house)
    rows = imbalance_rows(400, seed=11, assets=3)
    rows["label"][-60:] = 1 - rows["label"][-60:]
    await store(database, rows, strategy_id=NAME)
    turned = NOON.fromtimestamp(int(rows["decided_us"][-60]) / 1e6, NOON.tzinfo)
    to, found = await _fallback(house, database).candidate(strategy(), fallen, turned)
    assert to is None
    assert found["lower"] > found["break_even"]
    assert "since the fall began" in found["why"]


async def test_without_outcomes_or_with_damaged_files_the_warm_up_speaks(house: House, database: Database) -> None:
    before, fallen = await _two_versions(house)
    fallback = _fallback(house, database)
    to, found = await fallback.candidate(strategy(), fallen, None)
    assert (to, found["trades"]) == (None, 0)
    (house.files.folder(before) / "serving.onnx").write_bytes(b"damaged")
    to, found = await fallback.candidate(strategy(), fallen, None)
    assert to is None
    assert "verify" in found["why"]
    assert (await fallback.candidate(strategy(), before, None))[1] == {"why": "no version spoke before it"}


async def test_a_start_after_damage_passes_over_what_has_lost_the_word(house: House) -> None:
    first, second, third = [await house.add() for _ in range(3)]
    await house.activate(first)
    await house.activate(second)
    row = await house.registry.get(first)
    assert row is not None
    await house.modes.fall_back(NAME, second, row, QUALITY_DEGRADED, {}, NOON)
    await house.registry.activate(NAME, second, actor="service", reason="x", forced=False, now=NOON)
    await house.registry.activate(NAME, third, actor="service", reason="gate_passed", forced=False, now=NOON)
    (house.files.folder(third) / "serving.onnx").unlink()
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() != second


async def test_a_change_of_mode_is_told(house: House) -> None:
    told: list[tuple[str, str, Any]] = []

    class Ears:
        def send(self, event: str, strategy_id: str, evidence: Any, now: Any) -> None:
            told.append((event, strategy_id, evidence["mode"]))

    modes = Modes(StrategyRoster.of(house.strategies), house.registry, house.files, warmup=True, alerts=Ears())
    await modes.restore(NOON)
    told.clear()
    await modes.pause(NAME, actor="test", reason="holiday", now=NOON)
    await modes.pause(NAME, actor="test", reason="holiday", now=NOON)
    assert told == [("mode_changed", NAME, "paused")]


def _fallback(house: House, database: Database) -> Fallback:
    return Fallback(house.registry, house.files, PostgresRecentTrades(database), 400)


async def _two_versions(house: House) -> tuple[str, str]:
    before, fallen = await house.add(), await house.add()
    await house.activate(before)
    await house.activate(fallen)
    return before, fallen


async def test_recent_decisions_are_signals_and_draws_of_none_each_for_what_it_stands_for(
    database: Database, house: House
) -> None:
    vector = np.arange(len(FEATURE_NAMES), dtype="<f4")
    common = {"feature_set": FEATURE_SET, "features": vector.tobytes()}
    await add_signal(database, "one", decided_at=NOON, **common)
    await add_signal(database, "exit", decided_at=NOON, intent="exit", **common)
    await add_signal(database, "unreadable", decided_at=NOON, feature_set="f1-unknown", features=b"\x00")
    await insert(
        database, "decisions", decision_id=identifier("none"), strategy_id="momentum", asset="BTCUSDT",
        decided_at=NOON + timedelta(seconds=5), policy="warmup", probability_buy=0.1, probability_sell=0.1,
        probability_none=0.8, sample_rate=0.1, seed="7", **common,
    )  # fmt: skip
    store, before = PostgresRecentDecisions(database), NOON - timedelta(hours=1)
    recent = await store.recent_decisions("momentum", before, 10)
    assert recent.weights.tolist() == [10.0, 1.0]
    assert recent.newest == NOON + timedelta(seconds=5)
    assert recent.features.tolist() == [vector.tolist()] * 2
    assert await store.count_since("momentum", NOON, 10) == 1
    assert (await store.recent_decisions("momentum", NOON + timedelta(hours=1), 10)).newest is None


def test_a_version_keeps_what_its_training_rows_looked_like(artifact: tuple[Candidate, dict[str, bytes]]) -> None:
    references = from_manifest(json.loads(artifact[1]["manifest.json"]))
    assert set(references) == set(FEATURE_NAMES)
    assert len(references["book_imbalance"].edges) == 9


async def test_the_word_is_taken_within_seconds_of_the_outcomes_that_cause_it(house: House, database: Database) -> None:
    """As the role does it: a look every half second, on rows that another connection commits meanwhile."""
    version = await house.add()
    await house.activate(version)
    asked = asyncio.Event()

    class Training:
        async def is_asked_for(self, strategy_id: str, trigger: str) -> bool:
            return False

        async def request(self, *_: Any) -> None:
            asked.set()

    training: Any = Training()
    watch = QualityWatch(
        StrategyRoster.of(house.strategies), house.modes, PostgresQualityStore(database), training,
        _fallback(house, database), QualityLimits(), NoAlerts(),
    )  # fmt: skip

    async def look() -> None:
        while not asked.is_set():
            await watch.step(datetime.now(UTC))
            await asyncio.sleep(0.5)

    looking = asyncio.create_task(look())
    for minute in range(40):
        await add_live(
            database, f"lost {minute}", minute, strategy_id=NAME, model_version=version, label=0, net_return=-0.002,
            available_at=datetime.now(UTC),
        )  # fmt: skip
    started = time.monotonic()
    async with asyncio.timeout(10):
        await looking
    assert time.monotonic() - started < 10
    assert await house.speaking() is None
    evidence = await database.fetchval(
        "SELECT evidence FROM model_service.mode_transitions WHERE reason = 'quality_degraded'"
    )
    assert evidence["fired"] == ["win_rate_cusum"]
    assert evidence["detectors"][2]["value"] >= evidence["detectors"][2]["threshold"]


async def test_two_versions_are_held_side_by_side_on_outcomes_new_to_both(house: House, database: Database) -> None:
    first = await house.add()
    second = await house.add(inputs=TODAY)  # a stump that looks at the side alone
    rows = imbalance_rows(400, seed=11, assets=3)
    await store(database, rows, strategy_id=NAME)
    comparisons = Comparisons(house.modes, house.registry, house.files, PostgresRecentTrades(database))
    with pytest.raises(Refused, match="newer than what both"):
        await comparisons.compare(first, second)
    await store(database, _later(rows), strategy_id=NAME)
    found = await comparisons.compare(first, second)
    assert (found.strategy_id, found.rows) == (NAME, 400)
    good, poor = found.versions
    assert (good.version, poor.version) == (first, second)
    briers = [next(metric.value for metric in one.all_rows if metric.name == "brier") for one in (good, poor)]
    gap = next(metric for metric in found.differences if metric.name == "brier")
    assert gap.value == pytest.approx(briers[0] - briers[1])
    assert gap.upper is not None
    assert gap.upper < 0, "the trained one is better by more than chance"
    with pytest.raises(NotFound):
        await comparisons.compare(first, "v99")
    other = await house.add(strategy_id="someone_else")
    with pytest.raises(Refused, match="someone_else"):
        await comparisons.compare(first, other)
    async with client_of(make_app(database, comparisons=FakeComparisons(found))) as client:
        answer = (await client.get(f"/api/v1/models/{first}/comparison/{second}")).json()
    assert answer["versions"][0]["trades"] == good.trades
    text = io.StringIO()
    for part in version_comparison.page(answer):
        Console(file=text, width=120).print(part)
    assert f"{first} less {second}" in text.getvalue()


def _later(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same market long after anything that a version was fitted on."""
    moved = rows.copy()
    moved["signal_id"] = np.random.default_rng(5).integers(0, 256, rows["signal_id"].shape)
    for name in ("decided_us", "exit_us"):
        moved[name] += 365 * 86_400_000_000
    return moved
