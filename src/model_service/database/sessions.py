"""How the server knows our sessions, and how it gets rid of those whose connection broke without a word."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping

import asyncpg

SETTINGS: Mapping[str, str] = {
    "timezone": "UTC",
    # A connection that broke without a word holds its locks until the server notices: within 30 s, idle or not.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "idle_in_transaction_session_timeout": "30s",
}
END_SECONDS = 2.0
LOOK_SECONDS = 0.02

END_FORMER = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = current_user AND datname = current_database()
      AND starts_with(application_name, $1) AND application_name <> $2
"""


class SessionNames:
    """The `application_name` of our sessions: one per process, with a number that rises with each new beginning."""

    def __init__(self) -> None:
        self._prefix = f"model-service {secrets.token_hex(4)}:"
        self._numbers = itertools.count(1)
        self.present = ""

    def renew(self) -> str:
        """The name of all sessions from now on."""
        self.present = f"{self._prefix}{next(self._numbers)}"
        return self.present

    async def end_former(self, connection: asyncpg.Connection) -> None:
        """End our own sessions of former names on the server, and wait until they are gone.

        A statement or COMMIT of theirs may still be under way there, waiting for a lock or in a process that was
        stopped. Only when they are gone it is decided what took effect, and reading tells.

        Raises:
            TimeoutError: they do not end; or an error of the driver.
        """
        async with asyncio.timeout(END_SECONDS):
            while True:
                if not await connection.fetchval(END_FORMER, self._prefix, self.present, timeout=END_SECONDS):
                    return
                await asyncio.sleep(LOOK_SECONDS)
