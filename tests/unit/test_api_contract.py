"""openapi.json against the documented surface, written down here as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import make_app

DOCUMENTED_STATUSES = {
    "get /health": {"200", "503"},
    "get /api/v1/models": {"200", "401"},
    "get /api/v1/models/{version}": {"200", "401", "404"},
    "post /api/v1/models/{version}": {"200", "400", "401", "404"},
    "post /api/v1/models/{version}/activate": {"200", "400", "401", "404"},
    "get /api/v1/models/{version}/metrics": {"200", "401", "404"},
    "get /api/v1/training/status": {"200", "401"},
    "post /api/v1/training/trigger": {"202", "400", "401"},
}

METRIC_TYPES = ["classification", "regression", "trading_performance"]
VERSION = {"type": "string", "pattern": r"^v\d+(\.\d+)?$"}

DOCUMENTED_PARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "get /api/v1/models": {
        "strategy_id": {"type": "string"},
        "is_active": {"type": "boolean"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        "offset": {"type": "integer", "minimum": 0, "default": 0},
    },
    "get /api/v1/models/{version}": {"version": VERSION},
    "post /api/v1/models/{version}": {"version": VERSION},
    "post /api/v1/models/{version}/activate": {"version": VERSION},
    "get /api/v1/models/{version}/metrics": {
        "version": VERSION,
        "metric_type": {"type": "string", "enum": METRIC_TYPES},
    },
    "get /api/v1/training/status": {"strategy_id": {"type": "string"}},
}

ADDED_PARAMETERS = {
    "get /api/v1/models": {"model_type"},
    "post /api/v1/models/{version}": {"If-Match"},
    "post /api/v1/models/{version}/activate": {"If-Match"},
}
"""Ours beside the documented ones; nobody has to give them."""

UUID_TYPE = {"type": "string", "format": "uuid"}
TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
BOOLEAN = {"type": "boolean"}
OBJECT = {"type": "object"}
ARRAY = {"type": "array"}


def one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


SUMMARY: dict[str, dict[str, Any]] = {
    "id": UUID_TYPE,
    "version": TEXT,
    "model_type": one_of("xgboost", "random_forest", "logistic_regression", "sgd_classifier"),
    "strategy_id": TEXT,
    "trained_at": TIME,
    "training_duration_seconds": INTEGER,
    "training_dataset_size": INTEGER,
    "is_active": BOOLEAN,
    "is_warmup_mode": BOOLEAN,
    "quality_metrics_summary": OBJECT,
    "quality_metrics_summary.accuracy": {"type": "number", "minimum": 0, "maximum": 1},
    "quality_metrics_summary.sharpe_ratio": NUMBER,
}
METRIC: dict[str, dict[str, Any]] = {
    "id": UUID_TYPE,
    "metric_name": TEXT,
    "metric_value": NUMBER,
    "metric_type": one_of(*METRIC_TYPES),
    "evaluated_at": TIME,
    "evaluation_dataset_size": INTEGER,
    "metadata": OBJECT,
}
HEALTH: dict[str, dict[str, Any]] = {
    "status": one_of("healthy", "unhealthy"),
    "timestamp": TIME,
    "details.database": one_of("connected", "disconnected"),
    "details.message_queue": one_of("connected", "disconnected"),
    "details.model_storage": one_of("accessible", "inaccessible"),
    "details.active_models": INTEGER,
    "service": TEXT,
    "database_connected": BOOLEAN,
    "queue_connected": BOOLEAN,
    "checks": OBJECT,
}


def below(prefix: str, members: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{prefix}.{name}": expected for name, expected in members.items()}


DETAIL = {
    **SUMMARY,
    "file_path": TEXT,
    "training_config": OBJECT,
    "quality_metrics": ARRAY,
    **below("quality_metrics.[]", METRIC),
}

DOCUMENTED_MEMBERS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("get /health", "200"): HEALTH,
    ("get /health", "503"): HEALTH,
    ("get /api/v1/models", "200"): {
        "models": ARRAY,
        **below("models.[]", SUMMARY),
        "total": INTEGER,
        "limit": INTEGER,
        "offset": INTEGER,
    },
    ("get /api/v1/models/{version}", "200"): DETAIL,
    ("post /api/v1/models/{version}", "200"): DETAIL,
    ("post /api/v1/models/{version}/activate", "200"): DETAIL,
    ("get /api/v1/models/{version}/metrics", "200"): {
        "model_version_id": UUID_TYPE,
        "version": TEXT,
        "metrics": ARRAY,
        **below("metrics.[]", METRIC),
    },
    ("get /api/v1/training/status", "200"): {
        "is_training": BOOLEAN,
        "strategy_id": TEXT,
        "current_training.started_at": TIME,
        "current_training.estimated_completion": TIME,
        "current_training.progress_percent": {"type": "number", "minimum": 0, "maximum": 100},
        "last_training.completed_at": TIME,
        "last_training.version": TEXT,
        "last_training.duration_seconds": INTEGER,
        "next_scheduled_training": TIME,
    },
    ("post /api/v1/training/trigger", "202"): {
        "status": one_of("triggered", "queued"),
        "training_id": UUID_TYPE,
        "message": TEXT,
    },
}

DOCUMENTED_BODIES: dict[str, tuple[bool, dict[str, dict[str, Any]]]] = {
    "post /api/v1/models/{version}": (False, {"strategy_id": TEXT, "force": {"type": "boolean", "default": False}}),
    "post /api/v1/models/{version}/activate": (
        False,
        {"strategy_id": TEXT, "force": {"type": "boolean", "default": False}},
    ),
    "post /api/v1/training/trigger": (
        True,
        {"strategy_id": TEXT, "training_type": {**one_of("full", "incremental"), "default": "full"}},
    ),
}

REQUIRED_MEMBERS = {
    "HealthResponse": {"status", "timestamp"},
    "ModelVersionSummary": {"id", "version", "model_type", "trained_at", "is_active"},
    "QualityMetric": {"id", "metric_name", "metric_value", "metric_type", "evaluated_at"},
    "TrainingStatus": {"is_training"},
    "TrainingAccepted": {"status", "training_id"},
    "TrainingRequest": {"strategy_id"},
    "Problem": {"error", "code"},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app().openapi()


@pytest.mark.parametrize("operation", DOCUMENTED_STATUSES)
def test_every_documented_operation_answers_with_the_documented_statuses(
    document: dict[str, Any], operation: str
) -> None:
    assert set(find(document, operation)["responses"]) >= DOCUMENTED_STATUSES[operation]


@pytest.mark.parametrize("operation", DOCUMENTED_PARAMETERS)
def test_parameters_are_the_documented_ones(document: dict[str, Any], operation: str) -> None:
    found = find(document, operation)["parameters"]
    parameters = {item["name"]: item["schema"] for item in found}
    expected, added = DOCUMENTED_PARAMETERS[operation], ADDED_PARAMETERS.get(operation, set())
    assert set(parameters) == set(expected) | added
    assert not [item["name"] for item in found if item["name"] in added and item["required"]]
    for name, schema in expected.items():
        assert parameters[name].items() >= schema.items(), name


@pytest.mark.parametrize(("operation", "status"), DOCUMENTED_MEMBERS)
def test_answers_have_the_documented_members(document: dict[str, Any], operation: str, status: str) -> None:
    answer = find(document, operation)["responses"][status]["content"]["application/json"]["schema"]
    for member, expected in DOCUMENTED_MEMBERS[operation, status].items():
        assert descend(document, answer, member).items() >= expected.items(), member


@pytest.mark.parametrize("operation", DOCUMENTED_BODIES)
def test_bodies_are_the_documented_ones(document: dict[str, Any], operation: str) -> None:
    required, members = DOCUMENTED_BODIES[operation]
    body = find(document, operation)["requestBody"]
    assert body.get("required", False) is required
    for member, expected in members.items():
        schema = descend(document, body["content"]["application/json"]["schema"], member)
        assert schema.items() >= expected.items(), member


@pytest.mark.parametrize("name", REQUIRED_MEMBERS)
def test_documented_required_members_are_required(document: dict[str, Any], name: str) -> None:
    assert set(document["components"]["schemas"][name]["required"]) >= REQUIRED_MEMBERS[name]


def test_every_error_is_a_problem_and_nothing_else_is(document: dict[str, Any]) -> None:
    own_bodies = {("/health", "503"), ("/readyz", "503")}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                is_problem = list(answer["content"]) == ["application/problem+json"]
                assert is_problem is (int(status) >= 400 and (path, status) not in own_bodies), (path, status)
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_all_but_the_probes_need_the_key(document: dict[str, Any]) -> None:
    without = {
        path for path, item in document["paths"].items() for operation in item.values() if "security" not in operation
    }
    assert without == {"/health", "/livez", "/readyz"}
    assert document["components"]["securitySchemes"]["ApiKey"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }


def test_every_schema_has_a_title_and_a_description(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["title"] == name
        assert schema["description"]


def test_operation_identifiers_are_unique(document: dict[str, Any]) -> None:
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(identifiers)) == len(identifiers)


def find(document: dict[str, Any], operation: str) -> dict[str, Any]:
    method, path = operation.split()
    found: dict[str, Any] = document["paths"][path][method]
    return found


def descend(document: dict[str, Any], schema: dict[str, Any], member: str) -> dict[str, Any]:
    """The schema of a member, such as `models.[].id`, with references followed and null passed over."""
    schema = resolve(document, schema)
    for part in member.split("."):
        inner = schema["items"] if part == "[]" else schema["properties"][part]
        schema = resolve(document, inner)
    return schema


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    variants = [variant for variant in schema.get("anyOf", []) if variant.get("type") != "null"]
    if variants:
        assert len(variants) == 1
        return resolve(document, variants[0])
    if "$ref" in schema:
        named: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return named
    return schema
