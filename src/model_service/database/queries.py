"""Read models: what the HTTP interface and the terminal show. Nothing here changes a row.

A row maps column names to values as asyncpg gives them; each function says which columns its callers find.
"""

# ruff: noqa: S608 - statements are put together from the constants of this file; values travel as parameters

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from model_service.database.connection import Database

Row = Mapping[str, Any]
LARGEST_BIGINT = 2**63 - 1
RUNNING = "('preparing', 'fitting', 'evaluating')"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and how many rows the whole list has."""

    rows: list[Row]
    total: int


RUN_COLUMNS = """
    run_id, strategy_id, training_type, trigger, reason, state, requested_at, started_at, finished_at, progress,
    progress_note, error_code, error_hint, version, superseded_by, outcomes_seen"""


async def training_runs(database: Database, *, strategy_id: str | None, limit: int, offset: int) -> Page:
    """Runs, newest first."""
    where = "WHERE ($1::text IS NULL OR strategy_id = $1)"
    return await _page(
        database,
        f"SELECT {RUN_COLUMNS} FROM model_service.training_runs {where} ORDER BY requested_at DESC, run_id",
        f"SELECT count(*) FROM model_service.training_runs {where}",
        (strategy_id,),
        limit,
        offset,
    )


async def training_run(database: Database, run_id: UUID) -> Row | None:
    """The columns of the list and `dataset_report`, `gate`; None when there is no such run."""
    return _row(
        await database.fetchrow(
            f"SELECT {RUN_COLUMNS}, dataset_report, gate FROM model_service.training_runs WHERE run_id = $1", run_id
        )
    )


async def running_training(database: Database, strategy_id: str | None) -> Row | None:
    """The run that has been at work longest: `strategy_id`, `started_at`, `progress` (0 to 1)."""
    return _row(
        await database.fetchrow(
            f"""
        SELECT strategy_id, started_at, progress FROM model_service.training_runs
        WHERE state IN {RUNNING} AND started_at IS NOT NULL AND ($1::text IS NULL OR strategy_id = $1)
        ORDER BY started_at LIMIT 1
        """,
            strategy_id,
        )
    )


async def last_training(database: Database, strategy_id: str | None) -> Row | None:
    """The last run that made a version: `completed_at`, `version`, `duration_seconds`."""
    return _row(
        await database.fetchrow(
            """
        SELECT finished_at AS completed_at, version,
               extract(epoch FROM finished_at - coalesce(started_at, requested_at))::bigint AS duration_seconds
        FROM model_service.training_runs
        WHERE version IS NOT NULL AND finished_at IS NOT NULL AND ($1::text IS NULL OR strategy_id = $1)
        ORDER BY finished_at DESC LIMIT 1
        """,
            strategy_id,
        )
    )


STRATEGIES = """
    SELECT s.strategy_id, s.mode, s.since, s.reason,
           v.version AS active_version, v.trained_at AS active_version_trained_at,
           (SELECT count(*) FROM model_service.trading_signals g WHERE g.strategy_id = s.strategy_id) AS signals,
           (SELECT count(*) FROM model_service.fills f WHERE f.strategy_id = s.strategy_id) AS fills,
           (SELECT count(DISTINCT o.signal_id) FROM model_service.outcomes o WHERE o.strategy_id = s.strategy_id)
               AS outcomes,
           (SELECT count(*) FROM model_service.training_runs r WHERE r.strategy_id = s.strategy_id) AS training_runs,
           (SELECT coalesce(sum(c.realized_pnl), 0) FROM model_service.lot_closures c
            JOIN model_service.lots l USING (lot_id)
            JOIN model_service.trading_signals g ON g.signal_id = l.signal_id
            WHERE c.strategy_id = s.strategy_id AND g.is_warmup) AS warmup_result
    FROM model_service.strategy_modes s
    LEFT JOIN model_service.model_versions v ON v.strategy_id = s.strategy_id AND v.is_active
    WHERE $1::text IS NULL OR s.strategy_id = $1
    ORDER BY s.strategy_id
"""


WARMUP_RESULTS = """
    SELECT c.strategy_id, sum(c.realized_pnl) AS result FROM model_service.lot_closures c
    JOIN model_service.lots l USING (lot_id)
    JOIN model_service.trading_signals g ON g.signal_id = l.signal_id
    WHERE g.is_warmup GROUP BY c.strategy_id
"""


async def warmup_results(database: Database) -> Mapping[str, Decimal]:
    """What the warm-up's positions have brought so far, after both fees, by strategy; below 0: it has cost that."""
    return {row["strategy_id"]: row["result"] for row in await database.fetch(WARMUP_RESULTS)}


