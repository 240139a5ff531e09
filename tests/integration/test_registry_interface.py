"""The registry over HTTP and at the terminal, with real rows, real files and real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from model_service.api.app import create_app
from model_service.api.server import QuietServer
from model_service.config.clock import VirtualClock
from model_service.database import version_queries
from model_service.database.connection import Database
from model_service.database.feature_rows import CURRENT, register_feature_set
from model_service.main import bind
from model_service.models.features import FEATURE_NAMES
from tests.e2e.process import command, environment
from tests.integration import test_modes
from tests.integration.test_modes import NAME, House
from tests.integration.test_registry import keeper
from tests.support.api import AUTHORISED, KEY, FakeComparisons, FakeExplanations, FakeHealth, FakeLive, FakeReplays
from tests.support.builders import NOON

artifact, house = test_modes.artifact, test_modes.house
"""Its fixtures."""


@asynccontextmanager
async def serving(house: House, database: Database) -> AsyncIterator[int]:
    """The house over HTTP on a port of its own."""
    app = create_app(
        database=database, operations=house.operations, health=FakeHealth(), explanations=FakeExplanations(),
        replays=FakeReplays(), live=FakeLive(), verifications=keeper(house, database),
        comparisons=FakeComparisons(), api_key=KEY, clock=VirtualClock(NOON),
    )  # fmt: skip
    listener = bind("127.0.0.1", 0)
    server = QuietServer(QuietServer.quiet(app))
    work = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await work


@pytest_asyncio.fixture
async def port(house: House, database: Database) -> AsyncIterator[int]:
    await register_feature_set(database, CURRENT, NOON)
    await house.modes.restore(NOON)
    async with serving(house, database) as opened:
        yield opened


@pytest_asyncio.fixture
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=AUTHORISED) as opened:
        yield opened


async def post(client: httpx.AsyncClient, path: str, body: Mapping[str, Any], **headers: str) -> tuple[int, Any]:
    answer = await client.post(path, json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_history_says_who_when_and_why_everywhere(client: httpx.AsyncClient, house: House) -> None:
    first, second = await house.add(), await house.add(passed=False)
    await post(client, f"/api/v1/models/{first}", {"reason": "the first"})
    await post(client, f"/api/v1/models/{second}", {"force": True, "actor": "ada", "reason": "a trial"})
    rolled = await post(client, f"/api/v1/strategies/{NAME}/rollback", {"reason": "worse", "actor": "bob"})
    assert rolled == (200, {"strategy_id": NAME, "version": first})
    expected = [
        (first, second, "http:bob", "worse", False),
        (second, first, "http:ada", "a trial", True),
        (first, None, "http", "the first", False),
    ]

    def told(body: Any) -> list[tuple[Any, ...]]:
        assert all(datetime.fromisoformat(one["activated_at"]) == NOON for one in body["activations"])
        members = ("version", "previous_version", "actor", "reason", "forced")
        return [tuple(one[member] for member in members) for one in body["activations"]]

    for path in (
        "/api/v1/activations",
        f"/api/v1/strategies/{NAME}/activations",
        f"/api/v1/activations?strategy_id={NAME}",
    ):
        body = (await client.get(path)).json()
        assert (told(body), body["total"]) == (expected, 3), path
    assert told((await client.get(f"/api/v1/activations?version={second}")).json()) == expected[1:2]
    assert told((await client.get("/api/v1/activations?limit=1&offset=1")).json()) == expected[1:2]
    detail = (await client.get(f"/api/v1/models/{first}")).json()
    assert told(detail) == [expected[0], expected[2]]
    assert detail["features"] == list(FEATURE_NAMES)
    assert (await client.get("/api/v1/strategies/nobody/activations")).status_code == 404


async def test_an_expectation_that_is_wrong_is_409_with_what_is_true(client: httpx.AsyncClient, house: House) -> None:
    first, second = await house.add(), await house.add()
    path = f"/api/v1/models/{first}"
    status, problem = await post(client, path, {"expected_version": second})
    assert (status, problem["code"]) == (409, "active_version_changed")
    assert problem["details"] == {"expected_version": second, "active_version": None}
    assert (await post(client, path, {"expected_version": "none"}))[0] == 200
    status, problem = await post(client, f"/api/v1/models/{second}", {}, **{"If-Match": '"none"'})
    assert (status, problem["details"]["active_version"]) == (409, first)
    assert (await post(client, f"/api/v1/models/{second}", {}, **{"If-Match": f'"{first}"'}))[0] == 200
    rollback = f"/api/v1/strategies/{NAME}/rollback"
    assert (await post(client, rollback, {"reason": "r", "expected_version": first}))[0] == 409
    assert (await post(client, rollback, {"reason": "r"}, **{"If-Match": f'"{first}"'}))[0] == 409
    status, problem = await post(client, rollback, {"reason": "r", "expected_version": first}, **{"If-Match": second})
    assert (status, problem["code"]) == (400, "contradicting_expectations")
    status, _ = await post(client, rollback, {"reason": "r", "expected_version": second, "version": first})
    assert status == 200
    assert await house.speaking() == first
    assert (await post(client, rollback, {"reason": "r", "expected_version": "latest"}))[0] == 422


async def test_a_verification_over_http(client: httpx.AsyncClient, house: House) -> None:
    version = await house.add()
    path = f"/api/v1/models/{version}/verification"
    body = (await client.get(path)).json()
    assert (body["state"], {one["state"] for one in body["files"]}) == ("intact", {"intact"})
    assert all(one["found_bytes"] == one["recorded_bytes"] for one in body["files"])
    (house.files.folder(version) / "serving.onnx").unlink()
    body = (await client.get(path)).json()
    assert [one["fault"] for one in body["files"] if one["fault"]] == ["serving.onnx is missing"]
    assert body["state"] == "damaged"
    assert (await client.get("/api/v1/models/v99/verification")).status_code == 404


async def test_lists_are_filtered_by_type(client: httpx.AsyncClient, house: House) -> None:
    await house.add()
    for asked, total in (("xgboost", 1), ("sgd_classifier", 0)):
        assert (await client.get(f"/api/v1/models?model_type={asked}&strategy_id={NAME}")).json()["total"] == total
    assert (await client.get("/api/v1/models?model_type=oracle")).status_code == 422


# -- at the terminal


async def ask(port: int, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command("models", *arguments),
        env=environment(MODEL_SERVICE_PORT=port, MODEL_SERVICE_HOST="127.0.0.1", MODEL_SERVICE_API_KEY=KEY, USER="ada"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode(), errors.decode()


async def test_the_commands_from_promotion_to_verification(port: int, house: House) -> None:
    first, second = await house.add(), await house.add()
    assert await ask(port, "promote", first, "--reason", "the first") == (0, f"{first} is active\n", "")
    code, _, errors = await ask(port, "promote", second, "--expected-version", "none")
    assert (code, f"{first} is active for {NAME} now, not none" in errors) == (7, True)
    assert (await ask(port, "promote", second, "--expected-version", first))[0] == 0
    code, output, errors = await ask(port, "rollback", "--strategy", NAME, "--to", first, "--reason", "worse")
    assert (code, output) == (0, f"{first} is active\n"), errors
    code, output, _ = await ask(port, "history", "--strategy", NAME, "--json")
    activations = json.loads(output)["activations"]
    assert [one["version"] for one in activations] == [first, second, first]
    assert {one["actor"] for one in activations} == {"http:ada"}
    assert "worse" in (await ask(port, "history"))[1]
    code, output, _ = await ask(port, "diff", first, second, "--json")
    assert (code, json.loads(output)["versions"]) == (0, [first, second])
    assert f"{first} against {second}" in (await ask(port, "diff", first, second))[1]
    code, output, _ = await ask(port, "list", "--active", "--type", "xgboost")
    assert (first in output, second in output) == (True, False)

    code, output, errors = await ask(port, "verify")
    assert (code, output.splitlines()[-1], errors) == (0, "2 verified, 0 damaged", "")
    (house.files.folder(second) / "model.json").write_bytes(b"{}")
    code, output, _ = await ask(port, "verify", second, "--json")
    found = json.loads(output)
    assert (code, found["damaged"]) == (1, 1)
    (fault,) = [one["fault"] for one in found["versions"][0]["files"] if one["fault"]]
    assert fault.startswith("model.json has 2 bytes, the record says ")
    assert (await ask(port, "verify", "v99"))[0] == 3
    code, _, errors = await ask(port, "promote", second)
    assert (code, "verification names every file at fault" in errors) == (7, True)
    for _ in range(18):
        await house.add()
    code, _, errors = await ask(port, "verify")
    assert (code, errors.startswith("verifying 20 of 20: ")) == (1, True)


# -- at size

FILL = """
    INSERT INTO model_service.model_versions (
        id, version, strategy_id, model_type, file_path, files, feature_set, trained_at, training_duration_seconds,
        training_dataset_size, training_config, report, gate, gate_passed, created_at)
    SELECT gen_random_uuid(), 'v' || n, 'strategy_' || n % 100, 'xgboost', '/models/v' || n, '{}', 'f',
           now() - n * interval '1 minute', 1, 1000, '{}', '{}', '[]', true, now()
    FROM generate_series(1, 10000) AS n
