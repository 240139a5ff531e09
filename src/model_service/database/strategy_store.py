"""What each strategy was last asked to be, and the audit of every change of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from pydantic import ValidationError

from model_service.config.strategies import StrategyDefinition
from model_service.database.connection import Database
from model_service.database.registry import AUDIT
from model_service.services.strategy_changes import Asked, StrategyChange

log = structlog.get_logger()

STORED = "SELECT strategy_id, definition, state FROM model_service.strategy_definitions ORDER BY strategy_id"
KEEP = """
    INSERT INTO model_service.strategy_definitions (strategy_id, definition, state, changed_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (strategy_id) DO UPDATE SET
        definition = excluded.definition, state = excluded.state, changed_at = excluded.changed_at
"""


class PostgresStrategyStore:
    """The table strategy_definitions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stored(self) -> dict[str, Asked]:
        """By name; one that this version of the service cannot read is left out, with a line in the log."""
        found = {}
        for row in await self._database.fetch(STORED):
            try:
                # What a later version has added must not cost a strategy its exits.
                known = StrategyDefinition.model_fields.keys() & row["definition"].keys()
                definition = StrategyDefinition.model_validate({name: row["definition"][name] for name in known})
                found[row["strategy_id"]] = Asked(definition, row["state"])
            except ValidationError as error:
                log.warning("strategy_definition_unreadable", strategy=row["strategy_id"], error=str(error))
        return found

    async def record(self, changes: Sequence[StrategyChange], actor: str, now: datetime) -> None:
        """All changes and their rows of the audit, in one transaction."""
        async with self._database.transaction() as connection:
            for change in changes:
                definition = change.after.definition.model_dump(mode="json")
                await connection.execute(
                    self._database.sql(KEEP), change.strategy_id, definition, change.after.state, now
                )
                await connection.execute(
                    self._database.sql(AUDIT), actor, f"strategy_{change.kind}", change.strategy_id, change.details, now
                )
