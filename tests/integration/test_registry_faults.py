"""Children killed while they write, and a model folder that is full, read-only or gone: nothing half is ever seen."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from model_service import child_process
from model_service.config.clock import RandomIdentifiers
from model_service.database.connection import Database
from model_service.database.training_runs import PostgresTrainingStore
from model_service.database.version_files import PostgresVersionFiles
from model_service.models.job import DatabaseCoordinates, TrainingJob
from model_service.services.retention import Retention
from model_service.services.training import TrainingLimits, TrainingService
from model_service.training_process import LINE_LIMIT_BYTES, ChildProcess
from tests.faults.test_disk_full import fill
from tests.integration import test_modes
from tests.integration.test_modes import NAME, House
from tests.integration.test_registry import active_versions, keeper
from tests.integration.test_training_process import is_alive
from tests.support.artifact_child import CANDIDATE
from tests.support.builders import NOON

artifact, house = test_modes.artifact, test_modes.house
"""Its fixtures."""

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("REGISTRY_KILLS", "24"))
"""How many children are killed; REGISTRY_KILLS=50 and more for a longer look."""


@dataclass
class WritingChildren:
    """Starts children that write the artifact of `source`."""

    source: Path
    started: list[ChildProcess] = field(default_factory=list)

    async def launch(self, job: TrainingJob) -> ChildProcess:
        process = await child_process.start("tests.support.artifact_child", limit=LINE_LIMIT_BYTES, cwd=ROOT)
        assert process.stdin is not None
        process.stdin.write(job.model_copy(update={"parent_directory": str(self.source)}).model_dump_json().encode())
        process.stdin.close()
        self.started.append(ChildProcess(process))
        return self.started[-1]


@pytest.fixture
def children(tmp_path: Path, house: House) -> WritingChildren:
    """Their candidates do not pass the gate, so that the active version has no reason to change."""
    source = tmp_path / "source"
    source.mkdir()
    for name, content in house.contents.items():
        (source / name).write_bytes(content)
    rejected = house.candidate.model_copy(update={"gate_passed": False})
    (source / CANDIDATE).write_text(rejected.model_dump_json())
    return WritingChildren(source)


def training(house: House, database: Database, children: WritingChildren) -> TrainingService:
    at = database.address
    coordinates = DatabaseCoordinates(host=at.host, port=at.port, database=at.database, user=at.user)
    return TrainingService(
        PostgresTrainingStore(database), house.registry, house.files, children, house.modes, RandomIdentifiers(),
        TrainingLimits(coordinates, threads=1, max_duration_seconds=60.0),
        Retention(PostgresVersionFiles(database), house.files, 100),
    )  # fmt: skip


async def ready(service: TrainingService) -> None:
    """Request a run and wait until its child is about to write."""
    await service.request(NAME, "full", "manual", "test", NOON)
    await service.step(NOON)
    current = service.current
    assert current is not None
    async with asyncio.timeout(60):
        while current.progress.note != "ready" and not current.verdict.done():
            await asyncio.sleep(0.001)


async def concluded(service: TrainingService) -> None:
    """Let the run come to its end."""
    async with asyncio.timeout(60):
        while (current := service.current) is not None:
            await asyncio.wait({current.verdict})
            await service.step(NOON)


async def newest_run(database: Database, known: set[Any]) -> dict[str, Any]:
    """The one run that is not in `known`, which knows it then."""
    rows = await database.fetch("SELECT * FROM model_service.training_runs")
    (new,) = [dict(row) for row in rows if row["run_id"] not in known]
    known.add(new["run_id"])
    return new


async def assert_only_whole_versions(house: House, database: Database) -> None:
    """Each folder has a row and each row its folder, every byte as it was judged."""
    rows = await database.fetch("SELECT version FROM model_service.model_versions")
    assert house.files.versions() == {row["version"] for row in rows}
    for row in rows:
        assert (await keeper(house, database).verify(row["version"])).state == "intact"


@pytest.mark.timeout(600)
async def test_children_killed_while_they_write_leave_nothing_half(
    house: House, database: Database, children: WritingChildren
) -> None:
    speaking = await house.add()
    await house.activate(speaking)
    service = training(house, database, children)
    await ready(service)
    began = time.monotonic()
    await concluded(service)
    writing_seconds = time.monotonic() - began
    known: set[Any] = {row["run_id"] for row in await database.fetch("SELECT run_id FROM model_service.training_runs")}
    moments, ends = random.Random(7), Counter[str]()
    for number in range(KILLS):
        await ready(service)
        child = children.started[-1]
        await asyncio.sleep(moments.uniform(0.0, writing_seconds))  # the moment of the kill is what is tried
        if is_alive(child.pid):
            os.killpg(child.pid, signal.SIGKILL)
        killed = time.monotonic()
        while is_alive(child.pid):
            assert time.monotonic() - killed < 1.0, "a process outlived its kill"
            await asyncio.sleep(0.005)
        if number % 2:
            # The service died with it: what a start finds is what the next process has.
            current, service = service.current, training(house, database, children)
            assert current is not None
            current.verdict.cancel()
            await service.recover(NOON)
            house.files.sweep()
            await keeper(house, database).take_stock(NOON)
        else:
            await concluded(service)
        run = await newest_run(database, known)
        ends[f"{run['state']}, {run['error_code']}"] += 1
        if run["error_code"] is None:
            writing_seconds *= 0.7  # the first child was the slowest, and this one had ended before its moment
        assert run["error_code"] in (None, "killed", "interrupted"), run
        assert (run["version"] is None) == (run["error_code"] is not None), run
        left = [path.name for path in house.files.root.iterdir() if path.name.startswith(".")]
        assert left == [], "the files of a killed child are gone"
        await assert_only_whole_versions(house, database)
        assert await house.speaking() == speaking
        assert await active_versions(database) == [speaking]
    assert ends["failed, killed"] >= KILLS // 12, ends
    assert ends["failed, interrupted"] == KILLS // 2, ends


# -- the model folder


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    """A file system of its own for the models; the test is skipped, and says so, where none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT, NO FULL DISK WAS TESTED: a small file system cannot be mounted")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(open_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NO MOUNT, NO FULL DISK WAS TESTED: {done.stderr.strip()}")
    yield open_folder
    subprocess.run(["umount", "--lazy", str(open_folder)], check=False, capture_output=True)


