"""Stored decisions come out the same again, to the last digit; what was tampered with is found."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers
from model_service.contracts.market import BookEvent, TickerEvent
from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.database.signal_detail import PostgresOpenings
from model_service.market.state import AssetMarket
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import Candidate
from model_service.services.decision import draw_amount
from model_service.services.decision_pass import GenerationLimits
from model_service.services.errors import NotFound, Refused
from model_service.services.opening_request import GuardLimits
from model_service.services.replay import Replayed, Replays
from model_service.services.roster import StrategyRoster
from model_service.services.signal_generation import SignalGenerator
from tests.integration.test_decision_funnel import random_run
from tests.integration.test_modes import House, artifact
from tests.integration.test_stores import BUY_ID, decided, with_signals
from tests.support.api import FakeReplays, client_of, make_app
from tests.support.api_rows import insert
from tests.support.builders import NOON, strategy

__all__ = ["artifact"]  # a fixture
FEATURES = "SELECT features FROM model_service.trading_signals WHERE signal_id = $1"
SIGNALS = "SELECT signal_id FROM model_service.trading_signals WHERE intent {} 'exit' ORDER BY decided_at, signal_id"


def replays(database: Database, folder: Path) -> Replays:
    return Replays(PostgresOpenings(database), PostgresRegistry(database), ModelFolder(folder))


async def signals(database: Database, *, exits: bool = False) -> list[UUID]:
    return [row["signal_id"] for row in await database.fetch(SIGNALS.format("=" if exits else "<>"))]


async def tamper(database: Database, signal_id: UUID, change: str) -> None:
    await database.execute(f"UPDATE model_service.trading_signals SET {change} WHERE signal_id = $1", signal_id)


def differing(replayed: Replayed) -> set[str]:
    return {one.name for one in replayed.compared if not one.identical}


async def test_every_opening_of_the_warmup_comes_out_the_same(house: House, database: Database) -> None:
    found = [
        await replays(database, house.files.root).replay(one) for one in await deciding(house, database, passes=280)
    ]
    assert len(found) > 50
    assert [differing(one) for one in found] == [set()] * len(found)
    assert {one.opening.side for one in found} == set(Side)
    last = found[-1].opening.evidence
    assert last is not None
    assert set(last["market"]["indicators"]) == {"return_5m", "bollinger_b"}, "all that the heuristics read was known"


@pytest.mark.parametrize("seed", [1, 3, 5])
async def test_openings_among_pauses_and_refused_sides_come_out_the_same(
    database: Database, tmp_path: Path, seed: int
) -> None:
    await random_run(database, seed, 60)
    found = [await replays(database, tmp_path).replay(one) for one in await signals(database)]
    assert found
    assert [differing(one) for one in found] == [set()] * len(found)


async def deciding(house: House, database: Database, *, passes: int, **changes: Any) -> list[UUID]:
    """Signals by the real generator, of the active model or of the warm-up where there is none."""
    market = AssetMarket("BTCUSDT", 60)
    limits = GenerationLimits(
        guards=GuardLimits(60.0, skip_if_open_order=False, opposite_orders_only=False), tick_seconds=5.0,
        expiry_seconds=30.0, rate_per_minute=600.0, burst=100, none_sample_rate=0.5, seed="7",
        statistics_refresh_seconds=60.0,
    )  # fmt: skip
    eager = strategy(signals_per_minute=11.0, exploration_rate=0.5, maximum_position_amount="1000000", **changes)
    store = PostgresDecisionStore(database)
    source = SignalGenerator(
        StrategyRoster.of([eager]), {"BTCUSDT": market}, house.modes, store, SeededIdentifiers(5), limits
    )
    for index in range(passes):
        now = NOON + timedelta(seconds=5 * index)
        price = 50_000.0 + 40.0 * ((index * 37) % 11 - 5)
        market.apply(TickerEvent(asset="BTCUSDT", at=now, last_price=price))
        market.apply(
            BookEvent("BTCUSDT", now, price - 1, 1.0 + index % 7, price + 1, 1.0 + index % 5, is_snapshot=True)
        )
        with capture_logs():
            await source.step(now)
    return await signals(database)


@pytest.fixture
def house(database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]) -> House:
    return House(database, tmp_path / "models", artifact)


async def deciding_by_model(house: House, database: Database, **changes: Any) -> list[UUID]:
    await house.activate(await house.add())
    return await deciding(house, database, passes=40, **changes)


async def test_every_opening_of_a_model_comes_out_the_same(house: House, database: Database) -> None:
    found = [await replays(database, house.files.root).replay(one) for one in await deciding_by_model(house, database)]
    assert len(found) > 10
    assert {one.opening.policy for one in found} == {"model"}
    assert all("expected_net_return" in {value.name for value in one.compared} for one in found)
    assert [differing(one) for one in found] == [set()] * len(found)


BOUNDS = {"bound_probabilities": [0.5, 0.9], "lower_bounds": [0.45, 0.88]}
SIZINGS: list[dict[str, Any]] = [
    {"sizing": "fixed", "model_amount": "333.33"},
    {"sizing": "confidence", "action_threshold": 0.51},
    {"sizing": "kelly", "capital_amount": "2000", "kelly_fraction": 0.9},
]


@pytest.mark.parametrize("sizing", SIZINGS, ids=lambda sizing: sizing["sizing"])
async def test_amounts_of_every_sizing_come_out_the_same(
    house: House, database: Database, sizing: dict[str, Any]
) -> None:
    # Its calibration block is too short to bound anything.
    calibration = {**json.loads(house.contents["calibration.json"]), **BOUNDS}
    house.contents = {**house.contents, "calibration.json": json.dumps(calibration).encode()}
    made = await deciding_by_model(house, database, hysteresis=0.05, **sizing)
    found = [await replays(database, house.files.root).replay(one) for one in made]
    assert [differing(one) for one in found] == [set()] * len(found)
    rows = await database.fetch("SELECT amount, metadata -> 'sizing' AS sizing FROM model_service.trading_signals")
    assert {row["sizing"]["rule"] for row in rows} >= {"exploring", sizing["sizing"]}
    assert {row["amount"] for row in rows if row["sizing"]["rule"] == "exploring"} == {100}
    assert all(float(row["amount"]) == row["sizing"]["asked"] for row in rows)
    assert ("lower_bound" in {name for row in rows for name in row["sizing"]}) is (sizing["sizing"] == "kelly")


async def test_an_opening_from_before_amounts_followed_from_the_model_is_drawn_again(
    house: House, database: Database
) -> None:
    signal_id = (await deciding_by_model(house, database))[0]
    names = ("sizing", "hysteresis", "model_amount", "kelly_fraction", "capital_amount", "maximum_position_amount")
    newer = " ".join(f"- '{name}'" for name in names)
    older = f"(evidence - 'position_amount') || jsonb_build_object('settings', (evidence -> 'settings') {newer})"
    seed = await database.fetchval("SELECT seed FROM model_service.trading_signals WHERE signal_id = $1", signal_id)
    amount = draw_amount(strategy(), random.Random(seed))
    await tamper(database, signal_id, f"evidence = {older}, amount = {amount}, decision_sha256 = NULL")
    assert differing(await replays(database, house.files.root).replay(signal_id)) == set()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("evidence = jsonb_set(evidence, '{settings,minimum_amount}', '120')", {"amount"}),
        ("amount = amount + 0.01", {"amount"}),
        ("confidence = confidence - 1e-15", {"confidence"}),
        (r"features = overlay(features placing '\x666666bf'::bytea from 89)", {"confidence"}),
        ("probability_buy = probability_buy * 0.999999", {"probability_buy"}),
        ("evidence = jsonb_set(evidence, '{settings,signals_per_minute}', '3')", {"probability_buy"}),
        ("side = CASE side WHEN 'buy' THEN 'sell' ELSE 'buy' END", {"side"}),
    ],
)  # fmt: skip
async def test_a_record_that_was_changed_is_found(
    house: House, database: Database, change: str, names: set[str]
) -> None:
    signal_id = (await deciding_by_model(house, database))[0]
    await tamper(database, signal_id, change)
    assert differing(await replays(database, house.files.root).replay(signal_id)) >= names


async def test_the_position_limit_that_an_amount_is_cut_to_is_part_of_the_record(
    house: House, database: Database
) -> None:
    await deciding_by_model(house, database)
    largest = "SELECT signal_id FROM model_service.trading_signals ORDER BY amount DESC LIMIT 1"
    signal_id = await database.fetchval(largest)
    await tamper(database, signal_id, "evidence = jsonb_set(evidence, '{settings,maximum_position_amount}', '120')")
    assert differing(await replays(database, house.files.root).replay(signal_id)) == {"amount", "record_sha256"}


async def test_a_damaged_model_is_refused_and_a_lost_row_is_said(house: House, database: Database) -> None:
    signal_id = (await deciding_by_model(house, database))[0]
    source = replays(database, house.files.root)
    (house.files.root / "v1" / "calibration.json").write_bytes(b"{}")
    with pytest.raises(Refused, match="v1 cannot be asked again"):
        await source.replay(signal_id)
    await tamper(database, signal_id, "model_version = 'v99'")
    with pytest.raises(Refused, match=r"was changed after the decision.* no row of that version"):
        await source.replay(signal_id)
    await tamper(database, signal_id, "decision_sha256 = NULL")
    with pytest.raises(NotFound, match="no row of that version"):
        await source.replay(signal_id)


async def test_what_cannot_be_made_again_is_refused_in_words(database: Database, tmp_path: Path) -> None:
    source = replays(database, tmp_path)
    await with_signals(database, decided(BUY_ID, Side.BUY))
    with pytest.raises(Refused, match="older than the record"):
        await source.replay(BUY_ID)
    exit_id = UUID(int=77)
    closing = decided(exit_id, Side.SELL)
    await with_signals(database, replace(closing, intent="exit", policy="exit"))
    with pytest.raises(Refused, match="exits are not drawn"):
        await source.replay(exit_id)
    with pytest.raises(NotFound, match="no signal"):
        await source.replay(UUID(int=78))


async def test_an_opening_of_an_unknown_set_of_features_is_refused(database: Database, tmp_path: Path) -> None:
    await random_run(database, 0, 20)
    signal_id = (await signals(database))[0]
    await tamper(database, signal_id, "feature_set = 'f1-ffffffff'")
    with pytest.raises(Refused, match=r"was changed after the decision.* set is unknown"):
        await replays(database, tmp_path).replay(signal_id)


async def test_features_of_an_older_list_are_read_by_name(house: House, database: Database) -> None:
    signal_id = (await deciding_by_model(house, database))[0]
    features = await database.fetchval(FEATURES, signal_id)
    turned = np.frombuffer(features, dtype="<f4")[::-1].tobytes()
    await insert(
        database, "feature_sets", feature_set="f1-older", names=list(FEATURE_NAMES[::-1]), first_used_at=NOON
    )  # fmt: skip
    await tamper(database, signal_id, f"feature_set = 'f1-older', features = decode('{turned.hex()}', 'hex')")
    await tamper(database, signal_id, "decision_sha256 = NULL")
    assert differing(await replays(database, house.files.root).replay(signal_id)) == set()


async def test_the_answer_holds_both_values_as_exact_text(database: Database, tmp_path: Path) -> None:
    await random_run(database, 0, 20)
    signal_id = (await signals(database))[0]
    await tamper(database, signal_id, "amount = amount + 1")
    found = await replays(database, tmp_path).replay(signal_id)
    async with client_of(make_app(replays=FakeReplays(found))) as client:
        body: Any = json.loads((await client.get(f"/api/v1/signals/{signal_id}/replay")).text)
    async with client_of(make_app(replays=FakeReplays(Refused("not_drawn", "an exit", kind="conflict")))) as client:
        refused = await client.get(f"/api/v1/signals/{signal_id}/replay")
    values = {item["name"]: item for item in body["values"]}
    assert (body["identical"], body["policy"], body["model_version"]) == (False, "warmup", None)
    assert float(values["amount"]["recorded"]) == float(values["amount"]["recomputed"]) + 1
    assert values["side"]["identical"]
    assert (refused.status_code, refused.json()["code"]) == (409, "not_drawn")
