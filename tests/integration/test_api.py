"""The HTTP interface over a real, migrated PostgreSQL: what stands in the tables is what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from model_service.database.connection import Database
from model_service.database.decision_features import PostgresDecisionSource
from model_service.database.loss_levels import PostgresLossStore
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, encode_features
from tests.support.api import NOW, FakeOperations, client_of, make_app
from tests.support.api_rows import (
    NAMESPACE,
    add_metric,
    add_outcome,
    add_run,
    add_signal,
    add_strategy,
    add_version,
    identifier,
    insert,
    minutes_ago,
)

NAN = float("nan")


@pytest.fixture
def operations() -> FakeOperations:
    return FakeOperations()


@pytest_asyncio.fixture
async def client(database: Database, operations: FakeOperations) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_app(database, operations)) as opened:
        yield opened


async def get(client: httpx.AsyncClient, path: str) -> Any:
    """The body of a 200; that it is strict JSON, without NaN, is checked on the way."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_constant=pytest.fail)


async def test_every_list_of_an_empty_service_is_empty(client: httpx.AsyncClient) -> None:
    lists = {"models": "models", "signals": "signals", "training/runs": "runs", "dead-letters": "dead_letters"}
    for path, member in lists.items():
        expected = {member: [], "total": 0, "limit": 100, "offset": 0}
        assert await get(client, f"/api/v1/{path}") == expected
    assert await get(client, "/api/v1/strategies") == {"strategies": [], "total": 0, "halts": []}


async def test_models_are_listed_newest_first_with_what_is_known_of_their_quality(
    client: httpx.AsyncClient, database: Database
) -> None:
    await add_version(database, "v1", trained_at=minutes_ago(60))
    await add_version(database, "v2", is_active=True)
    await add_version(
        database, "v2.1", strategy_id=None, model_type="sgd_classifier", gate_passed=False,
        gate=[
            {"number": 1, "condition": "trades taken", "value": 3, "threshold": 30, "passed": False},
            {"number": 2, "condition": "accuracy", "value": 0.61, "threshold": 0.75, "passed": False},
        ],
    )  # fmt: skip
    await add_metric(database, "v2", "accuracy", 0.7, age=10)
    interval = {"lower": 0.76, "upper": 0.84, "level": 0.9, "method": "moving blocks"}
    await add_metric(database, "v2", "accuracy", 0.8, metadata=interval)
    await add_metric(database, "v2", "accuracy", 0.6, of="live")
    await add_metric(database, "v2", "sharpe_ratio", 1.5, metric_type="trading_performance")
    await add_metric(database, "v1", "accuracy", 0.5, of="live")

    body = await get(client, "/api/v1/models")

    assert {model["version"]: model["quality_metrics_summary"] for model in body["models"]} == {
        "v2": {"accuracy": 0.8, "accuracy_lower": 0.76, "accuracy_upper": 0.84, "sharpe_ratio": 1.5},
        "v2.1": {},
        "v1": {"accuracy": 0.5},
    }
    assert {model["version"]: model["rejection"] for model in body["models"]} == {
        "v2": None,
        "v2.1": "accuracy 0.61 against 0.75; 1 more condition not met",
        "v1": None,
    }
    assert [model["version"] for model in body["models"]][-1] == "v1"
    assert body["total"] == 3
    assert next(model for model in body["models"] if model["version"] == "v2") == {
        "id": str(identifier("v2")),
        "version": "v2",
        "model_type": "xgboost",
        "strategy_id": "momentum",
        "parent_version": None,
        "trained_at": "2026-11-23T15:52:43Z",
        "training_duration_seconds": 12,
        "training_dataset_size": 2000,
        "is_active": True,
        "is_warmup_mode": False,
        "gate_passed": True,
        "feature_set": "f1-00000000",
        "files_removed_at": None,
        "rejection": None,
        "quality_metrics_summary": {
            "accuracy": 0.8, "accuracy_lower": 0.76, "accuracy_upper": 0.84, "sharpe_ratio": 1.5,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "versions", "total"),
    [
        ("strategy_id=momentum", ["v3", "v1"], 2),
        ("strategy_id=nobody", [], 0),
        ("is_active=true", ["v3"], 1),
        ("is_active=false", ["v2", "v1"], 2),
        ("strategy_id=momentum&is_active=false", ["v1"], 1),
        ("limit=1", ["v3"], 3),
        ("limit=1&offset=1", ["v2"], 3),
        ("offset=3", [], 3),
        ("offset=99999999999999999999999999", [], 3),
    ],
)
async def test_models_are_filtered_and_paged(
    client: httpx.AsyncClient, database: Database, query: str, versions: list[str], total: int
) -> None:
    await add_version(database, "v1", trained_at=minutes_ago(2))
    await add_version(database, "v2", trained_at=minutes_ago(1), strategy_id="other")
    await add_version(database, "v3", is_active=True)
    body = await get(client, f"/api/v1/models?{query}")
    assert ([model["version"] for model in body["models"]], body["total"]) == (versions, total)


