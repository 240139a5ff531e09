"""A signal with all that belongs to it, over HTTP from a real PostgreSQL."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, encode_features
from tests.integration.test_decision_funnel import random_run
from tests.integration.test_stores import BUY_ID, decided, increment, record, with_signals
from tests.support.api import client_of, make_app
from tests.support.api_rows import add_outcome, add_signal, add_version, identifier


async def get(database: Database, signal_id: UUID) -> Any:
    async with client_of(make_app(database)) as client:
        answer = await client.get(f"/api/v1/signals/{signal_id}")
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_constant=pytest.fail)


async def test_a_signal_comes_with_order_fills_and_every_revision(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(
        database,
        increment("e1", str(BUY_ID), Side.BUY, "2", "100"),
        increment("e2", str(BUY_ID), Side.BUY, "3", "101", second=2),
    )
    await add_outcome(database, BUY_ID, 1, 0)
    await add_outcome(database, BUY_ID, 2, 1)
    body = await get(database, BUY_ID)
    assert [(fill["quantity"], fill["price"]) for fill in body["fills"]] == [("2", "100"), ("3", "101")]
    assert [(order["order_id"], order["filled_quantity"]) for order in body["orders"]] == [(f"order-{BUY_ID}", "5")]
    assert [(one["revision"], one["label"]) for one in body["outcomes"]] == [(1, 0), (2, 1)]
    assert body["outcome"]["label"] == 1
    assert body["features"] == [{"feature": name, "value": float(place)} for place, name in enumerate(FEATURE_NAMES)]
    assert (body["guards"], body["settings"], body["model"]) == (None, None, None)
    assert body["market_data_snapshot"] == {"price": 100.0, "spread": 0.02}


async def test_an_opening_of_the_generator_comes_with_its_guards_and_settings(database: Database) -> None:
    await random_run(database, 0, 20)
    signal_id = await database.fetchval(
        "SELECT signal_id FROM model_service.trading_signals WHERE intent = 'open' LIMIT 1"
    )
    body = await get(database, signal_id)
    guards = {guard["guard"]: guard for guard in body["guards"]}
    assert list(guards)[:4] == ["market_data_stale", "price_jump", "stopped", "loss_limit"]
    assert guards["amount_below_minimum"]["value"] == float(body["amount"])
    assert guards["amount_below_minimum"]["threshold"] == 10.0
    assert body["settings"]["randomness"] == 0.5
    assert body["probability_buy"] + body["probability_sell"] + body["probability_none"] == pytest.approx(1.0)


async def test_the_version_that_decided_is_told_also_when_its_row_is_gone(database: Database) -> None:
    await add_version(database, "v2")
    features = encode_features(np.full(len(FEATURE_NAMES), np.nan, dtype=np.float32))
    known = await add_signal(
        database, "a", model_version="v2", policy="model", features=features, feature_set=FEATURE_SET
    )
    gone = await add_signal(database, "b", model_version="v9", policy="model", feature_set="f1-ffffffff")
    first, second = await get(database, known), await get(database, gone)
    assert (first["model"]["version"], first["model"]["model_type"]) == ("v2", "xgboost")
    assert {item["value"] for item in first["features"]} == {None}
    assert (second["model"]["version"], second["model"]["model_type"], second["features"]) == ("v9", None, None)


async def test_an_unknown_signal_is_404(database: Database) -> None:
    async with client_of(make_app(database)) as client:
        unknown = await client.get(f"/api/v1/signals/{identifier('nothing')}")
        no_name = await client.get("/api/v1/signals/not-a-uuid")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_signal")
    assert no_name.status_code == 404


async def test_an_exit_comes_with_its_cause(database: Database) -> None:
    cause = {"cause": "stop_loss", "value": -2.5, "threshold": -2.0, "continues": False}
    signal_id = await add_signal(database, "exit", intent="exit", policy="exit", metadata={"exit": cause})
    body = await get(database, signal_id)
    assert (body["exit"], body["guards"], body["settings"]) == (cause, None, None)
