"""Training children: killed for good within a second, and never without a last word."""

from __future__ import annotations

import asyncio
import os
import time
from importlib import metadata
from pathlib import Path

import pytest

from model_service.models.job import Failure
from model_service.training_process import ChildLauncher
from model_service.training_worker import conflicting_xgboost
from tests.support.training_rows import training_job


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_killed_child_is_gone_within_a_second_and_says_so(tmp_path: Path) -> None:
    child = await ChildLauncher().launch(training_job(str(tmp_path)))
    assert is_alive(child.pid)
    started = time.monotonic()
    await child.kill()
    assert time.monotonic() - started < 1.0
    assert not is_alive(child.pid)
    last = [line async for line in child.lines()][-1]
    assert isinstance(last, Failure)
    assert last.code == "killed"


async def test_a_child_that_cannot_reach_the_database_fails_with_a_hint(tmp_path: Path) -> None:
    child = await ChildLauncher().launch(training_job(str(tmp_path)))
    last = [line async for line in child.lines()][-1]
    assert isinstance(last, Failure)
    assert last.hint


async def test_the_child_is_niced_and_has_a_group_of_its_own(tmp_path: Path) -> None:
    child = await ChildLauncher().launch(training_job(str(tmp_path)))
    try:
        assert os.getpgid(child.pid) == child.pid
        await asyncio.wait_for(anext(child.lines()), 30)
        nice = int(Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[16])
        assert nice == 19
    except FileNotFoundError:
        pytest.fail("the child ended before it could be looked at")
    finally:
        await child.kill()


def test_two_packages_of_one_folder_are_noticed() -> None:
    both = conflicting_xgboost(lambda name: name)
    assert both is not None
    assert "uninstall both" in both

    def only_one(name: str) -> str:
        if name == "xgboost":
            raise metadata.PackageNotFoundError(name)
        return name

    assert conflicting_xgboost(only_one) is None
