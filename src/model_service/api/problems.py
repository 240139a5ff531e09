"""Errors as `application/problem+json` (RFC 9457) that also carry the platform's members `error`, `code`, `details`."""

from __future__ import annotations

from collections.abc import Mapping
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
    fields = [
        {"field": ".".join(str(part) for part in item["loc"]), "problem": item["msg"].removeprefix("Value error, ")}
        for item in found
    ]
    message = "; ".join(f"{field['field']}: {field['problem']}" for field in fields)
    return problem(422, "invalid_request", message, details={"fields": fields})


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
