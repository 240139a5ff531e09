"""X-API-Key: what is open, what is not, and that no key, however odd, breaks anything."""

from __future__ import annotations

import pytest

from model_service.api.app import create_app
from model_service.config.clock import SystemClock
from tests.support.api import (
    KEY,
    FakeComparisons,
    FakeExplanations,
    FakeHealth,
    FakeLive,
    FakeOperations,
    FakeReplays,
    FakeVerifications,
    client_of,
    make_app,
    unreachable_database,
)

CLOSED = [
    ("GET", "/metrics"),
    ("GET", "/api/v1/models"),
    ("GET", "/api/v1/models/v1"),
    ("POST", "/api/v1/models/v1"),
    ("POST", "/api/v1/models/v1/activate"),
    ("GET", "/api/v1/models/v1/metrics"),
    ("GET", "/api/v1/models/v1/verification"),
    ("GET", "/api/v1/activations"),
    ("GET", "/api/v1/strategies/momentum/activations"),
    ("GET", "/api/v1/training/status"),
    ("POST", "/api/v1/training/trigger"),
    ("GET", "/api/v1/training/runs"),
    ("GET", "/api/v1/training/runs/c9edf539-a9e3-4e16-a63e-fd5125d8bda5"),
    ("GET", "/api/v1/strategies"),
    ("POST", "/api/v1/strategies/reload"),
    ("GET", "/api/v1/strategies/momentum/definition"),
    ("POST", "/api/v1/strategies/momentum/pause"),
    ("POST", "/api/v1/strategies/momentum/resume"),
    ("POST", "/api/v1/strategies/momentum/rollback"),
    ("GET", "/api/v1/strategies/momentum/decisions"),
    ("GET", "/api/v1/strategies/momentum/quality"),
    ("GET", "/api/v1/models/v1/comparison/v2"),
    ("POST", "/api/v1/stop"),
    ("POST", "/api/v1/resume"),
    ("GET", "/api/v1/signals"),
    ("GET", "/api/v1/signals/c9edf539-a9e3-4e16-a63e-fd5125d8bda5"),
    ("GET", "/api/v1/signals/c9edf539-a9e3-4e16-a63e-fd5125d8bda5/explanation"),
    ("GET", "/api/v1/signals/c9edf539-a9e3-4e16-a63e-fd5125d8bda5/replay"),
    ("GET", "/api/v1/dead-letters"),
    ("GET", "/nothing/here"),
    ("GET", "/"),
    ("GET", "/health/"),
    ("GET", "//health"),
    ("OPTIONS", "/api/v1/models"),
]
BAD_KEYS = {
    "none": [],
    "empty": [(b"x-api-key", b"")],
    "wrong": [(b"x-api-key", b"wrong")],
    "a beginning": [(b"x-api-key", KEY[:-1].encode())],
    "another case": [(b"x-api-key", KEY.upper().encode())],
    "not ASCII": [(b"x-api-key", "ключ".encode())],
    "not UTF-8": [(b"x-api-key", b"\xff\xfe\x80")],
    "given twice": [(b"x-api-key", KEY.encode()), (b"x-api-key", b"wrong")],
    "in another header": [(b"authorization", KEY.encode())],
}


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_nothing_but_the_open_paths_answers_without_the_key(method: str, path: str) -> None:
    operations = FakeOperations()
    async with client_of(make_app(operations=operations), authorised=False) as client:
        answer = await client.request(method, f"http://service.test{path}")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"]
    assert operations.calls == []


def test_the_matrix_above_names_every_path() -> None:
    described = {(method.upper(), path) for path, item in make_app().openapi()["paths"].items() for method in item} - {
        ("GET", "/health"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
    }
    assert len(described) == len([path for _, path in CLOSED if path.startswith(("/api", "/metrics"))]) - 1


@pytest.mark.parametrize("headers", BAD_KEYS.values(), ids=BAD_KEYS)
async def test_every_other_key_is_401(headers: list[tuple[bytes, bytes]]) -> None:
    async with client_of(make_app(), authorised=False) as client:
        answer = await client.get("/api/v1/models", headers=headers)
    assert answer.status_code == 401
    assert KEY not in answer.text


async def test_a_key_beyond_ascii_works() -> None:
    app = create_app(
        database=unreachable_database(),
        operations=FakeOperations(),
        health=FakeHealth(),
        explanations=FakeExplanations(),
        replays=FakeReplays(),
        live=FakeLive(),
        verifications=FakeVerifications(),
        comparisons=FakeComparisons(),
        api_key="ключ",
        clock=SystemClock(),
    )
    async with client_of(app, authorised=False) as client:
        answer = await client.get("/metrics", headers=[(b"x-api-key", "ключ".encode())])
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/openapi.json"])
async def test_probes_and_the_description_are_open(path: str) -> None:
    async with client_of(make_app(), authorised=False) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("content", [b"{", b"[" * 60_000, b"x" * 100_000, b"\xff"])
async def test_the_key_is_checked_before_the_body(content: bytes) -> None:
    async with client_of(make_app(), authorised=False) as client:
        answer = await client.post("/api/v1/training/trigger", content=content)
    assert answer.status_code == 401


def test_an_empty_key_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="MODEL_SERVICE_API_KEY"):
        create_app(
            database=unreachable_database(),
            operations=FakeOperations(),
            health=FakeHealth(),
            explanations=FakeExplanations(),
            replays=FakeReplays(),
            live=FakeLive(),
            verifications=FakeVerifications(),
            comparisons=FakeComparisons(),
            api_key="",
            clock=SystemClock(),
        )