async def test_a_version_in_detail(client: httpx.AsyncClient, database: Database) -> None:
    failed = {
        "number": 3, "condition": "ece", "value": 0.2, "threshold": 0.125, "comparison": "at_most", "passed": False,
        "detail": "of 400 rows",
    }  # fmt: skip
    await add_version(database, "v1", gate=[{"number": 2, "condition": "accuracy", "passed": True}, failed])
    interval = {"lower": 0.76, "upper": 0.84, "level": 0.9, "method": "moving blocks"}
    await add_metric(database, "v1", "accuracy", 0.8, metadata={"dataset_split": "test", **interval})
    body = await get(client, "/api/v1/models/v1")
    assert body["file_path"] == "/models/v1/serving.onnx"
    assert body["training_config"] == {"seed": 7}
    unknown = {"value": None, "threshold": None, "comparison": None, "detail": ""}
    assert body["gate"] == [{"number": 2, "condition": "accuracy", "passed": True, **unknown}, failed]
    assert body["shortfalls"] == ["ece: 0.2, at most 0.125 is asked for; missed by 0.0750"]
    assert body["quality_metrics"] == [
        {
            "id": str(identifier("v1/accuracy/test/0")),
            "metric_name": "accuracy",
            "metric_value": 0.8,
            "metric_type": "classification",
            "slice": "test",
            "evaluated_at": "2026-11-23T15:52:43Z",
            "evaluation_dataset_size": 400,
            **interval,
            "metadata": {"dataset_split": "test", **interval},
        }
    ]


async def test_metrics_are_the_latest_of_the_test_and_of_live_trading(
    client: httpx.AsyncClient, database: Database
) -> None:
    await add_version(database, "v1")
    await add_metric(database, "v1", "accuracy", 0.8)
    await add_metric(database, "v1", "accuracy", 0.5, of="live", age=10)
    await add_metric(database, "v1", "accuracy", 0.6, of="live", metadata=None, evaluation_dataset_size=None)
    await add_metric(database, "v1", "average_return", -0.001, metric_type="trading_performance")

    body = await get(client, "/api/v1/models/v1/metrics")
    trading = await get(client, "/api/v1/models/v1/metrics?metric_type=trading_performance")

    assert (body["model_version_id"], body["version"]) == (str(identifier("v1")), "v1")
    assert [(item["slice"], item["metric_name"], item["metric_value"]) for item in body["metrics"]] == [
        ("test", "accuracy", 0.8),
        ("test", "average_return", -0.001),
        ("live", "accuracy", 0.6),
    ]
    assert [item["metric_name"] for item in trading["metrics"]] == ["average_return"]


