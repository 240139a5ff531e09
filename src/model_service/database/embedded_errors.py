"""The one error of the embedded server, and how errors of the operating system become it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the text is one sentence that says what is wrong and what to do."""


class FolderInUse(EmbeddedPostgresError):  # noqa: N818 - the state of the world
    """A living process serves the data already."""


@contextmanager
def in_plain_words(directory: Path) -> Iterator[None]:
    """Turn an OSError of the block into an EmbeddedPostgresError about `directory`."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(describe(error, directory)) from error


def describe(error: OSError, directory: Path) -> str:
    """One sentence for `error`, which happened while the server in `directory` was handled."""
    place = error.filename if isinstance(error.filename, str) else str(directory)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk that holds {place} is full; free some space or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"No permission to use {place}; choose a folder that this user may write to."
    if error.errno == errno.EROFS:
        return f"{place} is on a read-only file system; choose a folder that this user may write to."
    return f"The embedded PostgreSQL in {directory} failed at {place}: {error.strerror or error}."
