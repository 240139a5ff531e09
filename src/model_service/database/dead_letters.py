"""Messages that could not be understood, kept with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database

INSERT = """
    INSERT INTO model_service.dead_letters AS letters
        (fingerprint, source, body, reason_code, reason, first_seen_at, last_seen_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
    ON CONFLICT (fingerprint) DO UPDATE SET occurrences = letters.occurrences + 1, last_seen_at = excluded.last_seen_at
"""


class DeadLetters:
    """The table is the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, source: str, letters: Sequence[tuple[bytes, InvalidMessage]], now: datetime) -> None:
        """Store bodies with their reasons; the same body from the same source counts up instead."""
        rows = [
            (_fingerprint(source, body), source, body, reason.code, _in_words(reason), now) for body, reason in letters
        ]
        if rows:
            await self._database.executemany(INSERT, rows)


def _in_words(reason: InvalidMessage) -> str:
    where = f"{reason.field}: " if reason.field else ""
    # PostgreSQL takes no NUL in text.
    return f"{where}{reason.detail}".replace("\x00", "\\0")


def _fingerprint(source: str, body: bytes) -> str:
    return hashlib.sha256(source.encode() + b"\x00" + body).hexdigest()