@pytest.mark.parametrize("path", ["models/v9", "models/v9/metrics", f"training/runs/{NAMESPACE}", "models/v%D9%A1"])
async def test_what_does_not_exist_is_404(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/models/v1", "/api/v1/models/v1/activate"])
async def test_an_activation_answers_with_the_version(
    client: httpx.AsyncClient, database: Database, operations: FakeOperations, path: str
) -> None:
    await add_version(database, "v1")
    bare = await client.post(path)
    full = await client.post(path, json={"strategy_id": "momentum", "force": True, "reason": "a trial"})
    null = await client.post(path, json={"strategy_id": None})
    assert [answer.status_code for answer in (bare, full, null)] == [200, 200, 200]
    assert full.json()["version"] == "v1"
    assert operations.calls == [
        ("activate", "v1", None, False, "http", "activated over HTTP"),
        ("activate", "v1", "momentum", True, "http", "a trial"),
        ("activate", "v1", None, False, "http", "activated over HTTP"),
    ]


async def test_training_status_before_anything_happened(client: httpx.AsyncClient) -> None:
    assert await get(client, "/api/v1/training/status") == {
        "is_training": False,
        "strategy_id": None,
        "current_training": None,
        "last_training": None,
        "next_scheduled_training": None,
    }


async def test_training_status_in_the_middle_of_a_run(
    client: httpx.AsyncClient, database: Database, operations: FakeOperations
) -> None:
    operations.scheduled = NOW + timedelta(hours=1)
    await add_run(
        database, "before", "rejected", version="v3", started_at=minutes_ago(20), finished_at=minutes_ago(19.5)
    )
    await add_run(database, "refused", "refused", finished_at=minutes_ago(1), error_code="too_few_rows")
    await add_run(database, "now", "fitting", started_at=minutes_ago(1), progress=0.5)

    assert await get(client, "/api/v1/training/status?strategy_id=momentum") == {
        "is_training": True,
        "strategy_id": "momentum",
        "current_training": {
            "started_at": "2026-11-23T15:51:43Z",
            "estimated_completion": "2026-11-23T15:53:43Z",
            "progress_percent": 50.0,
        },
        "last_training": {"completed_at": "2026-11-23T15:33:13Z", "version": "v3", "duration_seconds": 30},
        "next_scheduled_training": "2026-11-23T16:52:43Z",
    }
    other = await get(client, "/api/v1/training/status?strategy_id=other")
    assert (other["is_training"], other["last_training"]) == (False, None)


async def test_the_estimate_is_left_out_while_there_is_nothing_to_estimate_from(
    client: httpx.AsyncClient, database: Database
) -> None:
    await add_run(database, "now", "preparing", started_at=minutes_ago(1))
    body = await get(client, "/api/v1/training/status")
    assert body["current_training"] == {"started_at": "2026-11-23T15:51:43Z", "progress_percent": 0.0}


async def test_a_waiting_run_is_not_training(client: httpx.AsyncClient, database: Database) -> None:
    await add_run(database, "waiting", "requested")
    assert (await get(client, "/api/v1/training/status"))["is_training"] is False


async def test_runs_are_listed_and_shown_with_cause_and_verdict(client: httpx.AsyncClient, database: Database) -> None:
    gate = [
        {
            "number": 2, "condition": "accuracy", "value": 0.61, "threshold": 0.75, "comparison": "at_least",
            "passed": False, "detail": "",
        }
    ]  # fmt: skip
    refused = await add_run(database, "refused", "refused", error_code="too_few_rows", error_hint="wait for 500 more")
    await add_run(
        database,
        "rejected",
        "rejected",
        requested_at=minutes_ago(5),
        gate=gate,
        dataset_report={"rows": 9},
        version="v1",
    )
    await add_run(database, "other", "promoted", strategy_id="other")

    body = await get(client, "/api/v1/training/runs?strategy_id=momentum")
    shown = await get(client, f"/api/v1/training/runs/{identifier('rejected')}")

    assert [(run["state"], run["error_code"]) for run in body["runs"]] == [
        ("rejected", None),
        ("refused", "too_few_rows"),
    ]
    assert (body["total"], body["runs"][1]["run_id"]) == (2, str(refused))
    assert (shown["gate"], shown["dataset_report"], shown["version"]) == (gate, {"rows": 9}, "v1")
    assert shown["shortfalls"] == ["accuracy: 0.61, at least 0.75 is asked for; missed by 0.140"]
    without = await get(client, f"/api/v1/training/runs/{identifier('refused')}")
    assert (without["gate"], without["shortfalls"]) == (None, [])


async def test_strategies_stand_with_mode_version_and_counts(client: httpx.AsyncClient, database: Database) -> None:
    await add_strategy(database, mode="model")
    await add_strategy(database, "other")
    await add_version(database, "v1")
    await add_version(database, "v2", is_active=True)
    signal = await add_signal(database, "one")
    await add_outcome(database, signal, 1, 0)
    await add_outcome(database, signal, 2, 1)
    await add_run(database, "run", "promoted")

    body = await get(client, "/api/v1/strategies")

    assert body["total"] == 2
    assert body["strategies"][0] == {
        "strategy_id": "momentum",
        "state": "removed",
        "assets": [],
        "mode": "model",
        "since": "2026-11-23T14:52:43Z",
        "reason": "started",
        "active_version": "v2",
        "active_version_trained_at": "2026-11-23T15:52:43Z",
        "counts": {"signals": 1, "fills": 0, "outcomes": 1, "training_runs": 1},
        "halts": [],
        "warmup": {"result": "0", "outcomes_wanted": 1234},
    }
    assert body["strategies"][1]["active_version"] is None


async def test_halts_stand_with_the_strategies_that_they_hold_for_and_in_why(
    client: httpx.AsyncClient, database: Database
) -> None:
    await add_strategy(database)
    await add_strategy(database, "other")
    store = PostgresLossStore(database)
    await store.begin_loss_halt("other", "lost 120", {"loss": 120.0, "limit": 100.0}, NOW)
    body = await get(client, "/api/v1/strategies")
    assert [[halt["kind"] for halt in one["halts"]] for one in body["strategies"]] == [[], ["loss_limit"]]
    await store.stop("http", "fire", NOW)
    body = await get(client, "/api/v1/strategies")
    assert [[halt["kind"] for halt in one["halts"]] for one in body["strategies"]] == [
        ["manual"],
        ["loss_limit", "manual"],
    ]
    assert [(halt["strategy_id"], halt["evidence"]) for halt in body["halts"]] == [
        ("other", {"loss": 120.0, "limit": 100.0}),
        (None, {}),
    ]
    checks = (await get(client, "/api/v1/strategies/other/decisions"))["next_checks"]
    checks = [check for check in checks if "opens nothing since" in check]
    assert "other opens nothing since 2026-11-23 15:52:43 UTC (loss_limit: lost 120)" in checks[0]
    assert "POST /api/v1/strategies/other/resume" in checks[0]
    assert "Every strategy opens nothing" in checks[1]
    assert "POST /api/v1/resume;" in checks[1]


async def test_stop_and_resume_hand_on_who_and_why(client: httpx.AsyncClient, operations: FakeOperations) -> None:
    stopped = await client.post("/api/v1/stop", json={"reason": "fire"})
    assert (stopped.status_code, stopped.json()["withdrawn"], stopped.json()["halt"]["halt_id"]) == (200, 2, 1)
    resumed = await client.post("/api/v1/resume", json={"reason": "it is out"})
    assert (resumed.status_code, len(resumed.json()["ended"]), resumed.json()["holding"]) == (200, 1, [])
    assert operations.calls == [("stop", "http", "fire"), ("resume_all", "http", "it is out")]
    assert (await client.post("/api/v1/stop", json={})).status_code == 422, "nobody stops everything without a word"


@pytest.mark.parametrize("change", ["pause", "resume"])
async def test_a_change_of_mode_answers_with_the_strategy(
    client: httpx.AsyncClient, database: Database, operations: FakeOperations, change: str
) -> None:
    await add_strategy(database)
    answer = await client.post(f"/api/v1/strategies/momentum/{change}", json={"reason": "news at three"})
    assert (answer.status_code, answer.json()["mode"]) == (200, "warmup")
    assert operations.calls == [(change, "momentum", "http", "news at three")]


async def test_a_rollback_answers_with_the_version_that_speaks_now(
    client: httpx.AsyncClient, operations: FakeOperations
) -> None:
    answer = await client.post("/api/v1/strategies/momentum/rollback", json={"reason": "worse since noon"})
    assert (answer.status_code, answer.json()) == (200, {"strategy_id": "momentum", "version": "v1"})
    assert operations.calls == [("rollback", "momentum", "http", "worse since noon")]


async def test_reasons_for_silence_are_summed_with_the_last_number(
    client: httpx.AsyncClient, database: Database
) -> None:
    await add_strategy(database)
    rows: list[tuple[str, str, float, int, float | None, float | None]] = [
        ("BTCUSDT", "rate_limited", 1, 5, 61.0, 60.0),
        ("ETHUSDT", "rate_limited", 2, 7, 99.0, 60.0),
        ("BTCUSDT", "market_data_missing", 3, 1, NAN, NAN),
        ("BTCUSDT", "paused", 50, 2, None, None),
        ("BTCUSDT", "rate_limited", 70, 1000, 1.0, 60.0),
    ]
    for asset, reason, age, occurrences, value, threshold in rows:
        await insert(
            database, "decision_counts", strategy_id="momentum", asset=asset, reason=reason, occurrences=occurrences,
            minute=minutes_ago(age).replace(second=0), last_value=value, last_threshold=threshold,
        )  # fmt: skip

    body = await get(client, "/api/v1/strategies/momentum/decisions")
    recent = await get(client, "/api/v1/strategies/momentum/decisions?since=2026-11-23T15:51:59")

    assert (body["since"], body["until"]) == ("2026-11-23T14:52:43Z", "2026-11-23T15:52:43Z")
    assert [
        (item["reason"], item["occurrences"], item["last_value"], item["last_threshold"]) for item in body["reasons"]
    ] == [
        ("rate_limited", 12, 61.0, 60.0),
        ("paused", 2, None, None),
        ("market_data_missing", 1, None, None),
    ]
    assert recent["since"] == "2026-11-23T15:51:59Z"
    assert [item["occurrences"] for item in recent["reasons"]] == [5]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("since=2026-11-23T15:00&until=2026-11-23T15:00", 422, "has to be before until"),
        ("since=2026-11-24T15:00", 422, "has to be before until"),
        ("since=2026-01-01T15:00", 422, "at most 31"),
        ("since=2026-11-23T15:00&last_seconds=60", 422, "not both"),
        ("since=9999-12-31T23:58:59&until=9999-12-31T23:59:59", 200, ""),
        ("until=0001-01-01T00:00:59", 200, ""),
        ("last_seconds=60", 200, ""),
    ],
)
async def test_the_time_of_decisions_has_bounds(
    client: httpx.AsyncClient, database: Database, query: str, status: int, said: str
) -> None:
    await add_strategy(database)
    answer = await client.get(f"/api/v1/strategies/momentum/decisions?{query}")
    assert (answer.status_code, said in answer.json().get("detail", "")) == (status, True), answer.text


