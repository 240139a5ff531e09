"""Exit codes, and how a command ends: one clear sentence, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit codes mean."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    SETTINGS = 4
    DEPENDENCY_AWAY = 5
    TIMEOUT = 6
    REFUSED = 7


class CommandFailed(Exception):  # noqa: N818 - an answer to the person at the terminal
    """A command that ends with `code` and says `text`."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that an operator can do something about into a sentence and an exit code."""
    try:
        yield
    except CommandFailed as error:
        _end(error.code, str(error))
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        _end(code, str(error))


def _code_of(error: Exception) -> ExitCode | None:
    # By name, so that no command has to import what only others need.
    names = {kind.__name__ for kind in type(error).__mro__}
    if "SettingsError" in names:
        return ExitCode.SETTINGS
    if names & {"DatabaseUnavailable", "TransportUnavailable", "SchemaOutdated"}:
        return ExitCode.DEPENDENCY_AWAY
    if names & {"StartRefused", "EmbeddedPostgresError", "StorageError", "MigrationChanged", "DemoFailed"}:
        return ExitCode.FAILED
    return None


def _end(code: ExitCode, text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - this is the command's answer
    sys.exit(int(code))
