"""What of the siblings' tables can be read now, and what is switched off because of what.

Their owner changes them without asking us. Each use names the columns that it needs; one that is missing switches off
the uses that need it and nothing else. All is looked at again and again, so that a use comes back by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from model_service.database.connection import Database

log = structlog.get_logger()

COLUMNS = """
    SELECT a.attname AS name,
           has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
"""

REFUSED = (asyncpg.SyntaxOrAccessError, asyncpg.DataError)
"""What PostgreSQL says of a statement that no longer fits the table, or that it may not run."""

MEND = "Once it is mended it is used again within a minute."
WITHOUT = "Where no order-manager shares this database, set TRADING_ORDER_LOOKUP_ENABLED=false."


@dataclass(frozen=True, slots=True)
class SharedUse:
    """One reason to read one of the siblings' tables.

    Attributes:
        name: what is switched off when it cannot be read.
        statement: `{schema}` stands for the schema of the settings.
        probe: arguments with which the statement costs next to nothing.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    statement: str
    probe: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a use is switched off, and what to do about it; `is_absent`: there is no such table at all."""

    reason: str
    columns: tuple[str, ...]
    hint: str
    is_absent: bool = False


class SharedSchema:
    """Reads the siblings' tables for the uses that work.

    Args:
        schema: their schema; checked by the settings: lower-case letters, digits and underscores only.
    """

    def __init__(self, database: Database, schema: str, uses: Sequence[SharedUse]) -> None:
        self._database = database
        self._schema = schema
        self._uses = tuple(uses)
        self._faults: dict[str, Fault] = {}
        self._checked = False

    @property
    def notices(self) -> tuple[str, ...]:
        """What is switched off and why, one sentence each; without addresses and names of roles."""
        return tuple(f"{name} is switched off: {fault.reason}" for name, fault in sorted(self._faults.items()))

    def has_table(self, use: SharedUse) -> bool:
        """Whether the table of a use was there at the last look, readable or not."""
        fault = self._faults.get(use.name)
        return fault is None or not fault.is_absent

    async def check(self) -> None:
        """Look at tables and columns, and log what has changed. Raises DatabaseUnavailable."""
        for use in self._uses:
            self._note(use, await self._fault(use))
        self._checked = True

    async def rows(self, use: SharedUse, *arguments: object) -> list[asyncpg.Record] | None:
        """Rows of the use's statement, None while it is switched off. Raises DatabaseUnavailable."""
        if not self._checked:
            await self.check()
        if use.name in self._faults:
            return None
        try:
            return await self._database.fetch(self._statement(use), *arguments)
        except REFUSED as error:
            self._note(use, await self._fault(use) or _refused(error))
            return None

    async def _fault(self, use: SharedUse) -> Fault | None:
        found = await self._database.fetch(COLUMNS, self._schema, use.table)
        fault = self._fault_of({row["name"]: row["readable"] for row in found}, use)
        if fault is not None:
            return fault
        try:
            await self._database.fetch(self._statement(use), *use.probe)
        except REFUSED as error:
            return _refused(error)
        return None

    def _fault_of(self, readable: dict[str, bool], use: SharedUse) -> Fault | None:
        table = f"{self._schema}.{use.table}"
        missing = tuple(column for column in use.columns if column not in readable)
        hidden = tuple(column for column in use.columns if not readable.get(column, True))
        if not readable:
            return Fault(f"there is no table {table}", (), f"{MEND} {WITHOUT}", is_absent=True)
        if missing:
            return Fault(f"{table} has no {_columns(missing)}", missing, f"Let its owner add it. {MEND}")
        if hidden:
            hint = f"GRANT SELECT ON {table}, and USAGE ON SCHEMA {self._schema}, to the role of this service. {MEND}"
            return Fault(f"this service may not read {_columns(hidden)} of {table}", hidden, hint)
        return None

    def _note(self, use: SharedUse, fault: Fault | None) -> None:
        before = self._faults.pop(use.name, None)
        if fault is not None:
            self._faults[use.name] = fault
        table = f"{self._schema}.{use.table}"
        if fault is not None and fault != before:
            log.error(
                "shared_table_unusable",
                disabled=use.name,
                table=table,
                columns=list(fault.columns),
                reason=fault.reason,
                hint=fault.hint,
            )
        if fault is None and before is not None:
            log.info("shared_table_usable", enabled=use.name, table=table)

    def _statement(self, use: SharedUse) -> str:
        return use.statement.replace("{schema}", self._schema)


def _columns(names: Sequence[str]) -> str:
    return f"column {names[0]}" if len(names) == 1 else f"columns {', '.join(names)}"


def _refused(error: asyncpg.PostgresError) -> Fault:
    return Fault(f"PostgreSQL refuses to read it: {error}", (), f"Its columns have other types, perhaps. {MEND}")