async def test_decisions_of_an_unknown_strategy_are_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/strategies/nobody/decisions")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_strategy")


async def test_signals_come_with_the_latest_revision_of_their_outcome(
    client: httpx.AsyncClient, database: Database
) -> None:
    judged = await add_signal(database, "judged", decided_at=minutes_ago(5))
    await add_outcome(database, judged, 1, 0)
    await add_outcome(database, judged, 2, 1)
    await add_signal(database, "fresh")
    await add_signal(database, "foreign", strategy_id="other", decided_at=minutes_ago(1))

    body = await get(client, "/api/v1/signals?strategy_id=momentum")
    page = await get(client, "/api/v1/signals?limit=1&offset=1")

    fresh, old = body["signals"]
    assert (fresh["signal_id"], fresh["outcome"]) == (str(identifier("fresh")), None)
    assert (fresh["price"], fresh["amount"], fresh["confidence"]) == ("97250.50", "150.25", 0.83)
    assert old["outcome"] == {
        "label": 1,
        "net_return": 0.002,
        "exit_rule": "horizon",
        "exit_at": "2026-11-23T15:52:43Z",
    }
    assert body["total"] == 2
    assert ([signal["strategy_id"] for signal in page["signals"]], page["total"]) == (["other"], 3)


async def test_an_exit_says_what_it_reached(client: httpx.AsyncClient, database: Database) -> None:
    reached = {"cause": "trailing_stop", "value": 101.5, "threshold": 101.75, "continues": False}
    await add_signal(database, "exit", intent="exit", metadata={"intent": "exit", "exit": reached})
    await add_signal(database, "opening", decided_at=minutes_ago(1))
    body = await get(client, "/api/v1/signals")
    assert [signal["exit"] for signal in body["signals"]] == [reached, None]


