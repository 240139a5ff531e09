"""PostgreSQL's disk is full: it refuses, or ends, and whoever supervises it starts it again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.arena import Arena, make_arena
from tests.faults.ingest import ingest
from tests.faults.postgres_node import PostgresNode
from tests.faults.scenario import Scenario
from tests.support.rabbitmq import PrivateBroker, free_ports

pytestmark = pytest.mark.faults
DISK_MEGABYTES = 160
SMALL = {"max_wal_size": "16MB", "min_wal_size": "8MB"}
"""So that the log of changes cannot live for long on files that it has already."""
BLOCK = b"\0" * 65_536
FULL_SECONDS = 20.0
LOOK_SECONDS = 0.5
WITHIN_SECONDS = 15.0


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    """A file system of its own; the test is skipped, and says so, where none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT, NO FULL DISK WAS TESTED: a small file system cannot be mounted")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=0755", "tmpfs", str(open_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NO MOUNT, NO FULL DISK WAS TESTED: {done.stderr.strip()}")
    yield open_folder
    subprocess.run(["umount", str(open_folder)], check=True)


@pytest_asyncio.fixture
async def cramped(private_broker: PrivateBroker, small_disk: Path, tmp_path: Path) -> AsyncIterator[Arena]:
    """An arena with a database on the small disk."""
    node = PostgresNode(small_disk / "postgres", free_ports(1)[0], SMALL)
    try:
        await node.start()
        async with make_arena(private_broker, node, tmp_path) as made:
            yield made
    finally:
        node.kill()


@pytest.mark.timeout(300)
async def test_disk_of_the_database_full(cramped: Arena, small_disk: Path, scenario: Scenario) -> None:
    async with ingest(cramped, orders=6_000) as run, supervised(cramped.postgres):
        ballast = small_disk / "ballast"
        fill(ballast)
        await asyncio.sleep(FULL_SECONDS)
        assert not run.service.has_ended, run.service.tail()
        stalled = await run.until_recorded(2.0) >= 2.0
        ballast.unlink()
        recovery = await run.until_recorded(90.0)
        verdict = await run.settle()
    scenario.note(stalled=stalled)
    scenario.conclude(verdict, recovery_seconds=recovery, within_seconds=WITHIN_SECONDS)
    assert stalled, "the disk was not full"


def fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(BLOCK)


@asynccontextmanager
async def supervised(node: PostgresNode) -> AsyncIterator[None]:
    """Start the server again whenever it has ended, as the operating system's supervisor does."""
    task = asyncio.create_task(_supervise(node))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _supervise(node: PostgresNode) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not node.is_running:
            node.kill()
            with suppress(RuntimeError, OSError):
                await node.start()
