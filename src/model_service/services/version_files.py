"""The files of versions as a whole: what a start finds, and what a look at every byte says."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import structlog

from model_service.models.artifact import ArtifactUnreachable
from model_service.services.errors import NotFound, Unavailable
from model_service.services.ports import FileCheck, ModelFiles, ModelVersion, RegistryStore
from model_service.services.retention import Retention

log = structlog.get_logger()
NAMED = 20
"""So many versions are named in a log line at most."""

VerificationState = Literal["intact", "damaged", "removed"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a look at every file of a version says.

    Attributes:
        files: empty when retention has removed them.
    """

    version: str
    state: VerificationState
    files: Sequence[FileCheck]
    files_removed_at: datetime | None = None

    @property
    def faults(self) -> list[str]:
        """A sentence for each file that is not what was judged."""
        return [fault_of(one) for one in self.files if one.state != "intact"]


class FolderRecords(Protocol):
    """What the database knows of the folders."""

    def sweeping(self) -> AbstractAsyncContextManager[None]:
        """While inside, nobody registers a version."""
        ...

    async def strategies_with_files(self) -> Sequence[str | None]:
        """Strategies that have versions with files; None for the general models."""
        ...

    async def named(self) -> Collection[str]:
        """Versions whose files have not been removed."""
        ...

    async def given_out(self, versions: Collection[str]) -> Collection[str]:
        """Those of `versions` whose number this database has given out."""
        ...


class VersionFiles:
    """Sweeps and reports at a start, and verifies on request."""

    def __init__(
        self, records: FolderRecords, registry: RegistryStore, files: ModelFiles, retention: Retention
    ) -> None:
        self._records = records
        self._registry = registry
        self._files = files
        self._retention = retention

    async def take_stock(self, now: datetime) -> None:
        """What every start does: remove leftovers, say what is missing, apply the retention.

        A folder goes when this database has given out its number and no row names it. What a row names is never
        touched, nor what another database has put there.
        """
        async with self._records.sweeping():
            found = await asyncio.to_thread(self._files.versions)
            named = frozenset(await self._records.named())
            unnamed = found - named
            orphans = frozenset(await self._records.given_out(unnamed))
            for version in sorted(orphans):
                await asyncio.to_thread(self._files.remove, version)
        _report(orphans, unnamed - orphans, named - found)
        for strategy_id in await self._records.strategies_with_files():
            await self._retention.apply(strategy_id, now)

    async def verify(self, version: str) -> Verification:
        """Read every file of a version and hold it against its record.

        Raises:
            NotFound: there is no such version.
            Unavailable: the whole model folder is away.
        """
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"There is no version {version}; GET /api/v1/models lists them.")
        if row.files_removed_at is not None:
            return Verification(version, "removed", (), row.files_removed_at)
        return await asyncio.to_thread(self._look, row)

    def _look(self, row: ModelVersion) -> Verification:
        try:
            checks = self._files.check(row.version, row.files, row.file_sizes)
        except ArtifactUnreachable as error:
            message = f"Nothing can be verified: {error}. Is the volume of MODEL_STORAGE_PATH mounted?"
            raise Unavailable("model_folder_unreachable", message) from error
        intact = all(one.state == "intact" for one in checks)
        return Verification(row.version, "intact" if intact else "damaged", checks)


def fault_of(check: FileCheck) -> str:
    """What is wrong with a file: missing, unreadable, of another length, or of other bytes.

    Example:
        >>> fault_of(FileCheck("serving.onnx", "differs", "aa", 7, "bb", 6))
        'serving.onnx has 6 bytes, the record says 7; sha256 is bb, the record says aa'
    """
    if check.state == "missing":
        return f"{check.name} is missing"
    if check.state == "unreadable":
        return f"{check.name} cannot be read: {check.reason}"
    hashes = f"sha256 is {check.found_sha256}, the record says {check.recorded_sha256}"
    if check.recorded_bytes in (None, check.found_bytes):
        return f"{check.name} has {check.found_bytes} bytes as it should; {hashes}"
    return f"{check.name} has {check.found_bytes} bytes, the record says {check.recorded_bytes}; {hashes}"


def _report(orphans: Collection[str], foreign: Collection[str], missing: Collection[str]) -> None:
    if orphans:
        log.info("version_folders_swept", count=len(orphans), versions=sorted(orphans)[:NAMED])
    if foreign:
        log.warning("version_folders_foreign", count=len(foreign), versions=sorted(foreign)[:NAMED])
    if missing:
        log.error("version_files_missing", count=len(missing), versions=sorted(missing)[:NAMED])
