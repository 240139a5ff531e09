"""X-API-Key on everything but a few open paths, checked before a byte of the body is read."""

from __future__ import annotations

import hmac
from hashlib import sha256

from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Receive, Scope, Send

from model_service.api.problems import problem

HEADER = "X-API-Key"
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/openapi.json"})
ACTOR = "http"
"""Who the audit log names for a change over HTTP: there is one key, so no more is known."""

documented_key = APIKeyHeader(name=HEADER, scheme_name="ApiKey", auto_error=False)
"""Writes the key into openapi.json; the check itself is `RequireApiKey`."""


class RequireApiKey:
    """Answers 401 to a request without the key, whatever else it holds.

    Args:
        api_key: the key in clear; only its hash is kept.

    Raises:
        ValueError: when `api_key` is empty, since an empty header would then pass.
    """

    def __init__(self, app: ASGIApp, *, api_key: str) -> None:
        if not api_key:
            raise ValueError("the API key is empty; set MODEL_SERVICE_API_KEY to a secret of at least one character")
        self._app = app
        self._expected = sha256(api_key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        message = f"the header {HEADER} is missing or does not hold the key of this service"
        response = problem(401, "unauthorized", message, headers={"WWW-Authenticate": f'ApiKey header="{HEADER}"'})
        await response(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == HEADER.lower().encode()]
        return len(given) == 1 and hmac.compare_digest(sha256(given[0]).digest(), self._expected)
