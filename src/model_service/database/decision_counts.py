"""What ticks came to: counted reasons and signals of a strategy over a time, both of one moment."""

# ruff: noqa: S608 - statements are put together from the constants of this file; values travel as parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from model_service.database.connection import Database
from model_service.services.decision_funnel import CountedReason, CountedSignals

PAIRS = """
    WITH RECURSIVE pairs AS (
        (SELECT asset, reason FROM model_service.decision_counts WHERE strategy_id = $1
         ORDER BY asset, reason LIMIT 1)
        UNION ALL
        SELECT following.asset, following.reason FROM pairs, LATERAL (
            SELECT c.asset, c.reason FROM model_service.decision_counts c
            WHERE c.strategy_id = $1 AND (c.asset, c.reason) > (pairs.asset, pairs.reason)
            ORDER BY c.asset, c.reason LIMIT 1
        ) following
    )
"""
"""Every asset and reason of a strategy, by steps through the primary key: minutes not asked for cost nothing."""

COUNTS = (
    PAIRS
    + """
    SELECT 'reason' AS kind, c.reason AS name, NULL AS order_state, sum(c.occurrences)::bigint AS occurrences,
           max(c.minute) AS last_minute,
           (array_agg(c.asset ORDER BY c.minute DESC, c.occurrences DESC, c.asset))[1] AS last_asset,
           (array_agg(c.last_value ORDER BY c.minute DESC, c.occurrences DESC, c.asset))[1] AS last_value,
           (array_agg(c.last_threshold ORDER BY c.minute DESC, c.occurrences DESC, c.asset))[1] AS last_threshold
    FROM pairs JOIN model_service.decision_counts c
      ON c.strategy_id = $1 AND c.asset = pairs.asset AND c.reason = pairs.reason
     AND c.minute >= $2 AND c.minute < $3
    WHERE $4::text IS NULL OR pairs.asset = $4
    GROUP BY c.reason
    UNION ALL
    SELECT CASE WHEN intent <> 'exit' THEN 'opening' WHEN at_tick IS FALSE THEN 'look' ELSE 'exit' END, status,
           order_state, count(*),
           NULL, NULL, NULL, NULL
    FROM model_service.trading_signals
    WHERE strategy_id = $1 AND decided_at >= $2 AND decided_at < $3 AND ($4::text IS NULL OR asset = $4)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT 'due', NULL, NULL, sum(round(extract(epoch FROM last_due_at - first_due_at) / interval_seconds) + 1)::bigint,
           NULL, NULL, NULL, NULL
    FROM model_service.due_ticks
    WHERE strategy_id = $1 AND minute >= $2 AND minute < $3 AND ($4::text IS NULL OR asset = $4)
    HAVING NOT EXISTS (
        SELECT FROM pairs JOIN model_service.decision_counts c
          ON c.strategy_id = $1 AND c.asset = pairs.asset AND c.reason = pairs.reason
         AND c.minute >= $2 AND c.minute < min(due_ticks.minute)
        WHERE $4::text IS NULL OR pairs.asset = $4
    )
    ORDER BY kind, occurrences DESC, name, order_state
    """
)
"""One statement sees one moment, and a pass is recorded in one transaction, so the sum is that of whole passes."""

LAST_TICKS = (
    PAIRS
    + """
    SELECT asset, max(last) AS last FROM (
        SELECT pairs.asset, newest.minute AS last FROM pairs, LATERAL (
            SELECT minute FROM model_service.decision_counts c
            WHERE c.strategy_id = $1 AND c.asset = pairs.asset AND c.reason = pairs.reason
            ORDER BY minute DESC LIMIT 1
        ) newest
        UNION ALL
        (SELECT asset, date_trunc('minute', decided_at) FROM model_service.trading_signals WHERE strategy_id = $1
         ORDER BY decided_at DESC LIMIT 1)
    ) known GROUP BY asset
    """
)

LAST_BARS = """
    SELECT wanted.asset, (
        SELECT start_at + make_interval(secs => interval_seconds) FROM model_service.market_bars bars
        WHERE bars.asset = wanted.asset ORDER BY interval_seconds DESC, start_at DESC LIMIT 1
    ) AS last
    FROM unnest($1::text[]) AS wanted (asset)
"""


async def counted(
    database: Database, strategy_id: str, start: datetime, end: datetime, asset: str | None = None
) -> tuple[list[CountedReason], list[CountedSignals], int | None]:
    """Reasons, commonest first, signals and due ticks of [start, end): whole minutes, since reasons are kept by them.

    How many ticks were due is None where some of them are from before that was stored.

    Raises DatabaseUnavailable.
    """
    reasons: list[CountedReason] = []
    signals: list[CountedSignals] = []
    due: int | None = None
    for row in await database.fetch(COUNTS, strategy_id, start, end, asset):
        if row["kind"] == "reason":
            last = (row["last_minute"], row["last_asset"], row["last_value"], row["last_threshold"])
            reasons.append(CountedReason(row["name"], row["occurrences"], *last))
        elif row["kind"] == "due":
            due = row["occurrences"]
        else:
            is_exit, at_tick = row["kind"] != "opening", row["kind"] != "look"
            signals.append(CountedSignals(is_exit, row["name"], row["order_state"], row["occurrences"], at_tick))
    return reasons, signals, due


async def last_ticks(database: Database, strategy_id: str) -> Mapping[str, datetime]:
    """The minute of the last tick that was counted, by asset. Raises DatabaseUnavailable."""
    return {row["asset"]: row["last"] for row in await database.fetch(LAST_TICKS, strategy_id)}


async def last_bars(database: Database, assets: Sequence[str]) -> Mapping[str, datetime | None]:
    """Where the newest stored bar of each asset ends; None where there is none. Raises DatabaseUnavailable."""
    return {row["asset"]: row["last"] for row in await database.fetch(LAST_BARS, list(assets))}