async def test_dead_letters_show_why_and_the_beginning_of_the_message(
    client: httpx.AsyncClient, database: Database
) -> None:
    for name, body, age in (("old", b"\xff\x00" * 2000, 5), ("new", b'{"side": "hold"}', 1)):
        await insert(
            database, "dead_letters", fingerprint=name, source="queue", body=body, reason_code="invalid_value",
            reason="unknown side", first_seen_at=minutes_ago(9), last_seen_at=minutes_ago(age),
        )  # fmt: skip
    new, old = (await get(client, "/api/v1/dead-letters"))["dead_letters"]
    assert (new["body"], new["body_bytes"], new["reason_code"]) == ('{"side": "hold"}', 16, "invalid_value")
    assert (len(old["body"]), old["body_bytes"], old["requeued_at"]) == (2000, 4000, None)


async def test_closed_dead_letters_are_shown_on_request_and_filters_choose(
    client: httpx.AsyncClient, database: Database
) -> None:
    ages = {"open": 1, "requeued": 2, "dropped": 3}
    for name, age in ages.items():
        closed = {"requeued_at" if name == "requeued" else "dropped_at": minutes_ago(1)} if name != "open" else {}
        await insert(
            database, "dead_letters", fingerprint=name, source=f"queue-{name}", body=b"{}", reason_code=name,
            reason="r", first_seen_at=minutes_ago(9), last_seen_at=minutes_ago(age), **closed,
        )  # fmt: skip

    async def sources(query: str = "") -> list[str]:
        return [one["source"] for one in (await get(client, f"/api/v1/dead-letters{query}"))["dead_letters"]]

    assert await sources() == ["queue-open"]
    assert await sources("?closed=true") == ["queue-open", "queue-requeued", "queue-dropped"]
    assert await sources("?closed=true&source=queue-dropped") == ["queue-dropped"]
    assert await sources("?closed=true&reason_code=requeued") == ["queue-requeued"]


