"""All that is known of one signal: its row, its orders and fills, the revisions of its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from model_service.contracts.types import Side
from model_service.database.connection import Database
from model_service.database.decision_digest import decision_digest
from model_service.database.queries import Row
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.services.replay import RecordedOpening

SIGNAL = """
    SELECT g.*, g.metadata -> 'exit' AS exit, v.model_type, v.trained_at, v.gate_passed, v.is_active,
           (SELECT names FROM model_service.feature_sets f WHERE f.feature_set = g.feature_set) AS feature_names
    FROM model_service.trading_signals g LEFT JOIN model_service.model_versions v ON v.version = g.model_version
    WHERE g.signal_id = $1
"""

ORDERS = """
    SELECT order_id, other_order_id, status, filled_quantity, filled_notional, filled_fees, updated_at
    FROM model_service.order_progress WHERE signal_id = $1::text ORDER BY updated_at, order_id
"""

FILLS = """
    SELECT order_id, quantity, price, fees, executed_at FROM model_service.fills WHERE signal_id = $1
    ORDER BY executed_at, fill_id
"""

OUTCOMES = """
    SELECT revision, label, net_return, opposite_net_return, exit_rule, entry_at, exit_at, entry_price, exit_price,
           fees, available_at
    FROM model_service.outcomes WHERE signal_id = $1 ORDER BY revision
"""


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """Rows of one signal, of one moment.

    Attributes:
        feature_names: what stands where in the features; None when nobody knows.
        orders: what is known of each order that came of it.
        outcomes: every revision, the last one holds.
    """

    row: Row
    feature_names: tuple[str, ...] | None
    orders: list[Row]
    fills: list[Row]
    outcomes: list[Row]


async def stored_signal(database: Database, signal_id: UUID) -> StoredSignal | None:
    """A signal with all that belongs to it; None when there is none of that identifier. Raises DatabaseUnavailable."""
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(database.sql(SIGNAL), signal_id)
        if row is None:
            return None
        orders = await connection.fetch(database.sql(ORDERS), str(signal_id))
        fills = await connection.fetch(database.sql(FILLS), signal_id)
        outcomes = await connection.fetch(database.sql(OUTCOMES), signal_id)
    return StoredSignal(
        row=dict(row),
        feature_names=_names(dict(row)),
        orders=[dict(one) for one in orders],
        fills=[dict(one) for one in fills],
        outcomes=[dict(one) for one in outcomes],
    )


class PostgresOpenings:
    """The decisions of signals in PostgreSQL, to be made again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def opening(self, signal_id: UUID) -> RecordedOpening | None:
        """A signal's decision; None when there is no such signal. Raises DatabaseUnavailable."""
        found = await self._database.fetchrow(SIGNAL, signal_id)
        if found is None:
            return None
        row = dict(found)
        same = ("signal_id", "strategy_id", "asset", "intent", "price", "amount", "confidence", "decided_at", "policy",
                "model_version", "seed", "features", "evidence")  # fmt: skip
        return RecordedOpening(
            **{name: row[name] for name in same},
            side=Side(row["side"]),
            feature_names=_names(row),
            probabilities={side: row[f"probability_{side.value}"] for side in Side},
            expected_net_return=row["metadata"].get("expected_net_return"),
            probability_none=row["probability_none"],
            recorded_sha256=row["decision_sha256"],
            sha256=decision_digest(row),
        )


def _names(row: Row) -> tuple[str, ...] | None:
    names = row["feature_names"]
    if names is None and row["feature_set"] == FEATURE_SET:
        return FEATURE_NAMES
    return None if names is None else tuple(names)
