"""The service as a process, and what its HTTP interface says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "end-to-end-key"


@dataclass
class RunningService:
    """A `model-service run` and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    async def get(self, path: str, *, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one request; status 0 while nothing listens."""
        return await asyncio.to_thread(self._request, path, method, body)

    async def until(self, path: str, wanted: Callable[[int, Any], bool], seconds: float) -> Any:
        """Ask `path` again and again until `wanted(status, body)`; fails with the log's end."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            status, body = await self.get(path)
            if wanted(status, body):
                return body
            assert self.process.poll() is None, f"the service ended: {self.tail()}"
            assert asyncio.get_running_loop().time() < deadline, f"{path} says {status} {body}; log: {self.tail()}"
            await asyncio.sleep(0.25)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:]

    def _request(self, path: str, method: str, body: Any) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers, method=method), timeout=10
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None


def environment(**values: object) -> dict[str, str]:
    """This process's environment without settings of ours, and `values`."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**inherited, **{name: str(value) for name, value in values.items()}}


def command(*arguments: str) -> list[str]:
    """The command line of `model-service`."""
    return [sys.executable, "-c", "from model_service.cli import main; main()", *arguments]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(folder: Path, **values: object) -> AsyncIterator[RunningService]:
    """A service with these settings, killed at the end if it still runs."""
    port = free_port()
    log = folder / "service.log"
    settings = environment(
        MODEL_SERVICE_PORT=port, MODEL_SERVICE_API_KEY=KEY, MODEL_SERVICE_STATE_PATH=folder / "state", **values
    )
    with log.open("wb") as sink:
        process = subprocess.Popen(command("run"), env=settings, stdout=sink, stderr=sink)
    try:
        yield RunningService(process, port, log)
    finally:
        process.kill()
        process.wait()
