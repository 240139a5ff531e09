"""What a living supervisor holds: the lock on its folder, and the pipe whose end tells the watcher that it has died."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from model_service.database.embedded_errors import FolderInUse


class HeldDescriptor:
    """A file descriptor that only this process holds: programs it starts and processes it forks do not get it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        os.set_inheritable(descriptor, False)
        _held.add(self)

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _held.discard(self)
            os.close(descriptor)


# A forked child would otherwise keep the lock and the pipe open after its parent was killed. Hooks of fork cannot be
# taken back, so there is one hook and a set of what is open.
_held: set[HeldDescriptor] = set()


def _close_all() -> None:
    for descriptor in list(_held):
        descriptor.close()


os.register_at_fork(after_in_child=_close_all)


def lock_file(path: Path, *, owner: tuple[int, int] | None) -> HeldDescriptor:
    """Hold the lock on `path` until the descriptor is closed or this process ends, however it ends.

    Args:
        path: the lock file; made when absent, never removed.
        owner: user and group of a new lock file, None for those of this process.

    Raises:
        FolderInUse: another supervisor holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise FolderInUse(
            f"The data in {path.parent} are in use by process {holder}; stop it first or choose another folder."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    if owner is not None:
        os.fchown(descriptor, *owner)
    return HeldDescriptor(descriptor)


def lifeline() -> tuple[int, HeldDescriptor]:
    """A pipe: the end to read, for the watcher, and the end that we hold until we stop or die."""
    reading, writing = os.pipe()
    return reading, HeldDescriptor(writing)
