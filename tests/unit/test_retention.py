"""Whose files may go: never those of what speaks, might be put back, or was built upon."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.services.retention import RECENT_ACTIVATIONS, Retention, VersionWithFiles, to_remove
from model_service.services.storage_fault import storage_fault
from tests.support.builders import NOON


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[VersionWithFiles], list[str]]:
    """Versions, newest first, with at most one active; an increment's parent is older; some spoke lately."""
    count = draw(st.integers(0, 30))
    active = draw(st.none() | st.integers(0, count - 1)) if count else None
    made: list[VersionWithFiles] = []
    for number in range(count):
        parent = draw(st.none() | st.sampled_from(made)) if made else None
        made.append(VersionWithFiles(f"v{number}", parent.version if parent else None, number == active))
    spoke = draw(st.lists(st.sampled_from([*(one.version for one in made), "v999"]), max_size=5))
    return made[::-1], spoke


@given(histories(), st.integers(1, 12))
def test_what_is_needed_stays_and_nothing_else(history: tuple[list[VersionWithFiles], list[str]], keep: int) -> None:
    versions, spoke = history
    gone = to_remove(versions, spoke, keep)
    by_name = {one.version: one for one in versions}
    assert len(gone) == len(set(gone))
    kept = by_name.keys() - set(gone)
    wanted = {one.version for one in versions[:keep]} | {one.version for one in versions if one.is_active}
    wanted |= by_name.keys() & set(spoke)
    assert wanted <= kept
    for version in kept:
        parent = by_name[version].parent
        assert parent is None or parent in kept, "an increment that is kept has its parent"
    children = {one.parent for one in versions if one.version in kept}
    assert kept <= wanted | children, "nothing is kept without a reason"
    assert [by_name[name] for name in gone] == [one for one in versions[::-1] if one.version in gone], "oldest first"


@dataclass
class FakeShelf:
    """Versions and their folders; `activated_meanwhile` is what speaks by the time it would be marked."""

    versions: list[VersionWithFiles]
    activated_meanwhile: str | None = None
    disk_refuses: bool = False
    marked: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    async def with_files(self, strategy_id: str | None) -> Sequence[VersionWithFiles]:
        return self.versions

    async def recently_active(self, strategy_id: str | None, activations: int) -> Sequence[str]:
        assert activations == RECENT_ACTIVATIONS
        return ()

    async def mark_removed(self, strategy_id: str | None, version: str, now: datetime) -> bool:
        if version == self.activated_meanwhile:
            return False
        self.marked.append(version)
        return True

    def remove(self, version: str) -> None:
        assert version in self.marked, "a row never promises files that are gone"
        if self.disk_refuses:
            raise OSError(errno.EROFS, "Read-only file system")
        self.removed.append(version)


def shelf(count: int, **changes: Any) -> FakeShelf:
    return FakeShelf([VersionWithFiles(f"v{number}", None, False) for number in range(count, 0, -1)], **changes)


async def test_the_row_is_marked_before_the_folder_goes() -> None:
    fake: Any = shelf(5)
    assert await Retention(fake, fake, keep=3).apply("momentum_v1", NOON) == ["v1", "v2"]
    assert fake.removed == ["v1", "v2"]


async def test_what_was_activated_meanwhile_keeps_its_files() -> None:
    fake: Any = shelf(5, activated_meanwhile="v1")
    assert await Retention(fake, fake, keep=3).apply("momentum_v1", NOON) == ["v2"]
    assert fake.removed == ["v2"]


async def test_a_disk_that_refuses_stops_nothing() -> None:
    fake: Any = shelf(5, disk_refuses=True)
    assert await Retention(fake, fake, keep=4).apply("momentum_v1", NOON) == ["v1"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EROFS, "model_folder_read_only"),
        (errno.EACCES, "model_folder_denied"), (errno.ENOENT, "model_folder_gone"), (errno.EIO, "model_folder_gone"),
        (errno.EMLINK, "model_folder"),
    ],
)  # fmt: skip
def test_a_fault_of_the_folder_has_a_code_and_says_what_to_do(number: int, code: str) -> None:
    found, hint = storage_fault(OSError(number, "the cause", "/models/.run-1"))
    assert found == code
    assert hint.startswith("/models/.run-1: the cause. ")
    assert "request the run again" in hint
