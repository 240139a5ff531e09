"""A Dask scheduler and its workers as processes, started by the commands that the documentation gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DASK = str(Path(sys.executable).with_name("dask"))


class DaskCluster:
    """Processes of one test; each is known by its name and can be killed."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def start_scheduler(self) -> None:
        """On a free port."""
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self._wait("scheduler", "Scheduler at:").split("Scheduler at:")[1].strip()

    def start_workers(self, *names: str) -> None:
        """Processes with one thread each; returns when all are registered."""
        for name in names:
            options = ("--nthreads", "1", "--name", name, "--no-nanny", "--memory-limit", "2GB")
            self._start(name, "worker", self.address, *options)
        for name in names:
            self._wait(name, "Registered to:")

    def is_alive(self, name: str) -> bool:
        """Whether nobody has killed it."""
        return name in self._processes

    def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Kill all."""
        for name in list(self._processes):
            self.kill(name)

    def _start(self, name: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DASK_TEMPORARY_DIRECTORY": str(self._logs)}
        with self._log(name).open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [DASK, *arguments, "--no-dashboard"],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, cwd=self._logs,
            )  # fmt: skip

    def _wait(self, name: str, wanted: str) -> str:
        """The first line of the log that holds `wanted`."""
        log, process = self._log(name), self._processes[name]
        with subprocess.Popen(
            ["tail", f"--pid={process.pid}", "-n", "+1", "-F", str(log)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as lines:  # fmt: skip
            assert lines.stdout is not None
            found = next((line for line in lines.stdout if wanted in line), None)
            lines.kill()
        assert found is not None, f"no {wanted!r} in {log}:\n{log.read_text()}"
        return found

    def _log(self, name: str) -> Path:
        return self._logs / f"dask-{name}.log"


@contextmanager
def dask_cluster(logs: Path, workers: int) -> Iterator[DaskCluster]:
    """A scheduler with so many workers, named w-0, w-1 and so on; all are killed at the end."""
    cluster = DaskCluster(logs)
    try:
        cluster.start_scheduler()
        cluster.start_workers(*(f"w-{number}" for number in range(workers)))
        yield cluster
    finally:
        cluster.stop()