HALTS = """
    SELECT halt_id, strategy_id, kind, reason, actor, evidence, started_at FROM model_service.trading_halts
    WHERE ended_at IS NULL ORDER BY halt_id
"""


async def open_halts(database: Database) -> list[Row]:
    """The halts that hold now, oldest first."""
    return _rows(await database.fetch(HALTS))


async def strategies(database: Database) -> list[Row]:
    """Mode, active version, and counts of signals, fills, outcomes and runs of every strategy."""
    return _rows(await database.fetch(STRATEGIES, None))


async def strategy(database: Database, strategy_id: str) -> Row | None:
    """The same of one; None when it is unknown."""
    return _row(await database.fetchrow(STRATEGIES, strategy_id))


async def last_fallback(database: Database, strategy_id: str) -> Row | None:
    """The last time that a version lost the word for its quality: `version`, `to`, `at`, `evidence`."""
    return _row(
        await database.fetchrow(
            """
        SELECT previous_version AS version, version AS "to", activated_at AS at, evidence
        FROM model_service.activations
        WHERE strategy_id = $1 AND reason = 'quality_degraded' AND previous_version IS NOT NULL
        ORDER BY activation_id DESC LIMIT 1
        """,
            strategy_id,
        )
    )


async def signals(database: Database, *, strategy_id: str | None, limit: int, offset: int) -> Page:
    """Signals, newest first, each with the latest revision of its outcome (null while there is none)."""
    where = "WHERE ($1::text IS NULL OR g.strategy_id = $1)"
    return await _page(
        database,
        f"""
        SELECT g.signal_id, g.strategy_id, g.asset, g.side, g.intent, g.price, g.amount, g.confidence, g.decided_at,
               g.expires_at, g.policy, g.model_version, g.is_warmup, g.probability_buy, g.probability_sell,
               g.probability_none, g.trace_id, g.status, g.published_at, g.order_state, g.first_filled_at,
               g.metadata -> 'exit' AS exit, o.label, o.net_return, o.exit_rule, o.exit_at
        FROM model_service.trading_signals g
        LEFT JOIN LATERAL (
            SELECT label, net_return, exit_rule, exit_at FROM model_service.outcomes
            WHERE signal_id = g.signal_id ORDER BY revision DESC LIMIT 1
        ) o ON true
        {where} ORDER BY g.decided_at DESC, g.signal_id
        """,
        f"SELECT count(*) FROM model_service.trading_signals g {where}",
        (strategy_id,),
        limit,
        offset,
    )


LETTER_COLUMNS = """
    dead_letter_id, source, reason_code, reason, occurrences, first_seen_at, last_seen_at, copied_at, requeue_attempts,
    requeued_at, dropped_at"""


async def dead_letters(
    database: Database,
    *,
    source: str | None = None,
    reason_code: str | None = None,
    closed: bool = False,
    limit: int,
    offset: int,
) -> Page:
    """Refused messages, last seen first; those that were requeued or dropped only with `closed`.

    `body` is cut to its first 2,000 bytes, `body_bytes` is its full length.
    """
    where = f"""WHERE ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR reason_code = $2)
        {"" if closed else "AND requeued_at IS NULL AND dropped_at IS NULL"}"""
    return await _page(
        database,
        f"""
        SELECT {LETTER_COLUMNS}, substring(body FROM 1 FOR 2000) AS body, length(body) AS body_bytes
        FROM model_service.dead_letters {where} ORDER BY last_seen_at DESC, dead_letter_id DESC
        """,
        f"SELECT count(*) FROM model_service.dead_letters {where}",
        (source, reason_code),
        limit,
        offset,
    )


async def dead_letter(database: Database, dead_letter_id: int) -> Row | None:
    """The columns of the list and `fingerprint`, with the whole `body`; None when there is no such letter."""
    return _row(
        await database.fetchrow(
            f"SELECT {LETTER_COLUMNS}, fingerprint, body, length(body) AS body_bytes FROM model_service.dead_letters "
            "WHERE dead_letter_id = $1",
            dead_letter_id,
        )
    )


async def _page(
    database: Database, select: str, count: str, arguments: tuple[object, ...], limit: int, offset: int
) -> Page:
    first = len(arguments) + 1
    async with database.acquire() as connection:
        total = await connection.fetchval(database.sql(count), *arguments)
        rows = await connection.fetch(
            database.sql(f"{select} LIMIT ${first} OFFSET ${first + 1}"),
            *arguments,
            limit,
            min(offset, LARGEST_BIGINT),
        )
    return Page(_rows(rows), int(total))


def _row(record: Any | None) -> Row | None:
    return None if record is None else dict(record)


def _rows(records: list[Any]) -> list[Row]:
    return [dict(record) for record in records]
