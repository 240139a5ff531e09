"""Roles in their loops: each goes on by itself, waits by itself while a server is away, and ends after a whole step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 3.0


@dataclass(slots=True)
class Role:
    """What a role does, and how long it waits when it has nothing to do; setting `wake` ends the wait."""

    name: str
    step: Callable[[], Awaitable[bool]]
    idle_seconds: Callable[[], float]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    failing: str | None = None


class RoleLoops:
    """Runs every role in a task of its own.

    Args:
        away: the errors that say that a server is away. Any other is logged as a fault; the role goes on after it too.
    """

    def __init__(self, roles: Sequence[Role], away: tuple[type[Exception], ...]) -> None:
        self._roles = tuple(roles)
        self._away = away
        self._draining = asyncio.Event()
        self._working: set[str] = set()
        self._waiting_for: dict[str, str] = {}

    @property
    def waiting_for(self) -> Mapping[str, str]:
        """Why roles cannot go on, by role."""
        return self._waiting_for

    @property
    def working(self) -> Sequence[str]:
        """The roles whose loop has not ended."""
        return sorted(self._working)

    async def run(self) -> None:
        """Until cancelled, or until every role has ended its step after `drain`."""
        async with asyncio.TaskGroup() as group:
            for role in self._roles:
                group.create_task(self._loop(role), name=role.name)

    def drain(self) -> None:
        """Let every role finish the step that it is in, and begin no other."""
        self._draining.set()
        for role in self._roles:
            role.wake.set()

    async def _loop(self, role: Role) -> None:
        self._working.add(role.name)
        delay = FIRST_RETRY_SECONDS
        while not self._draining.is_set():
            if await self._step(role):
                delay = FIRST_RETRY_SECONDS
            else:
                await _wait(self._draining, delay)
                delay = min(LAST_RETRY_SECONDS, 2 * delay)
        self._working.discard(role.name)

    async def _step(self, role: Role) -> bool:
        """One step, and the wait after it when there was nothing to do; false when it failed."""
        try:
            busy = await role.step()
        except self._away as error:
            self._note_failure(role, "a server is away", str(error))
            return False
        except Exception as error:
            log.exception("role_failed", role=role.name, error=str(error))
            self._note_failure(role, "failed; see the log", str(error))
            return False
        self._note_success(role)
        if not busy and await _wait(role.wake, role.idle_seconds()):
            role.wake.clear()
        return True

    def _note_failure(self, role: Role, reason: str, error: str) -> None:
        if role.failing != error:
            log.warning("role_waiting", role=role.name, error=error)
        role.failing = error
        self._waiting_for[role.name] = f"{role.name}: {reason}"

    def _note_success(self, role: Role) -> None:
        if role.failing is not None:
            log.info("role_resumed", role=role.name)
            role.failing = None
        self._waiting_for.pop(role.name, None)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` came within the time."""
    if seconds <= 0.0:
        # Gives the other roles their turn even when this one never waits.
        await asyncio.sleep(0)
        return False
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
