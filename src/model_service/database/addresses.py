"""Which PostgreSQL the settings mean, and how a command reaches it while the service runs and while it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from model_service.config.settings import Settings
from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.embedded import DATABASE, EmbeddedPostgres
from model_service.database.embedded_cluster import SUPERUSER
from model_service.database.embedded_errors import FolderInUse, in_plain_words
from model_service.database.embedded_places import Home, prepare_home
from model_service.database.migrations import apply_migrations, check_schema

SOCKET_FOLDER_LINE = 4
"""Of PostgreSQL's own pid file, counted from 0."""


def external_address(settings: Settings) -> DatabaseAddress:
    """The shared PostgreSQL of the settings."""
    assert settings.postgres_host is not None, "only for a database that the settings name"
    password = settings.postgres_password
    return DatabaseAddress(
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_db,
        user=settings.postgres_user,
        password=password.get_secret_value() if password is not None else None,
        schema=settings.model_service_schema,
    )


def embedded_folder(settings: Settings) -> Path:
    """The folder of the embedded PostgreSQL."""
    return settings.model_service_state_path / "postgres"


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The service's database with its schema checked, whether the service runs or not.

    An embedded one that no process serves is started for the block, and brought up to date as the service would do.

    Raises:
        DatabaseUnavailable: it cannot be reached, or there are no data of an embedded one.
        SchemaOutdated, MigrationChanged: the schema is not of this version.
        EmbeddedPostgresError: the embedded one does not start.
    """
    if not settings.uses_embedded_database:
        async with _opened(external_address(settings)) as database:
            await check_schema(database)
            yield database
        return
    folder = embedded_folder(settings)
    embedded = EmbeddedPostgres(folder)
    home = await asyncio.to_thread(_existing_home, folder)
    try:
        address = await embedded.start()
    except FolderInUse:
        async with _opened(_served_address(home)) as database:
            await check_schema(database)
            yield database
        return
    try:
        async with _opened(address) as database:
            await apply_migrations(database)
            yield database
    finally:
        await embedded.stop()


@asynccontextmanager
async def _opened(address: DatabaseAddress) -> AsyncIterator[Database]:
    database = Database(address, pool_size=2)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _existing_home(folder: Path) -> Home:
    with in_plain_words(folder):
        if folder.is_dir() and (home := prepare_home(folder)).data.is_dir():
            return home
    raise DatabaseUnavailable(
        f"There are no data of an embedded PostgreSQL in {folder}: no service has run there yet. "
        "Set POSTGRES_HOST or MODEL_SERVICE_STATE_PATH as for the service."
    )


def _served_address(home: Home) -> DatabaseAddress:
    """Of a server that another process has started."""
    try:
        lines = (home.data / "postmaster.pid").read_text(encoding="utf-8").split("\n")
        socket_folder = lines[SOCKET_FOLDER_LINE]
    except (OSError, IndexError) as error:
        raise DatabaseUnavailable(
            f"The embedded PostgreSQL in {home.folder} is just being started or stopped; try again."
        ) from error
    return DatabaseAddress(host=socket_folder, port=5432, database=DATABASE, user=SUPERUSER)
