"""Servers that an earlier supervisor left behind: which processes they are, and how they end."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from model_service.database.embedded_errors import EmbeddedPostgresError

PROC = Path("/proc")
PATIENCE_SECONDS = 8.0
"""How long an earlier server gets before the next stronger way to stop it."""


def cluster_name(data: Path) -> str:
    """A name for the server on `data`, which PostgreSQL shows in the titles of its processes."""
    return f"model-service-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"


def clear_orphans(data: Path) -> None:
    """Wait for an earlier server on `data` to end, stop it if it does not, and remove a pid file that means nothing.

    Its watcher is stopping it as a rule; if that was killed too, nobody is. The caller holds the lock on `data`.

    Raises:
        EmbeddedPostgresError: it still runs.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists() or not PROC.is_dir():
        return
    for number in (None, signal.SIGINT, signal.SIGQUIT):
        _signal_postmaster(data, pid_file, number)
        if _wait_until_gone(data, PATIENCE_SECONDS):
            _remove_stale(pid_file)
            return
    left = ", ".join(map(str, processes_of(data)))
    raise EmbeddedPostgresError(f"An earlier PostgreSQL still runs on {data} (processes {left}); stop it.")


def processes_of(data: Path) -> list[int]:
    """Numbers of the living server processes on `data`, the postmaster's and its children's."""
    children = f"postgres: {cluster_name(data)}: ".encode()
    postmaster = b"\0-D\0" + os.fsencode(data) + b"\0"
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            command = _command_line(entry)
            if command.startswith(children) or (_is_postgres(command) and postmaster in command):
                found.append(int(entry.name))
    return found


def _is_postgres(command: bytes) -> bool:
    return os.path.basename(command.split(b"\0", 1)[0]) == b"postgres"


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""  # it has ended between the two looks


def _signal_postmaster(data: Path, pid_file: Path, number: signal.Signals | None) -> None:
    if number is None:
        return
    postmaster = _pid_in(pid_file)
    for process in processes_of(data):
        # Children of a postmaster that was killed end by themselves; a fast shutdown is the postmaster's to lead.
        if process == postmaster or number is signal.SIGQUIT:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _wait_until_gone(data: Path, patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while processes_of(data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _remove_stale(pid_file: Path) -> None:
    # PostgreSQL would take a number that a foreign process has got since for a living postmaster. A dead number it
    # judges itself, by the shared memory that the file names too, so the file is left to it then.
    pid = _pid_in(pid_file)
    if pid is None or (PROC / str(pid)).exists():
        pid_file.unlink(missing_ok=True)
