"""A broker that lacks memory or disk, by its own watermarks: it takes nothing from publishers until it has enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.rabbitmq import PrivateBroker

DISK_BYTES = 1_000_000
"""As the tests' brokers are configured."""
MORE_THAN_ANY_DISK_BYTES = 10**15


@asynccontextmanager
async def memory_alarm(broker: PrivateBroker) -> AsyncIterator[None]:
    """Publishers are blocked for the length of the block."""
    await broker.set_memory_alarm(True)
    try:
        yield
    finally:
        await broker.set_memory_alarm(False)


@asynccontextmanager
async def disk_alarm(broker: PrivateBroker) -> AsyncIterator[None]:
    """Publishers are blocked for the length of the block."""
    await broker.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({MORE_THAN_ANY_DISK_BYTES})")
    try:
        yield
    finally:
        await broker.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({DISK_BYTES})")
