"""Where bad input goes: a row that is the record, and one copy of it in a queue of our own for the broker's tools."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from model_service.contracts.types import InvalidMessage
from model_service.database.connection import DatabaseUnavailable
from model_service.database.dead_letters import DeadLetters, UncopiedLetter, fingerprint_of
from model_service.messaging.backoff import Backoff
from model_service.messaging.transport import OutgoingMessage, PublishOutcome, Transport, TransportUnavailable

log = structlog.get_logger()

DEAD_LETTER_QUEUE = "model-service.dead_letters"
COPY_SECONDS = 2.0
"""How long good input waits for the copy of bad input; after this the row has to do."""
LOOK_SECONDS = 60.0
"""How often letters without a copy are looked for when all seems well: a process may have died between the two."""
BATCH = 20
"""Letters at once in the background; a letter may have megabytes."""


class DeadLetterKeeper(Protocol):
    """What a consumer needs: when `keep` returns, the messages may be acknowledged."""

    async def keep(self, source: str, letters: Sequence[tuple[bytes, InvalidMessage]], now: datetime) -> None:
        """Keep the bodies that came from the queue `source`. Raises DatabaseUnavailable; then nothing is kept."""
        ...


class DeadLetterOffice:
    """Row committed, copy confirmed, copy marked, and only then `keep` returns: for the original to be acknowledged.

    A copy that is not confirmed in time is made later by `step`, and good input does not wait for it: from then on
    `keep` returns after the row, until a copy has succeeded again. A crash between the confirmation and the mark makes
    a second copy with the same message_id.

    Args:
        queue: durable and without arguments, declared by us when it is absent; one that exists otherwise is used as it
            is. Whoever wants a bound sets a policy of the broker, which can be changed later; an argument cannot.
    """

    def __init__(self, letters: DeadLetters, transport: Transport, *, queue: str = DEAD_LETTER_QUEUE) -> None:
        self._letters = letters
        self._transport = transport
        self._queue = queue
        self._log = log.bind(queue=queue)
        self._is_declared = False
        self._trouble: str | None = None
        self._backoff = Backoff()
        self._look_at: datetime | None = None
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[int]] = set()

    async def keep(self, source: str, letters: Sequence[tuple[bytes, InvalidMessage]], now: datetime) -> None:
        """As DeadLetterKeeper says."""
        if not letters:
            return
        fingerprints = sorted({fingerprint_of(source, body) for body, _ in letters})
        await self._letters.keep(source, letters, now)
        if self._trouble is not None:
            return
        # A task of its own, not cancelled after the wait: the transport ends the whole connection of a publish that is.
        copying = asyncio.create_task(self._attempt(now, fingerprints, len(fingerprints)), name="dead-letter-copy")
        self._under_way.add(copying)
        copying.add_done_callback(self._forget)
        done, _ = await asyncio.wait({copying}, timeout=COPY_SECONDS)
        if not done:
            self._note_trouble(f"no copy was confirmed within {COPY_SECONDS:g} s", now)

    async def step(self, now: datetime) -> int:
        """Copy letters that have none yet, when it is time to look; returns how many were copied."""
        if self._look_at is not None and now < self._look_at:
            return 0
        # After a failure one alone: a letter that the broker never takes must not hold back those beside it.
        copied = await self._attempt(now, None, BATCH if self._trouble is None else 1)
        if not copied:
            pause = LOOK_SECONDS if self._trouble is None else self._backoff.next_seconds()
            self._look_at = now + timedelta(seconds=pause)
        return copied

    async def close(self) -> None:
        """Give up copies that are under way; they are made again after the next start."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(self, now: datetime, fingerprints: Sequence[str] | None, limit: int) -> int:
        try:
            async with self._one_at_a_time:
                return await self._copy(now, fingerprints, limit)
        except (TransportUnavailable, DatabaseUnavailable) as error:
            self._note_trouble(str(error), now)
            return 0

    async def _copy(self, now: datetime, fingerprints: Sequence[str] | None, limit: int) -> int:
        """One round, and one more when the queue was gone, which then is declared again."""
        words = await self._round(now, fingerprints, limit)
        if lost := [fingerprint for fingerprint, word in words.items() if word is PublishOutcome.UNROUTABLE]:
            words |= await self._round(now, lost, len(lost))
        if words:
            self._judge(set(words.values()), now)
        return sum(word is PublishOutcome.CONFIRMED for word in words.values())

    async def _round(self, now: datetime, fingerprints: Sequence[str] | None, limit: int) -> dict[str, PublishOutcome]:
        """The broker's word by fingerprint; what it has confirmed is marked."""
        claimed = await self._letters.claim_uncopied(fingerprints, limit)
        if not claimed:
            return {}
        try:
            outcomes = await self._publish(claimed)
        except TransportUnavailable:
            await self._letters.settle_copies(claimed, [], now)
            raise
        words = {letter.fingerprint: outcome for letter, outcome in zip(claimed, outcomes, strict=True)}
        copied = [fingerprint for fingerprint, word in words.items() if word is PublishOutcome.CONFIRMED]
        await self._letters.settle_copies(claimed, copied, now)
        return words

    async def _publish(self, letters: Sequence[UncopiedLetter]) -> list[PublishOutcome]:
        if not self._is_declared:
            await self._transport.declare_queue(self._queue)
            self._is_declared = True
        outcomes = await self._transport.publish([self._message(letter) for letter in letters])
        self._is_declared = PublishOutcome.UNROUTABLE not in outcomes
        return outcomes

    def _judge(self, words: set[PublishOutcome], now: datetime) -> None:
        if failed := words - {PublishOutcome.CONFIRMED}:
            self._note_trouble(f"the broker's word on a copy is: {', '.join(sorted(failed))}", now)
        elif self._trouble is not None:
            self._log.info("dead_letter_copies_resumed")
            self._trouble = None
            self._backoff.reset()
            self._look_at = None

    def _note_trouble(self, reason: str, now: datetime) -> None:
        if self._trouble is None:
            self._log.warning("dead_letter_copies_waiting", reason=reason)
            self._look_at = now
        self._trouble = reason

    def _forget(self, task: asyncio.Task[int]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The row is there: good input goes on, and `step` meets the fault again in its own role.
            self._log.error("dead_letter_copy_failed", error=str(error), exc_info=error)

    def _message(self, letter: UncopiedLetter) -> OutgoingMessage:
        headers = {"source": letter.source, "reason_code": letter.reason_code}
        return OutgoingMessage("", self._queue, letter.body, letter.fingerprint, headers)
