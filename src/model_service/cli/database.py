"""`model-service db`: the schema."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.cli.settings import settings_from_environment
from model_service.config.loading import load_settings
from model_service.database.connection import Database

db_app = typer.Typer(no_args_is_help=True)


@db_app.command()
def up() -> None:
    """Apply the migrations that are missing."""
    from model_service.database.migrations import apply_migrations

    async def work(database: Database) -> None:
        applied = await apply_migrations(database)
        typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")

    _with_database(work)


@db_app.command()
def down(count: Annotated[int, typer.Option(min=1, help="How many migrations to revert.")] = 1) -> None:
    """Revert the newest migrations; their tables and data are gone after this."""
    from model_service.database.migrations import revert_migrations

    async def work(database: Database) -> None:
        reverted = await revert_migrations(database, count)
        typer.echo("\n".join(f"reverted {name}" for name in reverted) or "nothing to revert")

    _with_database(work)


@db_app.command("status")
def show_status() -> None:
    """Show which migrations are applied."""
    from model_service.database.migrations import migration_status

    async def work(database: Database) -> None:
        for state in await migration_status(database):
            typer.echo(f"{state.version:04d}  {state.name:30}  {state.state}")

    _with_database(work)


@db_app.command()
def sql() -> None:
    """Print all migrations as plain SQL, for whoever owns the platform's schema."""
    from model_service.database.migrations import migrations_as_sql

    with plain_errors():
        settings, _ = load_settings(os.environ)
        typer.echo(migrations_as_sql(settings.model_service_schema))


def _with_database(work: Callable[[Database], Awaitable[None]]) -> None:
    with plain_errors():
        settings = settings_from_environment(os.environ)
        if settings.uses_embedded_database:
            raise CommandFailed(
                ExitCode.SETTINGS, "POSTGRES_HOST is not set: the embedded database applies its migrations by itself."
            )
        from model_service.database.addresses import external_address

        async def session() -> None:
            database = Database(external_address(settings))
            await database.open()
            try:
                await work(database)
            finally:
                await database.close()

        asyncio.run(session())
