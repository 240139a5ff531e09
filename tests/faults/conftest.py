"""Fixtures of the fault tests, and the lines that they end with."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults import scenario as lines
from tests.faults.arena import Arena, ensure_servers, make_arena
from tests.faults.postgres_node import PostgresNode
from tests.faults.scenario import Scenario
from tests.support.postgres import make_open_folder
from tests.support.rabbitmq import PrivateBroker, free_ports

# The driver tells of each lost connection at length, and here that is what happens all the time.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def postgres_node() -> Iterator[PostgresNode]:
    """A durable PostgreSQL that scenarios may kill, not started yet."""
    folder = make_open_folder()
    node = PostgresNode(folder / "postgres", free_ports(1)[0])
    yield node
    node.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def arena(private_node: PrivateBroker, postgres_node: PostgresNode, tmp_path: Path) -> AsyncIterator[Arena]:
    """A place for one scenario, on running servers."""
    await ensure_servers(private_node, postgres_node)
    async with make_arena(private_node, postgres_node, tmp_path) as made:
        yield made


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Scenario:
    """The line of this scenario."""
    return Scenario(lines.line_of(request.node))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test that asks for its line is a scenario."""
    if "scenario" in getattr(item, "fixturenames", ()):
        lines.begin(item)


def pytest_unconfigure(config: pytest.Config) -> None:
    """All lines together, after everything else that pytest says."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    reports = [one for of_kind in reporter.stats.values() for one in of_kind if isinstance(one, pytest.TestReport)]
    for line in lines.report(reports):
        reporter.write_line(line)
