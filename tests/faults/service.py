"""The service as a process that is killed and started again, always on the same port, state folder and log."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.process import KEY, RunningService, command, environment, free_port

READY_SECONDS = 60.0
LOOK_SECONDS = 0.02
ERRORS = ("error", "critical")


class ServiceProcess:
    """One replica.

    Args:
        folder: for its state and its log.
        settings: beside those of its own port, key and state.
        program: what is run; the service itself, or one that is wrong on purpose.
    """

    def __init__(self, folder: Path, settings: dict[str, object], program: Sequence[str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "service.log"
        self.log.touch()
        self._program = list(program or command("run"))
        self._environment = environment(
            MODEL_SERVICE_PORT=self.port, MODEL_SERVICE_API_KEY=KEY, MODEL_SERVICE_STATE_PATH=folder / "state",
            MODEL_SERVICE_LOG_FORMAT="json", **settings,
        )  # fmt: skip
        self._running: RunningService | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._now.process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a living process."""
        return self._running is not None and self._running.process.poll() is None

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended without being asked to."""
        return self._running is not None and self._running.process.poll() is not None

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        with self.log.open("ab") as sink:
            process = subprocess.Popen(self._program, env=self._environment, stdout=sink, stderr=sink)
        self._running = RunningService(process, self.port, self.log)

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory is short; nothing when it does not run."""
        if self._running is not None:
            self._running.process.kill()
            self._running.process.wait()
            self._running = None

    async def terminate(self, within_seconds: float) -> float:
        """SIGTERM, and wait until it has ended with exit code 0; returns how long that took. Raises AssertionError."""
        began, process = time.monotonic(), self._now.process
        process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(process.wait, within_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there {within_seconds:g} s after SIGTERM: {self.tail()}") from None
        assert code == 0, f"exit code {code} after SIGTERM: {self.tail()}"
        self._running = None
        return time.monotonic() - began

    async def until(self, path: str, wanted: Callable[[int, Any], bool], seconds: float = READY_SECONDS) -> Any:
        """Ask over HTTP until `wanted(status, body)`."""
        return await self._now.until(path, wanted, seconds)

    async def until_ready(self) -> None:
        """Until /readyz says so."""
        await self.until("/readyz", lambda status, _: status == 200)

    async def until_logged(self, event: str, since: int, seconds: float, **fields: str) -> float:
        """Wait for a line of the log after byte `since`; returns how long. Raises AssertionError."""
        began = time.monotonic()
        while not any(self._matches(line, event, fields) for line in self.lines(since)):
            assert time.monotonic() - began < seconds, f"no {event} within {seconds:g} s: {self.tail()}"
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def mark(self) -> int:
        """The present end of the log, in bytes."""
        return self.log.stat().st_size

    def lines(self, since: int = 0) -> list[dict[str, Any]]:
        """What was logged; a line that is not JSON, such as a traceback's, counts as an error of its own."""
        with self.log.open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        return [_parsed(line) for line in text.splitlines() if line.strip()]

    def errors(self, expected: Sequence[str] = ()) -> list[str]:
        """What it called an error, and what it did not say in its own form; not the events that are `expected`."""
        found = [line for line in self.lines() if line.get("level") in ERRORS and line.get("event") not in expected]
        return [str(line)[:600] for line in found]

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    @property
    def _now(self) -> RunningService:
        assert self._running is not None, "the service was not started"
        return self._running

    @staticmethod
    def _matches(line: dict[str, Any], event: str, fields: dict[str, str]) -> bool:
        return line.get("event") == event and all(line.get(name) == value for name, value in fields.items())


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    # A process that is killed may leave half a line.
    return parsed if isinstance(parsed, dict) else {"level": "error", "event": "not JSON", "text": line}