"""
FILL_HISTORY = """
    INSERT INTO model_service.activations (strategy_id, version, previous_version, actor, reason, forced, activated_at)
    SELECT 'strategy_' || n % 100, 'v' || n % 10000, NULL, 'test', 'test', false, now()
    FROM generate_series(1, 50000) AS n
"""


@pytest.mark.parametrize(
    ("strategy_id", "version", "index"),
    [
        ("strategy_7", None, "activations_by_strategy"),
        (None, "v4711", "activations_by_version"),
        (None, None, "activations_pkey"),
    ],
)
async def test_history_is_read_through_an_index(
    database: Database, strategy_id: str | None, version: str | None, index: str
) -> None:
    await database.execute(FILL_HISTORY)
    await database.execute("ANALYZE model_service.activations")
    where, arguments = version_queries.activations_where(strategy_id, version)
    plan = await explain(database, version_queries.activations_page(where, len(arguments)), *arguments, 100, 0)
    assert index in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    ("strategy_id", "index"), [(None, "model_versions_by_time"), ("strategy_7", "model_versions_by_strategy")]
)
async def test_a_page_of_versions_is_read_through_an_index(
    database: Database, strategy_id: str | None, index: str
) -> None:
    await database.execute(FILL)
    await database.execute("ANALYZE model_service.model_versions")
    where, arguments = version_queries.versions_where(strategy_id, None, None)
    plan = await explain(database, version_queries.versions_page(where, len(arguments)), *arguments, 100, 0)
    assert index in plan
    assert "Seq Scan on model_versions" not in plan
    where, arguments = version_queries.versions_where("strategy_7", True, None)
    plan = await explain(database, version_queries.versions_page(where, len(arguments)), *arguments, 100, 0)
    assert "model_versions_one_active" in plan or "model_versions_by_strategy" in plan


async def explain(database: Database, statement: str, *arguments: object) -> str:
    rows = await database.fetch(f"EXPLAIN {statement}", *arguments)
    return "\n".join(row[0] for row in rows)
