"""What surrounds every request: security headers, an answer to unforeseen errors, a limit on bodies."""

from __future__ import annotations

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.api.problems import problem

log = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 64 * 1024
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class SecurityHeaders:
    """Adds the security headers to each response that does not set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class LastResort:
    """Logs an unforeseen error in full and answers 500 without any of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            log.exception("http_request_failed", method=scope["method"], path=scope["path"], error=type(error).__name__)
            if started:
                raise
            message = "the service failed to answer; its log has the cause under http_request_failed"
            await problem(500, "internal_error", message)(scope, receive, send)


class BodyLimit:
    """Answers 413 to a body over the limit, whether or not it announces its length.

    A body within the limit is held in memory before the application sees it: it is small, and so no later reader
    has to count.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = None if self._announces_too_much(scope) else await self._read(receive)
        if body is None:
            message = f"the body is over {self._limit} bytes, which is the most that is read here"
            await problem(413, "body_too_large", message, headers={"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _announces_too_much(self, scope: Scope) -> bool:
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        return any(length.isdigit() and (len(length) > 18 or int(length) > self._limit) for length in lengths)

    async def _read(self, receive: Receive) -> list[Message] | None:
        """The messages of the body, up to its end or to the client's leaving; None when it is too long."""
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._limit:
                return None
            if not message.get("more_body", False):
                return messages


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replay() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replay
