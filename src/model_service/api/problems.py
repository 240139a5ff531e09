"""Errors as `application/problem+json` (RFC 9457) that also carry the platform's members `error`, `code`, `details`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from model_service.api.schemas import without_non_finite
from model_service.database.connection import DatabaseUnavailable
from model_service.services.errors import NotFound, OperationRefused, Refused, Unavailable

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CODES = {
    HTTPStatus.BAD_REQUEST: "malformed_body",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
}

WORDS = {
    "datetime": "a time is needed, such as 2026-03-02T12:00:00Z",
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "string_type": "a text is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed",
    "extra_forbidden": "there is no such member; /openapi.json lists those there are",
}
"""By the kind of an error, what is allowed."""


def problem(
    status: int,
    code: str,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A response with the members of RFC 9457 and of the platform's `Error`.

    Example:
        >>> problem(404, "not_found", "there is no version v9").media_type
        'application/problem+json'
    """
    body = {
        "type": f"urn:model-service:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "error": message,
        "code": code,
        "details": None if details is None else dict(details),
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every known error of `app` with a problem. The unknown ones belong to `middleware.LastResort`."""
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(OperationRefused, _operation_refused)
    app.add_exception_handler(DatabaseUnavailable, _database_unavailable)


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return problem(status, CODES.get(status, "http_error"), _sentence(status), headers=headers)


def _sentence(status: HTTPStatus) -> str:
    return {
        HTTPStatus.BAD_REQUEST: "the body cannot be read as JSON",
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /openapi.json lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer to this method; the header Allow lists those it does",
    }.get(status, status.phrase)


def _allowed_methods(request: Request) -> list[str]:
    """Starlette names the methods of the first matching route only; a path may have several routes."""
    routes = request.app.router.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Says where and what is allowed, and never repeats what was sent (it may be a secret)."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["loc"][0] == "path" for item in found):
        return problem(404, "not_found", "the path does not name anything that can exist here")
    if any(item["type"] == "json_invalid" for item in found):
        return problem(400, "malformed_body", _sentence(HTTPStatus.BAD_REQUEST))
    told = [item for item in found if item["type"] != "none_required"]
    fields = [{"field": _field(item["loc"]), "problem": _in_words(item, request)} for item in told]
    message = "; ".join(f"{field['field']}: {field['problem']}" for field in fields)
    return problem(422, "invalid_request", message, details={"fields": fields})


def _field(place: Sequence[Any]) -> str:
    """Where it is, without what the validator calls its own parts."""
    return ".".join(str(part) for part in place if not any(sign in str(part) for sign in "[("))


def _in_words(item: Mapping[str, Any], request: Request) -> str:
    if item["type"] == "missing":
        return _body_needed(request) if tuple(item["loc"]) == ("body",) else "it is missing, and is needed"
    if item["type"].startswith("datetime"):
        return WORDS["datetime"]
    return WORDS.get(item["type"], str(item["msg"]).removeprefix("Value error, "))


def _body_needed(request: Request) -> str:
    body = getattr(request.scope.get("route"), "body_field", None)
    fields = getattr(getattr(getattr(body, "field_info", None), "annotation", None), "model_fields", {})
    needed = [name for name, field in fields.items() if field.is_required()]
    example = ", ".join(f'"{name}": ...' for name in needed)
    return f"a body in JSON is needed, such as {{{example}}}; /openapi.json has its members"


async def _operation_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OperationRefused)
    status = _status_of(error)
    headers = _retry_later() if status == 503 else None
    details = without_non_finite(jsonable_encoder(error.details))
    return problem(status, error.code, error.message, details=details, headers=headers)


def _status_of(error: OperationRefused) -> int:
    match error:
        case NotFound():
            return 404
        case Unavailable():
            return 503
        case Refused(kind="conflict"):
            return 409
        case _:
            return 400


async def _database_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("http_database_unavailable", path=request.url.path, error=str(error))
    message = f"the database is away; try again in {RETRY_AFTER_SECONDS} seconds"
    return problem(503, "database_unavailable", message, headers=_retry_later())


def _retry_later() -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_SECONDS)}
