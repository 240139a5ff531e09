"""Messages that could not be understood, kept with the reason, and which of them our own queue has a copy of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database

CLAIM_SECONDS = 60.0
"""For how long a claimed letter is nobody else's to copy; longer than a copy takes in the worst case."""

KEEP = """
    INSERT INTO model_service.dead_letters AS letters
        (fingerprint, source, body, reason_code, reason, occurrences, first_seen_at, last_seen_at)
    SELECT fingerprint, $1, body, reason_code, reason, occurrences, $2, $2
    FROM unnest($3::text[], $4::bytea[], $5::text[], $6::text[], $7::bigint[])
        AS given (fingerprint, body, reason_code, reason, occurrences)
    ON CONFLICT (fingerprint) DO UPDATE
    SET occurrences = letters.occurrences + excluded.occurrences, last_seen_at = excluded.last_seen_at
"""
# The array makes the planner choose the rows once. What failed last time comes after what was never tried.
CLAIM = """
    UPDATE model_service.dead_letters SET copy_claimed_until = clock_timestamp() + make_interval(secs => $3)
    WHERE dead_letter_id = ANY (ARRAY(
        SELECT dead_letter_id FROM model_service.dead_letters
        WHERE copied_at IS NULL AND coalesce(copy_claimed_until <= clock_timestamp(), true)
          AND ($1::text[] IS NULL OR fingerprint = ANY ($1))
        ORDER BY copy_claimed_until NULLS FIRST, dead_letter_id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING fingerprint, source, reason_code, body
"""
SETTLE = """
    UPDATE model_service.dead_letters
    SET copied_at = CASE WHEN fingerprint = ANY ($2) THEN $3::timestamptz END, copy_claimed_until = clock_timestamp()
    WHERE dead_letter_id = ANY (ARRAY(
        SELECT dead_letter_id FROM model_service.dead_letters
        WHERE fingerprint = ANY ($1) AND copied_at IS NULL ORDER BY fingerprint FOR UPDATE))
"""


@dataclass(frozen=True, slots=True)
class UncopiedLetter:
    """A letter that is claimed for copying it to the queue."""

    fingerprint: str
    source: str
    reason_code: str
    body: bytes


class DeadLetters:
    """The table is the record. Each method raises DatabaseUnavailable, and then nothing of it is done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, source: str, letters: Sequence[tuple[bytes, InvalidMessage]], now: datetime) -> None:
        """Store bodies with their reasons; the same body from the same source counts up instead."""
        counts = Counter(fingerprint_of(source, body) for body, _ in letters)
        rows = {fingerprint_of(source, body): (body, reason.code, in_words(reason)) for body, reason in letters}
        # In one order, here and where copies are settled, so that processes with the same letters cannot deadlock.
        ordered = [(fingerprint, *rows[fingerprint], counts[fingerprint]) for fingerprint in sorted(rows)]
        if ordered:
            await self._database.execute(KEEP, source, now, *map(list, zip(*ordered, strict=True)))

    async def claim_uncopied(self, fingerprints: Sequence[str] | None, limit: int) -> list[UncopiedLetter]:
        """Up to `limit` letters without a copy, of these `fingerprints` or of all, that nobody else is copying now."""
        wanted = None if fingerprints is None else list(fingerprints)
        rows = await self._database.fetch(CLAIM, wanted, limit, CLAIM_SECONDS)
        return [UncopiedLetter(**row) for row in rows]

    async def settle_copies(self, claimed: Sequence[UncopiedLetter], copied: Sequence[str], now: datetime) -> None:
        """Mark the fingerprints in `copied`; what else was claimed may be claimed again."""
        await self._database.execute(SETTLE, [letter.fingerprint for letter in claimed], list(copied), now)


def fingerprint_of(source: str, body: bytes) -> str:
    """What makes a letter distinct: SHA-256 of source and body, hexadecimal."""
    return hashlib.sha256(source.encode() + b"\x00" + body).hexdigest()


def in_words(reason: InvalidMessage) -> str:
    """The reason as it is stored and shown: the member at fault and what was found there."""
    where = f"{reason.field}: " if reason.field else ""
    # PostgreSQL takes no NUL in text.
    return f"{where}{reason.detail}".replace("\x00", "\\0")