async def test_a_lost_database_is_503_and_comes_back_by_itself(client: httpx.AsyncClient, database: Database) -> None:
    await database.close()
    lost = await client.get("/api/v1/models")
    await database.open()
    assert (lost.status_code, lost.json()["code"]) == (503, "database_unavailable")
    assert (await client.get("/api/v1/models")).status_code == 200


async def test_parameters_never_become_sql(client: httpx.AsyncClient, database: Database) -> None:
    await add_version(database, "v1")
    body = await get(client, "/api/v1/models?strategy_id=' OR true --")
    assert body["total"] == 0
    assert (await client.get("/api/v1/models/v1' OR '1")).status_code == 404


async def test_a_stored_decision_is_read_with_the_names_of_its_features(database: Database) -> None:
    features = encode_features(np.arange(len(FEATURE_NAMES), dtype=np.float32))
    await insert(database, "feature_sets", feature_set="f1-old", names=["a", "b"], first_used_at=NOW)
    now = await add_signal(database, "now", feature_set=FEATURE_SET, features=features, model_version="v1")
    old = await add_signal(database, "old", feature_set="f1-old", features=b"\0" * 8, side="sell")
    strange = await add_signal(database, "strange", feature_set="f1-unheard")
    await insert(
        database, "decisions", decision_id=identifier("none"), strategy_id="momentum", asset="BTCUSDT", decided_at=NOW,
        policy="model", model_version="v1", feature_set=FEATURE_SET, features=features, probability_buy=0.1,
        probability_sell=0.1, probability_none=0.8, sample_rate=1.0, seed="7",
    )  # fmt: skip
    source = PostgresDecisionSource(database)
    found = [await source.decision(one) for one in (now, old, strange, identifier("none"), identifier("nothing"))]
    assert found[-1] is None
    names = [decision.feature_names for decision in found if decision is not None]
    assert names == [FEATURE_NAMES, ("a", "b"), None, FEATURE_NAMES]
    first, second, _, idle, _ = found
    assert first is not None
    assert second is not None
    assert idle is not None
    assert (first.side, first.intent, first.model_version, first.features) == ("buy", "open", "v1", features)
    assert (second.side, second.policy, second.model_version) == ("sell", "warmup", None)
    assert (idle.side, idle.intent, idle.probability_none) == (None, None, 0.8)
