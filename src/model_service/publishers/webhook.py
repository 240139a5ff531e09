"""Alerts to a webhook: signed, tried again with back-off, never in anybody's way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog

from model_service import __version__
from model_service.config.clock import Identifiers

log = structlog.get_logger()
SIGNATURE_HEADER = "X-Model-Service-Signature"
MOST_WAITING = 200
"""Alerts that wait; beyond that the oldest is dropped: who is away for long wants to know how things are now."""
ATTEMPTS = 8
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0
TIMEOUT_SECONDS = 10.0
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429})

Post = Callable[[str, bytes, Mapping[str, str]], int]
"""URL, body and headers to the status of the answer; raises OSError or HTTPException when there is none."""


@dataclass(slots=True)
class _Waiting:
    event: str
    body: bytes
    due: datetime
    attempts: int = 0


def signature(secret: str, body: bytes) -> str:
    """What the header holds: HMAC-SHA256 of the body's bytes [RFC 2104], in hex, behind its name.

    Example:
        >>> signature("secret", b"{}")[:20]
        'sha256=77325902caca8'
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Webhook:
    """Delivers alerts one after the other, at least once: the receiver knows a repetition by its `id`.

    What waits is in memory only, so that no database is needed to say that one is away; what has not been delivered
    when the process ends is lost, and stands in the tables all the same.
    """

    def __init__(self, url: str, secret: str | None, identifiers: Identifiers, post: Post | None = None) -> None:
        """Without a secret alerts are not signed. `post` is replaced in tests."""
        self._url = url
        self._secret = secret
        self._identifiers = identifiers
        self._post = post or post_over_http
        self._waiting: deque[_Waiting] = deque()
        self.wake = asyncio.Event()

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        """Take one alert; it goes out with the next step."""
        content = {
            "id": str(self._identifiers.new()),
            "event": event,
            "strategy_id": strategy_id,
            "time": now.isoformat(),
            "evidence": _finite(evidence),
        }
        if len(self._waiting) >= MOST_WAITING:
            dropped = self._waiting.popleft()
            log.warning("alert_dropped", alert=dropped.event, reason=f"{MOST_WAITING} alerts are waiting")
        self._waiting.append(_Waiting(event, json.dumps(content, default=str).encode(), now))
        self.wake.set()

    async def step(self, now: datetime) -> bool:
        """Try the first alert that is due; whether another try may follow at once."""
        if not self._waiting or self._waiting[0].due > now:
            return False
        alert = self._waiting[0]
        headers = {"Content-Type": "application/json", "User-Agent": f"model-service/{__version__}"}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = signature(self._secret, alert.body)
        try:
            status = await asyncio.to_thread(self._post, self._url, alert.body, headers)
            problem = "" if 200 <= status < 300 else f"it answered {status}"
            final = 300 <= status < 500 and status not in _WORTH_ANOTHER_TRY
        except (OSError, HTTPException) as error:
            problem, final = f"{type(error).__name__}: {error}", False
        self._conclude(alert, problem, final, now)
        return not problem

    def _conclude(self, alert: _Waiting, problem: str, final: bool, now: datetime) -> None:
        alert.attempts += 1
        if problem and not final and alert.attempts < ATTEMPTS:
            delay = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** (alert.attempts - 1))
            alert.due = now + timedelta(seconds=delay)
            return
        if alert in self._waiting:  # one too many may have come meanwhile
            self._waiting.remove(alert)
        if problem:
            log.warning("alert_dropped", alert=alert.event, reason=f"{problem}, {alert.attempts} tries")


def post_over_http(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """One POST; blocks for TIMEOUT_SECONDS at most per read. A redirect is an answer, not followed: it would lose the
    body."""
    request = Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - the setting allows http(s)
    try:
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _finite(value: Any) -> Any:
    """The same with null in the place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
