"""A small ws-gateway: subscriptions and the sync of balances over REST, on a real socket, with documented faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Answer = tuple[int, str, str]
"""Status, content type, body."""
UNAUTHORIZED: Answer = (401, "application/json", json.dumps({"error": "no", "code": "UNAUTHORIZED", "details": None}))
CHANNELS_WITH_SYMBOL = ("trades", "ticker", "orderbook", "kline", "funding")


def as_documented(body: dict[str, Any]) -> Answer:
    """200 in place of 201, the same identifier for the same topic, 422 for a channel that there is not."""
    channel, symbol = body.get("channel_type"), body.get("symbol")
    if channel not in CHANNELS_WITH_SYMBOL or "requesting_service" not in body:
        return 422, "application/json", json.dumps({"detail": "unknown channel or missing member"})
    if not symbol:
        return 400, "application/json", json.dumps({"detail": {"error": "symbol", "code": "MISSING_SYMBOL"}})
    row = {"id": f"{channel}-{symbol}", "topic": f"{channel}.{symbol}", "is_active": True}
    return 200, "application/json", json.dumps({**body, **row})


def says(status: int, text: str = "Internal Server Error") -> Callable[[dict[str, Any]], Answer]:
    """Always that, as plain text."""
    return lambda _: (status, "text/plain", text)


async def syncs_nothing() -> Answer:
    """200, although no coin was written: as on an account whose rows the table refuses."""
    return 200, "application/json", json.dumps({"updated_coins": [], "updated_count": 0})


async def sync_fails() -> Answer:
    """502, as when the exchange does not answer the gateway."""
    detail = {"error": "Failed to sync balances", "code": "BALANCE_SYNC_FAILED"}
    return 502, "application/json", json.dumps({"detail": detail})


class SmallGateway:
    """Remembers what it was asked; `answer` and `sync` may be changed at any time.

    None for either: it takes the request and says nothing.
    """

    def __init__(self, key: str | None = "secret") -> None:
        self.key = key
        self.answer: Callable[[dict[str, Any]], Answer] | None = as_documented
        self.sync: Callable[[], Awaitable[Answer]] | None = syncs_nothing
        self.requests: list[dict[str, Any]] = []
        self.syncs = 0
        self.port = 0

    @property
    def topics(self) -> set[tuple[str, str]]:
        """Channels and symbols that were asked for."""
        return {(request["channel_type"], request["symbol"]) for request in self.requests}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        is_sync = head[0] == "POST /api/v1/balances/sync HTTP/1.1"
        if is_sync:
            self.syncs += 1
        else:
            self.requests.append(body)
        if (self.sync if is_sync else self.answer) is not None:
            status, kind, text = await self._synced(headers) if is_sync else self._reply(head[0], headers, body)
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()
            )
            writer.close()
        else:
            await reader.read()

    def _reply(self, request_line: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        if request_line != "POST /api/v1/subscriptions HTTP/1.1":
            return 404, "application/json", "{}"
        if headers.get("x-api-key") != self.key:
            return UNAUTHORIZED
        assert self.answer is not None
        return self.answer(body)

    async def _synced(self, headers: dict[str, str]) -> Answer:
        if headers.get("x-api-key") != self.key:
            return UNAUTHORIZED
        assert self.sync is not None
        return await self.sync()


@asynccontextmanager
async def small_gateway(key: str | None = "secret") -> AsyncIterator[SmallGateway]:
    """It, listening on loopback."""
    gateway = SmallGateway(key)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()
