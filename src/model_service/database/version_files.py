"""What the database knows of the folders of versions: whose files there should be, and whose may go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from model_service.database.connection import Database
from model_service.database.registry import LOCK_ACTIVATION, LOCK_FILES
from model_service.services.retention import VersionWithFiles

WITH_FILES = """
    SELECT version, parent_version, is_active FROM model_service.model_versions
    WHERE coalesce(strategy_id, '') = $1 AND files_removed_at IS NULL ORDER BY trained_at DESC, created_at DESC, id
"""
RECENTLY_ACTIVE = """
    SELECT version, previous_version FROM model_service.activations
    WHERE coalesce(strategy_id, '') = $1 ORDER BY activation_id DESC LIMIT $2
"""
MARK_REMOVED = """
    UPDATE model_service.model_versions SET files_removed_at = $2
    WHERE version = $1 AND NOT is_active AND files_removed_at IS NULL RETURNING version
"""
NAMED = "SELECT version FROM model_service.model_versions WHERE files_removed_at IS NULL"
STRATEGIES = """
    SELECT DISTINCT nullif(coalesce(strategy_id, ''), '') AS strategy_id FROM model_service.model_versions
    WHERE files_removed_at IS NULL
"""
LAST_NUMBER = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM model_service.model_version_numbers"
LAST_INCREMENTS = "SELECT base, last FROM model_service.model_version_increments"


class PostgresVersionFiles:
    """Implements `services.retention.RetentionStore` and `services.version_files.FolderRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """While inside, nobody registers a version."""
        async with self._database.transaction() as connection:
            await connection.execute(self._database.sql(LOCK_FILES.format(shared="")))
            yield

    async def strategies_with_files(self) -> Sequence[str | None]:
        """Strategies that have versions with files; None for the general models."""
        return [row["strategy_id"] for row in await self._database.fetch(STRATEGIES)]

    async def named(self) -> Collection[str]:
        """Versions whose files have not been removed."""
        return [row["version"] for row in await self._database.fetch(NAMED)]

    async def given_out(self, versions: Collection[str]) -> Collection[str]:
        """Those of `versions` whose number this database has given out."""
        if not versions:
            return ()
        last = int(await self._database.fetchval(LAST_NUMBER))
        increments = {row["base"]: row["last"] for row in await self._database.fetch(LAST_INCREMENTS)}
        return [one for one in versions if _is_given_out(one, last, increments)]

    async def with_files(self, strategy_id: str | None) -> Sequence[VersionWithFiles]:
        """Versions of a strategy whose files have not been removed, newest first."""
        rows = await self._database.fetch(WITH_FILES, strategy_id or "")
        return [VersionWithFiles(row["version"], row["parent_version"], row["is_active"]) for row in rows]

    async def recently_active(self, strategy_id: str | None, activations: int) -> Sequence[str]:
        """What spoke in the last activations of a strategy."""
        rows = await self._database.fetch(RECENTLY_ACTIVE, strategy_id or "", activations)
        return sorted({name for row in rows for name in row if name is not None})

    async def mark_removed(self, strategy_id: str | None, version: str, now: datetime) -> bool:
        """Write down that the files go; False, with nothing written, when the version is active by now."""
        async with self._database.transaction() as connection:
            await connection.execute(self._database.sql(LOCK_ACTIVATION), strategy_id or "")
            marked = await connection.fetchval(self._database.sql(MARK_REMOVED), version, now)
        return marked is not None


def _is_given_out(version: str, last: int, increments: dict[str, int]) -> bool:
    base, _, increment = version.partition(".")
    if not increment:
        return int(base[1:]) <= last
    return int(increment) <= increments.get(base, 0)