@pytest.fixture
def cramped(database: Database, small_disk: Path, artifact: Any) -> House:
    """A house whose models lie on the small disk."""
    return House(database, small_disk, artifact)


async def ended(house: House, database: Database, children: WritingChildren, known: set[Any]) -> dict[str, Any]:
    service = training(house, database, children)
    await service.request(NAME, "full", "manual", "test", NOON)
    await service.step(NOON)
    await concluded(service)
    return await newest_run(database, known)


async def test_a_full_and_a_read_only_disk_fail_the_run_and_change_nothing(
    cramped: House, database: Database, children: WritingChildren, small_disk: Path
) -> None:
    first, second = await cramped.add(), await cramped.add()
    await cramped.activate(first)
    known: set[Any] = set()
    ballast = small_disk / "ballast"
    fill(ballast)
    run = await ended(cramped, database, children, known)
    assert (run["state"], run["error_code"], run["version"]) == ("failed", "disk_full", None)
    assert "free some" in run["error_hint"].lower()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run = await ended(cramped, database, children, known)
    assert (run["state"], run["error_code"], run["version"]) == ("failed", "model_folder_read_only", None)
    assert "Mount it for writing" in run["error_hint"]
    # To let a version speak writes no file.
    await cramped.activate(second)
    assert await cramped.speaking() == second
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert [path.name for path in small_disk.iterdir() if path.name.startswith(".run")] == []
    await assert_only_whole_versions(cramped, database)
    run = await ended(cramped, database, children, known)
    assert (run["state"], run["error_code"]) == ("rejected", None), run
    await assert_only_whole_versions(cramped, database)
    assert await cramped.speaking() == second


async def test_a_folder_that_is_gone_fails_the_run_and_is_not_made_anew(
    house: House, database: Database, children: WritingChildren
) -> None:
    version = await house.add()
    await house.activate(version)
    away = house.files.root.rename(house.files.root.with_name("away"))
    run = await ended(house, database, children, set())
    assert (run["state"], run["error_code"]) == ("failed", "model_folder_gone")
    assert "mounted" in run["error_hint"]
    assert not house.files.root.exists(), "nothing is written where a volume will be mounted"
    away.rename(house.files.root)
    assert await house.speaking() == version
