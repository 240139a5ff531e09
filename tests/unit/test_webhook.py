"""Alerts reach a webhook signed, in order and at least once; a dead one keeps nobody waiting."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers
from model_service.publishers.webhook import ATTEMPTS, MOST_WAITING, Webhook
from model_service.services.alerts import RepeatedFailures
from tests.support.builders import NOON


@dataclass
class Receiver:
    """What a real HTTP server got, and what it answers: the next status of the list, then 204."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((dict(self.headers.items()), body))
            status = receiver.answers.pop(0) if receiver.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", receiver.url + "elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def webhook(url: str, secret: str | None = "s3cret") -> Webhook:
    return Webhook(url, secret, SeededIdentifiers(1))


async def deliver(hook: Webhook, seconds: float = 0.0) -> datetime:
    """Every try that is due within the seconds."""
    now = NOON
    while now <= NOON + timedelta(seconds=seconds):
        while await hook.step(now):
            pass
        now += timedelta(seconds=0.5)
    return now


async def test_an_alert_says_what_happened_and_is_signed_over_its_bytes() -> None:
    with receiving() as receiver:
        hook = webhook(receiver.url)
        hook.send("quality_degraded", "momentum_v1", {"n": 200, "value": float("nan")}, NOON)
        assert hook.wake.is_set()
        await deliver(hook)
    headers, body = receiver.got[0]
    content = receiver.bodies[0]
    assert content.pop("id")
    assert content == {
        "event": "quality_degraded", "strategy_id": "momentum_v1", "time": NOON.isoformat(),
        "evidence": {"n": 200, "value": None},
    }  # fmt: skip
    expected = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Model-Service-Signature"] == expected


async def test_without_a_secret_nothing_is_signed() -> None:
    with receiving() as receiver:
        hook = webhook(receiver.url, None)
        hook.send("mode_changed", "a", {}, NOON)
        await deliver(hook)
    assert "X-Model-Service-Signature" not in receiver.got[0][0]


async def test_a_faulty_receiver_is_tried_again_with_growing_pauses_and_gets_the_same_id() -> None:
    with receiving(500, 429, 503) as receiver:
        hook = webhook(receiver.url)
        hook.send("mode_changed", "a", {}, NOON)
        hook.send("mode_changed", "b", {}, NOON)
        await deliver(hook, 0.5)
        assert len(receiver.got) == 1, "the second try waits a second"
        await deliver(hook, 10.0)
    assert [body["strategy_id"] for body in receiver.bodies] == ["a", "a", "a", "a", "b"]
    assert len({body["id"] for body in receiver.bodies}) == 2


@pytest.mark.parametrize("answer", [400, 404, 302])
async def test_a_refusal_is_final_and_holds_up_no_other(answer: int) -> None:
    with receiving(answer) as receiver, capture_logs() as logs:
        hook = webhook(receiver.url)
        hook.send("mode_changed", "a", {}, NOON)
        hook.send("mode_changed", "b", {}, NOON)
        await deliver(hook, 0.5)
    assert [body["strategy_id"] for body in receiver.bodies] == ["a", "b"]
    assert [line["event"] for line in logs] == ["alert_dropped"]


async def test_nobody_there_is_given_up_after_so_many_tries_and_said() -> None:
    with receiving() as receiver:
        pass
    hook = webhook(receiver.url)
    hook.send("mode_changed", "a", {}, NOON)
    with capture_logs() as logs:
        await deliver(hook, 300.0)
    assert [line["event"] for line in logs] == ["alert_dropped"]
    assert f"{ATTEMPTS} tries" in logs[0]["reason"]


async def test_too_many_drop_the_oldest_and_sending_never_waits() -> None:
    hook = Webhook("http://nowhere.test/", None, SeededIdentifiers(1), post=lambda *_: 204)
    with capture_logs() as logs:
        for index in range(MOST_WAITING + 3):
            hook.send("mode_changed", f"s{index}", {}, NOON)
    assert [line["event"] for line in logs] == ["alert_dropped"] * 3


async def test_the_event_loop_goes_on_while_a_receiver_is_slow() -> None:
    asked, release = threading.Event(), threading.Event()

    def slow(*_: Any) -> int:
        asked.set()
        release.wait(10)
        return 204

    hook = Webhook("http://nowhere.test/", None, SeededIdentifiers(1), post=slow)
    hook.send("mode_changed", "a", {}, NOON)
    trying = asyncio.create_task(hook.step(NOON))
    while not asked.is_set():
        await asyncio.sleep(0)
    hook.send("mode_changed", "b", {}, NOON)
    assert not trying.done()
    release.set()
    assert await trying


def test_the_second_failure_in_a_row_is_told_and_a_version_begins_anew() -> None:
    told: list[int] = []

    class Ears:
        def send(self, event: str, strategy_id: str, evidence: Any, now: datetime) -> None:
            assert event == "training_failures"
            told.append(evidence["in_a_row"])

    failures = RepeatedFailures(Ears())
    for _ in range(3):
        failures.failed("a", "timeout", NOON)
    failures.failed("b", "timeout", NOON)
    failures.ended("a")
    failures.failed("a", "timeout", NOON)
    assert told == [2, 3]
