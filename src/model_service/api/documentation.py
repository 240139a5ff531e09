"""openapi.json: which errors a path answers with, and that they are `application/problem+json`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from model_service.api.schemas import Problem

EXPLANATIONS = {
    400: "Refused: the body is not JSON, a file is missing, the quality or the number of rows is too low",
    401: "The key is missing or wrong",
    404: "There is no such thing",
    409: "The present state forbids it",
    413: "The body is too large",
    422: "A parameter or member is missing or not allowed",
    503: "Something that is needed is away; try again later",
}
FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
DESCRIPTION = (
    "Signals, training, versions and their promotion. Every path but /health, /livez, /readyz and this description "
    "needs the header X-API-Key. Times are ISO 8601 in UTC. Errors are application/problem+json."
)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The argument `responses` of a route that needs the key: 401, 503 and `statuses`."""
    return {status: {"model": Problem, "description": EXPLANATIONS[status]} for status in sorted({401, 503, *statuses})}


def install(app: FastAPI) -> None:
    """Make `app.openapi()` describe errors with their real media type."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"] = _real_responses(operation["responses"])
    for name in FASTAPI_ERRORS:
        schema["components"]["schemas"].pop(name, None)
    return schema


def _real_responses(responses: dict[str, Any]) -> dict[str, Any]:
    """Without FastAPI's own 422, which nothing here sends, and with the media type of problems."""
    real = {status: answer for status, answer in sorted(responses.items()) if _schema(answer) != FASTAPI_ERRORS[0]}
    for answer in real.values():
        if _schema(answer) == "Problem":
            answer["content"] = {"application/problem+json": answer["content"]["application/json"]}
    return real


def _schema(answer: dict[str, Any]) -> str:
    reference: str = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2]
