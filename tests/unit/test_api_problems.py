"""Everything that can go wrong with a request, and the problem that answers it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog.testing

from model_service.services.errors import NotFound, OperationRefused, Refused, Unavailable
from tests.support.api import FakeOperations, client_of, make_app

TRIGGER = "/api/v1/training/trigger"
MEMBERS = {"type", "title", "status", "detail", "error", "code", "details"}
CANARY = "canary-5f1c"


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == MEMBERS
    assert body["status"] == status
    assert body["error"] == body["detail"] != ""
    assert body["type"] == f"urn:model-service:problem:{code}"


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/models/", "/api/v1/models/v1/x", "/docs", "/redoc"])
async def test_an_unknown_path_is_404(path: str) -> None:
    async with client_of(make_app()) as client:
        assert_problem(await client.get(path), 404, "not_found")


async def test_a_wrong_method_is_405_and_says_which_are_right() -> None:
    async with client_of(make_app()) as client:
        answer = await client.patch("/api/v1/models/v1")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "version", ["1", "v", "v1.", "v1.2.3", "V1", "v1%00", "%00", "v1%0A", "..%2F..%2Fetc%2Fpasswd", "v-1", "latest"]
)
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", ""), ("POST", "/activate"), ("GET", "/metrics")])
async def test_what_is_no_version_is_404(method: str, rest: str, version: str) -> None:
    operations = FakeOperations()
    async with client_of(make_app(operations=operations)) as client:
        assert_problem(await client.request(method, f"/api/v1/models/{version}{rest}"), 404, "not_found")
    assert operations.calls == []


@pytest.mark.parametrize("path", ["/api/v1/training/runs/not-a-uuid", "/api/v1/strategies/a%00b/decisions"])
async def test_a_path_that_cannot_name_anything_is_404(path: str) -> None:
    async with client_of(make_app()) as client:
        assert_problem(await client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/{subject}?{query}"
        for subject in ("models", "signals", "training/runs", "dead-letters")
        for query in ("limit=0", "limit=1001", "limit=-1", "limit=ten", "offset=-1", "limit=1e2", "offset=NaN")
    ]
    + [f"/api/v1/{subject}?strategy_id=a%00b" for subject in ("models", "signals", "training/runs", "training/status")]
    + [
        "/api/v1/models?is_active=maybe",
        "/api/v1/models/v1/metrics?metric_type=other",
        "/api/v1/strategies/momentum/decisions?since=yesterday",
        "/api/v1/strategies/momentum/decisions?since=0001-01-01T00:00:00%2B14:00",
        "/api/v1/strategies/momentum/decisions?since=9999-12-31T23:59:59-14:00",
        "/api/v1/strategies/momentum/decisions?last_seconds=0",
        "/api/v1/strategies/momentum/decisions?last_seconds=2678401",
        "/api/v1/strategies/momentum/decisions?asset=",
        "/api/v1/strategies/momentum/decisions?asset=a%00b",
        "/api/v1/strategies/momentum/decisions?asset=AAAAAAAAAAAAAAAAAAAAA",
    ],
)
async def test_a_parameter_out_of_bounds_is_422(path: str) -> None:
    async with client_of(make_app()) as client:
        assert_problem(await client.get(path), 422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        {"strategy_id": None},
        {"strategy_id": 7},
        {"strategy_id": "a\x00b"},
        {"strategy_id": "\ud800"},
        {"strategy_id": "momentum", "training_type": CANARY},
        {"strategy_id": [CANARY], "training_type": {CANARY: CANARY}},
    ],
)
async def test_a_wrong_body_is_422_without_an_echo(body: Any) -> None:
    operations = FakeOperations()
    async with client_of(make_app(operations=operations)) as client:
        content = json.dumps(body)  # escapes what UTF-8 cannot hold, unlike the client's own encoder
        answer = await client.post(TRIGGER, content=content, headers={"content-type": "application/json"})
    assert_problem(answer, 422, "invalid_request")
    assert CANARY not in answer.text
    assert operations.calls == []


@pytest.mark.parametrize("force", ["yes", 1, "true", None])
async def test_force_must_be_a_plain_yes_or_no(force: Any) -> None:
    async with client_of(make_app()) as client:
        assert_problem(await client.post("/api/v1/models/v1", json={"force": force}), 422, "invalid_request")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "a\x00"}])
@pytest.mark.parametrize("change", ["pause", "resume", "rollback"])
async def test_a_change_needs_a_reason(change: str, body: Any) -> None:
    operations = FakeOperations()
    async with client_of(make_app(operations=operations)) as client:
        answer = await client.post(f"/api/v1/strategies/momentum/{change}", json=body)
    assert_problem(answer, 422, "invalid_request")
    assert operations.calls == []


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 60_000, b'{"a":' * 10_000, b"\xff\xfe{", b'{"strategy_id": "x"} trailing', b"NaN,"]
)
async def test_what_is_not_json_is_400(content: bytes) -> None:
    async with client_of(make_app()) as client:
        answer = await client.post(TRIGGER, content=content, headers={"content-type": "application/json"})
    assert_problem(answer, 400, "malformed_body")


async def test_a_body_over_the_limit_is_413() -> None:
    async with client_of(make_app()) as client:
        assert_problem(await client.post(TRIGGER, content=b" " * 65_537), 413, "body_too_large")


async def test_a_body_that_hides_its_length_is_413() -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1024

    async with client_of(make_app()) as client:
        answer = await client.post(TRIGGER, content=chunks())
    assert_problem(answer, 413, "body_too_large")
    assert sent < 100


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b'{"strategy_id": "momentum"}'.ljust(65_536)
    async with client_of(make_app()) as client:
        answer = await client.post(TRIGGER, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 202


REFUSALS: dict[int, OperationRefused] = {
    400: Refused("quality_below_threshold", "accuracy 0.61 is under 0.75", {"accuracy": 0.61}),
    404: NotFound("unknown_version", "there is no version v9"),
    409: Refused("not_paused", "momentum is not paused", kind="conflict"),
    503: Unavailable("storage_away", "the folder of model files cannot be read"),
}


@pytest.mark.parametrize(("status", "refusal"), REFUSALS.items())
@pytest.mark.parametrize("path", ["/api/v1/models/v9", "/api/v1/models/v9/activate"])
async def test_a_refused_operation_keeps_its_code_and_details(
    path: str, status: int, refusal: OperationRefused
) -> None:
    async with client_of(make_app(operations=FakeOperations(error=refusal))) as client:
        answer = await client.post(path)
    assert_problem(answer, status, refusal.code)
    assert answer.json()["details"] == refusal.details
    assert answer.json()["error"] == refusal.message
    assert ("retry-after" in answer.headers) is (status == 503)


async def test_details_that_json_does_not_know_are_still_sent() -> None:
    refusal = Refused("odd", "odd numbers", {"value": float("nan"), "of": {1, 2}})
    async with client_of(make_app(operations=FakeOperations(error=refusal))) as client:
        answer = await client.post("/api/v1/models/v9")
    assert answer.json()["details"] == {"value": None, "of": [1, 2]}


async def test_training_of_an_unknown_strategy_is_400() -> None:
    operations = FakeOperations(error=NotFound("unknown_strategy", "there is no strategy"))
    async with client_of(make_app(operations=operations)) as client:
        assert_problem(await client.post(TRIGGER, json={"strategy_id": "nobody"}), 400, "unknown_strategy")


async def test_a_database_that_is_away_is_503_and_worth_another_try() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/api/v1/models")
    assert_problem(answer, 503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "192.0.2.1" not in answer.text


async def test_an_unforeseen_error_is_500_without_its_text_and_is_logged() -> None:
    app = make_app(operations=FakeOperations(error=RuntimeError(CANARY)))
    with structlog.testing.capture_logs() as logs:
        async with client_of(app) as client:
            answer = await client.post("/api/v1/models/v1")
    assert_problem(answer, 500, "internal_error")
    assert CANARY not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [(entry["event"], entry["path"]) for entry in logs] == [("http_request_failed", "/api/v1/models/v1")]


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/nothing", 404), ("/metrics", 200)])
async def test_security_headers_stand_on_every_answer(path: str, status: int) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get(path, headers={"Origin": "https://elsewhere.test"})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        (
            "GET",
            "/api/v1/strategies/momentum/decisions?since=yesterday",
            None,
            "query.since: a time is needed, such as 2026-03-02T12:00:00Z",
        ),
        ("GET", "/api/v1/signals?limit=ten", None, "query.limit: a whole number is needed"),
        (
            "POST",
            "/api/v1/stop",
            None,
            'body: a body in JSON is needed, such as {"reason": ...}; /openapi.json has its members',
        ),
        ("POST", "/api/v1/stop", {}, "body.reason: it is missing, and is needed"),
        ("POST", "/api/v1/stop", {"reason": 5}, "body.reason: a text is needed"),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(method: str, path: str, body: Any, said: str) -> None:
    async with client_of(make_app()) as client:
        answer = await client.request(method, path, json=body)
    assert_problem(answer, 422, "invalid_request")
    assert answer.json()["detail"] == said
