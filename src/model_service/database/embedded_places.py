"""Where the embedded server keeps what, and as which user it runs.

PostgreSQL refuses to run as root. Started by root it runs as the owner of the folder that holds its own, or as
`nobody` where that is root. Such a user may be unable to reach the asked folder (`/root` is closed to others); the data
then live below `/var/lib/model-service`, and a file LOCATION in the asked folder says so. Owners and modes are set on
folders that are made here and on no other.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from model_service.database.embedded_errors import EmbeddedPostgresError

DATA_OF_ROOT = Path("/var/lib/model-service")
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107
"""Longest path of a unix socket that the operating system takes."""


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that PostgreSQL runs as."""

    user_id: int
    group_id: int

    def may_pass(self, folder: Path) -> bool:
        """Whether this user may go through `folder` and all folders above it."""
        return all(self._may_enter(os.stat(each)) for each in (folder, *folder.parents))

    def _may_enter(self, facts: os.stat_result) -> bool:
        if facts.st_uid == self.user_id:
            return bool(facts.st_mode & stat.S_IXUSR)
        if facts.st_gid == self.group_id:
            return bool(facts.st_mode & stat.S_IXGRP)
        return bool(facts.st_mode & stat.S_IXOTH)


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds the data, the lock and the log; `account` is None when PostgreSQL runs as our own user."""

    folder: Path
    asked: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What PostgreSQL writes to standard error."""
        return self.folder / "postgres.log"

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group of what PostgreSQL writes to, None for our own."""
        return None if self.account is None else (self.account.user_id, self.account.group_id)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the data live outside the asked folder."""
        return self.folder != self.asked


def prepare_home(asked: Path) -> Home:
    """Make the folder of the server, or of its substitute. Raises OSError."""
    asked = Path(os.path.abspath(asked))
    if os.geteuid() != 0:
        _make_folders(asked, None)
        return Home(asked, asked, None)
    account = _account_for(asked)
    _make_folders(asked, account)
    if account.may_pass(asked):
        return Home(asked, asked, account)
    return _elsewhere(asked)


def remove_home(asked: Path) -> None:
    """Remove the folder of a server that is not running, and its substitute where there is one. Raises OSError."""
    asked = Path(os.path.abspath(asked))
    for folder in (asked, _substitute(asked)):
        if folder.exists():
            shutil.rmtree(folder)


def _account_for(asked: Path) -> Account:
    nearest = next(folder for folder in (asked, *asked.parents) if folder.exists())
    owner = nearest.stat().st_uid
    # PostgreSQL wants a user that has a name.
    return Account(owner, pwd.getpwuid(owner).pw_gid) if owner != 0 and _has_name(owner) else _nobody()


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def _elsewhere(asked: Path) -> Home:
    account = _nobody()
    folder = _substitute(asked)
    _make_folders(folder, account)
    if not account.may_pass(folder):
        raise EmbeddedPostgresError(
            f"Neither {asked} nor {folder} can be reached by the unprivileged user that PostgreSQL needs;"
            " open them with `chmod o+x` or start as a normal user."
        )
    (asked / "LOCATION").write_text(f"{folder}\n", encoding="utf-8")
    return Home(folder, asked, account)


def _substitute(asked: Path) -> Path:
    return DATA_OF_ROOT / hashlib.sha256(os.fsencode(asked)).hexdigest()[:16]


def _make_folders(folder: Path, account: Account | None) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)  # another start, for another folder, may be making the same parents right now
        _hand_over(each, account)


def _hand_over(folder: Path, account: Account | None) -> None:
    if account is None:
        folder.chmod(0o700)
    elif folder.parent.stat().st_uid == account.user_id:
        folder.chmod(0o700)
        os.chown(folder, account.user_id, account.group_id, follow_symlinks=False)
    else:
        folder.chmod(0o711)


def private_folder(folder: Path, home: Home) -> Path:
    """Make `folder`, which must not exist, for PostgreSQL's user alone."""
    folder.mkdir(mode=0o700)
    if home.owner is not None:
        os.chown(folder, *home.owner, follow_symlinks=False)
    return folder


def fresh_socket_folder(home: Home) -> Path:
    """An empty folder for the socket, closed to all other users, with a path that is short enough.

    What an earlier server left there is removed: its lock could name a process number that is somebody else's by now.
    """
    folder = home.folder / "socket"
    if not _can_hold_socket(folder):
        digest = hashlib.sha256(os.fsencode(home.folder)).hexdigest()[:16]
        folder = _short_temporary() / f"model-service-{digest}"
    if folder.is_symlink() or folder.exists():
        _remove_own(folder, home)
    return private_folder(folder, home)


def _can_hold_socket(folder: Path) -> bool:
    # Both PostgreSQL and clients read commas and quotes in such a path as parts of a list.
    return len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES and not set(str(folder)) & set(",\"'\\")


def _short_temporary() -> Path:
    chosen = Path(os.path.abspath(tempfile.gettempdir()))
    return chosen if _can_hold_socket(chosen / f"model-service-{'0' * 16}") else Path("/tmp")  # noqa: S108


def _remove_own(folder: Path, home: Home) -> None:
    facts = folder.lstat()
    expected = os.geteuid() if home.account is None else home.account.user_id
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (expected, 0):
        raise EmbeddedPostgresError(f"{folder}, wanted for the socket, belongs to somebody else; remove it.")
    shutil.rmtree(folder)
