"""Whatever is changed in a recorded decision, a replay does not call it identical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decision_digest import FROZEN, decision_digest
from model_service.services.errors import NotFound, Refused
from model_service.services.replay import Replayed
from tests.integration.test_decision_funnel import random_run
from tests.integration.test_modes import House, artifact
from tests.integration.test_replay import deciding, deciding_by_model, differing, house, replays, signals, tamper
from tests.integration.test_stores import BUY_ID, decided, increment, record, with_signals

__all__ = ["artifact", "house"]  # fixtures
CHANGES = [
    "probability_buy = CASE side WHEN 'buy' THEN probability_buy ELSE 0 END, "
    "probability_sell = CASE side WHEN 'sell' THEN probability_sell ELSE 0 END",
    "probability_none = 0.123456",
    'evidence = jsonb_set(evidence, \'{guards}\', \'[{"guard": "balance_too_low", "value": 99, "threshold": 1}]\')',
    "evidence = jsonb_set(evidence, '{funding_cost_percent}', '{\"buy\": 77}')",
    "evidence = jsonb_set(evidence, '{position_amount}', '5')",
    "evidence = NULL",
    "price = price * 2",
    'metadata = jsonb_set(metadata, \'{sizing}\', \'{"rule": "kelly", "asked": 1}\')',
    "market_data_snapshot = '{\"price\": 1}'",
    "asset = 'ETHUSDT'",
    "strategy_id = 'other'",
    "take_profit_percent = 50",
    "stop_loss_percent = 40",
    "fee_rate = 0.04",
    "minimum_net_return = 0.5",
    "horizon_seconds = 9",
    "features = decode(repeat('00', length(features)), 'hex')",
    "intent = 'reduce'",
    "intent = 'exit'",
    "is_warmup = NOT is_warmup",
    "decided_at = decided_at + interval '1 microsecond'",
    "expires_at = expires_at + interval '1 microsecond'",
    "trace_id = 'another'",
    "feature_set = 'f1-ffffffff'",
]
"""One for each frozen column, and for parts of the JSON ones that no policy reads."""


async def told(database: Database, folder: Path, signal_id: Any) -> Replayed | str:
    try:
        return await replays(database, folder).replay(signal_id)
    except Refused as error:
        return error.code


@pytest.mark.parametrize("kind", ["warmup", "model"])
async def test_no_edit_of_a_record_is_called_identical(house: House, database: Database, kind: str) -> None:
    found = await (deciding(house, database, passes=60) if kind == "warmup" else deciding_by_model(house, database))
    signal_id, root = found[0], house.files.root
    back = ", ".join(f"{name} = (SELECT {name} FROM kept)" for name in FROZEN[1:])
    await database.execute(
        f"CREATE TABLE kept AS SELECT * FROM model_service.trading_signals WHERE signal_id = '{signal_id}'"
    )
    missed = []
    for change in CHANGES:
        await tamper(database, signal_id, change)
        again = await told(database, root, signal_id)
        if not (again == "record_changed" or (isinstance(again, Replayed) and not again.identical)):
            missed.append((change, again))
        await tamper(database, signal_id, back)
        untouched = await told(database, root, signal_id)
        assert isinstance(untouched, Replayed)
        assert (untouched.identical, untouched.opening.record) == (True, "unchanged")
    assert missed == []


async def test_the_columns_of_the_hash_are_those_that_the_store_writes(database: Database, tmp_path: Path) -> None:
    await random_run(database, 0, 20)
    row = await database.fetchrow("SELECT * FROM model_service.trading_signals LIMIT 1")
    assert row is not None
    later = {"status", "published_at", "order_state", "first_filled_at", "labelled_at", "decision_sha256", "at_tick"}
    assert set(dict(row)) - set(FROZEN) == later
    assert row["decision_sha256"] == decision_digest(dict(row))
    await tamper(database, row["signal_id"], "status = 'published', order_state = 'filled'")
    assert (await replays(database, tmp_path).replay(row["signal_id"])).identical


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("probability_none = 0.123456", {"probability_none"}),
        (
            "evidence = jsonb_set(evidence, '{guards}', "
            '\'[{"guard": "balance_too_low", "value": 9, "threshold": 1}]\')',
            {"guards"},
        ),
        ("probability_buy = 0, probability_none = probability_none + probability_buy", {"probability_buy"}),
    ],
)
async def test_what_is_made_again_is_found_also_where_the_hash_was_forged(
    house: House, database: Database, change: str, names: set[str]
) -> None:
    await deciding(house, database, passes=60)
    sell = "SELECT signal_id FROM model_service.trading_signals WHERE side = 'sell' AND probability_buy > 0 LIMIT 1"
    signal_id = await database.fetchval(sell)
    await tamper(database, signal_id, change)
    row = await database.fetchrow("SELECT * FROM model_service.trading_signals WHERE signal_id = $1", signal_id)
    assert row is not None
    forged = decision_digest(dict(row)).hex()
    await tamper(database, signal_id, rf"decision_sha256 = '\x{forged}'")
    again = await replays(database, house.files.root).replay(signal_id)
    assert again.opening.record == "unchanged"
    assert differing(again) >= names


async def test_a_refused_side_is_held_against_what_refused_it(house: House, database: Database) -> None:
    # A position at its limit: every buy is refused, and sells are drawn.
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "21", "50000"))
    sells = [one for one in await deciding(house, database, passes=20) if one != BUY_ID]
    again = await replays(database, house.files.root).replay(sells[0])
    evidence = again.opening.evidence
    assert evidence is not None
    assert evidence["refused"]["buy"]["guard"] == "position_limit"
    assert (again.refused, again.identical) == ((Side.BUY,), True)
    reading = '{"guard": "position_limit", "value": 5, "threshold": 1000000}'
    await tamper(database, sells[0], f"evidence = jsonb_set(evidence, '{{refused,buy}}', '{reading}')")
    assert differing(await replays(database, house.files.root).replay(sells[0])) == {"record_sha256", "guard_of_buy"}


async def test_a_row_from_before_the_hash_says_so(database: Database, tmp_path: Path) -> None:
    await random_run(database, 0, 20)
    signal_id = (await signals(database))[0]
    await tamper(database, signal_id, "decision_sha256 = NULL")
    again = await replays(database, tmp_path).replay(signal_id)
    assert (again.identical, again.opening.record) == (True, "no_hash")
    with pytest.raises(NotFound):
        await replays(database, tmp_path).replay(BUY_ID)


JSON = st.recursive(
    st.none() | st.booleans() | st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF))
    | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
)  # fmt: skip


@given(JSON)
def test_json_has_one_hash_however_it_is_written(value: Any) -> None:
    row: dict[str, Any] = dict.fromkeys(FROZEN)
    turned = json.loads(json.dumps(value), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert decision_digest({**row, "evidence": value}) == decision_digest({**row, "evidence": turned})
    assert decision_digest({**row, "evidence": [value, 1]}) != decision_digest({**row, "evidence": [value, "1"]})
