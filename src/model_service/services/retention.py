"""Whose files are kept: the newest of each strategy, and whatever is spoken, might be put back, or built upon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from model_service.services.ports import ModelFiles

log = structlog.get_logger()
RECENT_ACTIVATIONS = 20
"""What spoke in so many of the last activations of a strategy can be put back."""


@dataclass(frozen=True, slots=True)
class VersionWithFiles:
    """A version whose files are there."""

    version: str
    parent: str | None
    is_active: bool


class RetentionStore(Protocol):
    """Which versions have files, and which have spoken."""

    async def with_files(self, strategy_id: str | None) -> Sequence[VersionWithFiles]:
        """Versions of a strategy whose files have not been removed, newest first; None: of the general models."""
        ...

    async def recently_active(self, strategy_id: str | None, activations: int) -> Sequence[str]:
        """What spoke in the last activations of a strategy."""
        ...

    async def mark_removed(self, strategy_id: str | None, version: str, now: datetime) -> bool:
        """Write down that the files go; False, with nothing written, when the version is active by now."""
        ...


def to_remove(versions: Sequence[VersionWithFiles], recently_active: Sequence[str], keep: int) -> list[str]:
    """Versions whose files may go, oldest first.

    Kept are the `keep` newest, the active one, those in `recently_active`, and every ancestor of one that is kept:
    an increment is explained and continued by what it was built upon.

    Args:
        versions: of one strategy, newest first.

    Example:
        >>> old, new = VersionWithFiles("v1", None, False), VersionWithFiles("v2", None, True)
        >>> to_remove([new, old], [], keep=1)
        ['v1']
    """
    parents: Mapping[str, str | None] = {one.version: one.parent for one in versions}
    kept = {one.version for one in versions[:keep]} | {one.version for one in versions if one.is_active}
    kept |= parents.keys() & set(recently_active)
    for version in tuple(kept):
        ancestor = parents[version]
        while ancestor is not None and ancestor not in kept:
            kept.add(ancestor)
            ancestor = parents.get(ancestor)
    return [one.version for one in reversed(versions) if one.version not in kept]


class Retention:
    """Removes the files of old versions; rows, metrics and history stay for ever."""

    def __init__(self, store: RetentionStore, files: ModelFiles, keep: int) -> None:
        self._store = store
        self._files = files
        self._keep = keep

    async def apply(self, strategy_id: str | None, now: datetime) -> list[str]:
        """Remove what may go of one strategy, or (None) of the general models; returns those versions."""
        versions = await self._store.with_files(strategy_id)
        if len(versions) <= self._keep:
            return []
        recent = await self._store.recently_active(strategy_id, RECENT_ACTIVATIONS)
        removed = []
        for version in to_remove(versions, recent, self._keep):
            # The row first: what a crash leaves then is a folder that no row names, which the next start sweeps.
            if await self._store.mark_removed(strategy_id, version, now):
                await self._remove(version)
                removed.append(version)
        if removed:
            log.info("version_files_removed", strategy=strategy_id, versions=len(removed), newest=removed[-1])
        return removed

    async def _remove(self, version: str) -> None:
        try:
            await asyncio.to_thread(self._files.remove, version)
        except OSError as error:
            log.warning("version_files_not_removed", version=version, error=str(error))
