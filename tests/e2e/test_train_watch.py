"""`model-service train --watch` as a process, against an interface that plays a run."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.process import KEY, command, environment
from tests.unit.test_run_watch import rejected, run

RUN_ID = "c9edf539-a9e3-4e16-a63e-fd5125d8bda5"


@dataclass
class Stage:
    """What the interface answers, one state of the run after the other; the last one stays."""

    states: list[dict[str, Any] | None]
    asked: list[str] = field(default_factory=list)
    looked: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {path}")
        if method == "POST":
            return 202, {"status": "triggered", "training_id": RUN_ID, "message": "was triggered"}
        self.looked.set()
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            return 503, {"error": "the database is away", "code": "database_unavailable", "detail": "it is away"}
        return 200, {**state, "run_id": RUN_ID}


@contextmanager
def playing(stage: Stage) -> Iterator[int]:
    """The port at which the interface listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("POST")

        def _answer(self, method: str) -> None:
            status, body = stage.answer(method, self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@asynccontextmanager
async def watching(stage: Stage, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with playing(stage) as port:
        process = await asyncio.create_subprocess_exec(
            *command("train", *arguments),
            env=environment(MODEL_SERVICE_PORT=port, MODEL_SERVICE_HOST="127.0.0.1", MODEL_SERVICE_API_KEY=KEY),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def ended(stage: Stage, *arguments: str) -> tuple[int | None, str, str]:
    async with watching(stage, *arguments) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize(
    ("last", "code", "word"),
    [
        (run("promoted", version="v1"), 0, "promoted: v1 speaks"),
        (rejected(), 7, "rejected: v7 may not speak"),
        (run("refused", error_code="one_class", error_hint="all won"), 7, "refused: one_class: all won"),
        (run("failed", error_code="killed", error_hint="for want of memory"), 1, "failed: killed: for want"),
    ],
)
async def test_the_exit_code_is_the_verdict(last: dict[str, Any], code: int, word: str) -> None:
    stage = Stage([run("preparing"), run("fitting", progress=0.5, progress_note="round 200 of at most 400"), last])
    found, output, errors = await ended(stage, "--strategy", "momentum_v1", "--watch")
    assert (found, errors) == (code, "")
    assert " 50 %  fitting: round 200 of at most 400" in output
    assert word in output
    assert stage.asked[:2] == ["POST /api/v1/training/trigger", f"GET /api/v1/training/runs/{RUN_ID}"]


async def test_an_interface_that_is_away_for_a_moment_is_waited_for() -> None:
    stage = Stage([run("fitting", progress=0.5), None, None, run("promoted", version="v1")])
    code, output, errors = await ended(stage, "--strategy", "momentum_v1", "--watch", "--json")
    assert (code, errors) == (0, "")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["event"], line["state"]) for line in lines] == [("progress", "fitting"), ("ended", "promoted")]


async def test_a_run_can_be_watched_without_asking_for_another() -> None:
    stage = Stage([run("promoted", version="v1")])
    code, _, _ = await ended(stage, "--run", RUN_ID)
    assert code == 0
    assert stage.asked == [f"GET /api/v1/training/runs/{RUN_ID}"]


async def test_ctrl_c_ends_the_watching_and_says_that_the_run_goes_on() -> None:
    stage = Stage([run("fitting", progress=0.5)])
    async with watching(stage, "--strategy", "momentum_v1", "--watch") as process:
        assert process.stdout is not None
        assert b"fitting" in await asyncio.wait_for(process.stdout.readline(), 60)
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert "the run goes on" in errors.decode()
    assert f"model-service train --run {RUN_ID}" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert [line for line in stage.asked if line.startswith("POST")] == ["POST /api/v1/training/trigger"]


@pytest.mark.parametrize("arguments", [(), ("--strategy", "a", "--run", RUN_ID)])
async def test_neither_or_both_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    stage = Stage([run("promoted")])
    code, _, errors = await ended(stage, *arguments)
    assert (code, stage.asked) == (2, [])
    assert "either a strategy" in errors
