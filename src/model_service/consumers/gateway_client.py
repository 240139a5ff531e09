"""One request to ws-gateway's REST interface: plain HTTP/1.1 over a connection of its own.

No HTTP client is among the dependencies, and this needs one POST now and then. It runs in the event loop, so that a
stop ends it at once, which a thread would not let it do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

MOST_ANSWERED_BYTES = 65_536
SHOWN_CHARACTERS = 200


class GatewayUnreachable(Exception):  # noqa: N818 - the state of the world, not a programming error
    """No answer, or none that is HTTP. The text says why."""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """Status and the beginning of the body, as text."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """Any 2xx: the gateway answers 200 where its specification says 201."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """Where the gateway is, and the key that it wants.

    Args:
        timeout_seconds: for a whole request, connecting included.
    """

    host: str
    port: int
    api_key: SecretStr | None
    timeout_seconds: float = 5.0

    async def post(self, path: str, body: Mapping[str, Any]) -> GatewayAnswer:
        """Raises GatewayUnreachable."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return _parsed(await self._exchange(self._request(path, json.dumps(body).encode())))
        except TimeoutError as error:
            raise GatewayUnreachable(f"no answer within {self.timeout_seconds:g} seconds") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise GatewayUnreachable(f"{type(error).__name__}: {error}") from error

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            await writer.drain()
            return await _until_end(reader)
        finally:
            writer.close()

    def _request(self, path: str, body: bytes) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        headers = {
            "Host": f"{host}:{self.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Accept": "application/json",
            "Connection": "close",
            **({"X-API-Key": self.api_key.get_secret_value()} if self.api_key is not None else {}),
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the gateway closes the connection, as it was asked to; no more than is of use."""
    answer = b""
    while len(answer) < MOST_ANSWERED_BYTES and (piece := await reader.read(MOST_ANSWERED_BYTES)):
        answer += piece
    return answer


def _parsed(answer: bytes) -> GatewayAnswer:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise GatewayUnreachable(f"the answer is not HTTP; it begins with {answer[:20]!r}")
    return GatewayAnswer(int(words[1]), body.decode(errors="replace")[:SHOWN_CHARACTERS])
