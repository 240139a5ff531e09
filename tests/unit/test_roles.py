"""The loops of the roles: drained they finish the step that they are in; after a failure they wait by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from model_service import roles
from model_service.roles import Role, RoleLoops


class Away(Exception):
    """A server is away."""


def role(name: str, step: Callable[[], Awaitable[bool]], idle_seconds: float = 3600.0) -> Role:
    return Role(name, step, lambda: idle_seconds)


async def test_a_drained_role_finishes_its_step_and_begins_no_other() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    finished = 0

    async def step() -> bool:
        nonlocal finished
        begun.set()
        await may_end.wait()
        finished += 1
        return True

    loops = RoleLoops([role("one", step)], (Away,))
    running = asyncio.create_task(loops.run())
    await begun.wait()
    loops.drain()
    assert loops.working == ["one"]
    may_end.set()
    await running
    assert finished == 1
    assert loops.working == []


async def test_a_role_that_is_idle_or_waits_for_a_server_is_drained_at_once() -> None:
    idle, failing = asyncio.Event(), asyncio.Event()

    async def has_nothing_to_do() -> bool:
        idle.set()
        return False

    async def fails() -> bool:
        failing.set()
        raise Away("gone")

    loops = RoleLoops([role("idle", has_nothing_to_do), role("failing", fails)], (Away,))
    running = asyncio.create_task(loops.run())
    await asyncio.gather(idle.wait(), failing.wait())
    loops.drain()
    async with asyncio.timeout(1):
        await running


async def test_a_role_that_is_woken_steps_again() -> None:
    steps = asyncio.Queue[None]()

    async def step() -> bool:
        steps.put_nowait(None)
        return False

    one = role("one", step)
    running = asyncio.create_task(RoleLoops([one], (Away,)).run())
    for _ in range(3):
        await steps.get()
        one.wake.set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_failure_is_named_until_it_has_passed_and_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(roles, "LAST_RETRY_SECONDS", 0.002)
    failures: list[Exception] = [Away("gone"), Away("gone"), ValueError("a fault")]
    seen: list[str] = []
    passed, other = asyncio.Event(), asyncio.Event()

    async def step() -> bool:
        seen.append(loops.waiting_for.get("one", ""))
        if failures:
            raise failures.pop(0)
        passed.set()
        return False

    async def other_step() -> bool:
        other.set()
        return False

    loops = RoleLoops([role("one", step), role("other", other_step)], (Away,))
    running = asyncio.create_task(loops.run())
    await asyncio.gather(passed.wait(), other.wait())
    loops.drain()
    await running
    assert seen == ["", "one: a server is away", "one: a server is away", "one: failed; see the log"]
    assert loops.waiting_for == {}
