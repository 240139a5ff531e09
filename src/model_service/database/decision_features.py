"""One stored decision with the features that decided it: a signal, or a draw of `none`."""

from __future__ import annotations

from uuid import UUID

from model_service.database.connection import Database
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.services.explanations import StoredDecision

DECISION = """
    SELECT d.*, (SELECT names FROM model_service.feature_sets f WHERE f.feature_set = d.feature_set) AS feature_names
    FROM (
        SELECT signal_id AS decision_id, strategy_id, asset, side, intent, decided_at, policy, model_version,
               probability_buy, probability_sell, probability_none, feature_set, features
        FROM model_service.trading_signals WHERE signal_id = $1
        UNION ALL
        SELECT decision_id, strategy_id, asset, NULL, NULL, decided_at, policy, model_version,
               probability_buy, probability_sell, probability_none, feature_set, features
        FROM model_service.decisions WHERE decision_id = $1
    ) d
"""


class PostgresDecisionSource:
    """Stored decisions in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def decision(self, decision_id: UUID) -> StoredDecision | None:
        """A signal or a stored draw; None when there is none of that identifier."""
        row = await self._database.fetchrow(DECISION, decision_id)
        if row is None:
            return None
        values = dict(row)
        names = values["feature_names"]
        if names is None and values["feature_set"] == FEATURE_SET:
            names = FEATURE_NAMES
        return StoredDecision(**{**values, "feature_names": None if names is None else tuple(names)})
