"""What needs no database: probes, metrics, and how wishes reach the operations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import prometheus_client
import pytest

from model_service.api.decisions import DecisionReason
from model_service.api.ports import HealthState
from model_service.api.schemas import QualityMetricsSummary, without_non_finite
from model_service.api.training import _estimated_completion
from tests.support.api import HEALTHY, NOW, RUN_ID, FakeHealth, FakeOperations, client_of, make_app


async def test_health_of_a_healthy_service() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "healthy",
        "timestamp": "2026-11-23T15:52:43Z",
        "details": {
            "database": "connected",
            "message_queue": "connected",
            "model_storage": "accessible",
            "active_models": 2,
        },
        "service": "model-service",
        "database_connected": True,
        "queue_connected": True,
        "checks": {"database": True, "message_queue": True, "model_storage": True},
        "notices": [],
    }


async def test_what_is_switched_off_is_named_and_is_no_lack_of_health() -> None:
    notice = "reconciliation with the table orders is switched off: public.orders has no column fees"
    async with client_of(make_app(health=FakeHealth(replace(HEALTHY, notices=(notice,))))) as client:
        answer, ready = await client.get("/health"), await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["notices"]) == (200, "healthy", [notice])
    assert ready.status_code == 200


@pytest.mark.parametrize(
    ("state", "lost", "word"),
    [
        (replace(HEALTHY, database=False), "database", "disconnected"),
        (replace(HEALTHY, message_queue=False), "message_queue", "disconnected"),
        (replace(HEALTHY, model_storage=False), "model_storage", "inaccessible"),
    ],
)
async def test_health_is_503_when_one_dependency_is_lost(state: HealthState, lost: str, word: str) -> None:
    async with client_of(make_app(health=FakeHealth(state))) as client:
        answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["details"][lost] == word
    assert answer.json()["checks"][lost] is False


async def test_readiness_names_the_reasons() -> None:
    health = FakeHealth(replace(HEALTHY, ready=False, reasons=("the broker is away",)))
    async with client_of(make_app(health=health)) as client:
        waiting = await client.get("/readyz")
        health.state = HEALTHY
        ready = await client.get("/readyz")
        alive = await client.get("/livez")
    assert (waiting.status_code, waiting.json()) == (503, {"ready": False, "reasons": ["the broker is away"]})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


async def test_metrics_are_those_of_the_default_registry() -> None:
    counter = prometheus_client.Counter("test_api_answers", "A counter of this test")
    try:
        counter.inc()
        async with client_of(make_app()) as client:
            answer = await client.get("/metrics")
    finally:
        prometheus_client.REGISTRY.unregister(counter)
    assert answer.headers["content-type"].startswith("text/plain")
    assert "test_api_answers_total 1.0" in answer.text


@pytest.mark.parametrize("state", ["triggered", "queued"])
async def test_a_training_is_accepted_with_the_path_to_follow_it_at(state: str) -> None:
    operations = FakeOperations(state="queued" if state == "queued" else "triggered")
    async with client_of(make_app(operations=operations)) as client:
        answer = await client.post(
            "/api/v1/training/trigger", json={"strategy_id": "momentum", "training_type": "incremental"}
        )
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/training/runs/{RUN_ID}"
    assert answer.json() == {
        "status": state,
        "training_id": str(RUN_ID),
        "message": f"incremental training of momentum was {state}",
    }
    assert operations.calls == [("request_training", "momentum", "incremental", "http")]


async def test_training_is_full_unless_said_otherwise_and_unknown_members_are_passed_over() -> None:
    operations = FakeOperations()
    async with client_of(make_app(operations=operations)) as client:
        await client.post("/api/v1/training/trigger", json={"strategy_id": "momentum", "priority": 1})
    assert operations.calls == [("request_training", "momentum", "full", "http")]


def test_unknown_quality_is_left_out_and_not_null() -> None:
    assert QualityMetricsSummary().model_dump_json() == "{}"
    assert QualityMetricsSummary(accuracy=0.5).model_dump_json() == '{"accuracy":0.5}'


def test_nan_becomes_null_wherever_it_stands() -> None:
    nan = float("nan")
    assert without_non_finite({"a": [nan, {"b": float("inf")}], "c": 1.5}) == {"a": [None, {"b": None}], "c": 1.5}
    reason = DecisionReason(
        reason="paused", occurrences=1, last_minute=NOW, last_asset="BTCUSDT", last_value=nan, last_threshold=nan,
        words="paused", setting=None,
    )  # fmt: skip
    assert (reason.last_value, reason.last_threshold) == (None, None)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, None),
        (0.04, None),
        (0.5, NOW + timedelta(seconds=10)),
        (1.0, NOW),
    ],
)
def test_completion_is_estimated_from_the_pace_so_far(progress: float, expected: datetime | None) -> None:
    assert _estimated_completion(NOW - timedelta(seconds=10), progress, NOW) == expected
