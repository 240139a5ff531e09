"""Reads the stored draws that led to no trade, which off-policy values per decision count with r = 0 (METHOD 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from model_service.database.binary_copy import Column
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE
from model_service.database.feature_rows import FeatureSet, Source, read_feature_rows
from model_service.models.samples import Rows

MOST_IDLE_ROWS = 500_000
"""Beyond so many draws they are thinned; half a million give a value per decision to a few parts in a thousand."""
_THINNING_STEPS = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# An opening that may still fill, or waits for its horizon, is neither here nor among the labelled ones.
_DRAWS = """
    SELECT decision_id AS draw_id, decided_at, 0::smallint AS action, probability_buy, probability_sell,
           probability_none, sample_rate, feature_set, features
    FROM model_service.decisions WHERE strategy_id = $1 AND decided_at BETWEEN $2 AND $3
    UNION ALL
    SELECT signal_id, decided_at, CASE side WHEN 'buy' THEN 1 ELSE -1 END::smallint, probability_buy,
           probability_sell, probability_none, 1.0, feature_set, features
    FROM model_service.trading_signals
    WHERE strategy_id = $1 AND decided_at BETWEEN $2 AND $3 AND intent IN ('open', 'reduce')
      AND first_filled_at IS NULL
      AND (status IN ('expired', 'unroutable', 'stopped') OR order_state IN ('rejected', 'cancelled', 'lost'))"""
_COUNT = f"SELECT count(*) FROM ({_DRAWS}) AS draws"  # noqa: S608 - made of literals
# Which draws are kept follows from their identifiers alone: the same ones in every run.
_THINNED = f"FROM ({_DRAWS}) AS s WHERE (uuid_hash_extended(s.draw_id, 0) & {_THINNING_STEPS - 1}) < $4::bigint"
_COLUMNS = (
    (Column("decided_us", "(extract(epoch FROM s.decided_at) * 1000000)::bigint", ">i8"), "i8"),
    (Column("probability_buy", "s.probability_buy", ">f8"), "f8"),
    (Column("probability_sell", "s.probability_sell", ">f8"), "f8"),
    (Column("probability_none", "s.probability_none", ">f8"), "f8"),
    (Column("sample_rate", "s.sample_rate::float8", ">f8"), "f8"),
    (Column("action", "s.action", ">i2"), "i1"),
)


@dataclass(frozen=True)
class IdleRows:
    """What was read.

    Attributes:
        rows: structured array (m,) with decided_us, action (0 none, +1 unfilled buy, -1 unfilled sell),
            probability_buy, probability_sell, probability_none, sample_rate and features float32 (F,) in today's order.
        dropped: draws that were left out, by reason; those that thinning took are none of them.
    """

    rows: Rows
    dropped: dict[str, int]


async def read_idle_draws(
    database: Database,
    strategy_id: str,
    *,
    current: FeatureSet,
    start_us: int,
    end_us: int,
    most: int = MOST_IDLE_ROWS,
) -> IdleRows:
    """Draws of `none`, and openings that came to an end without a fill, decided in [start_us, end_us].

    Where there are more than about `most`, a share of them is kept and their sample rates are multiplied by it.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
        asyncpg.PostgresError: it refused, for example because a table is missing.
    """
    span = (strategy_id, _moment(start_us), _moment(end_us))
    connection = await database.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            steps = await _steps(connection, database, span, most)
            source = Source(_THINNED, (*span, steps), _COLUMNS)
            read = await read_feature_rows(connection, database, source, current)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL at {database.address}: {error or type(error).__name__}") from error
    finally:
        connection.terminate()
    read.rows["sample_rate"] *= steps / _THINNING_STEPS
    return IdleRows(read.rows, read.dropped)


async def _steps(connection: asyncpg.Connection, database: Database, span: tuple[object, ...], most: int) -> int:
    """How many of _THINNING_STEPS parts of all draws are kept: all of them, or as many as make about `most`."""
    found = int(await connection.fetchval(database.sql(_COUNT), *span, timeout=600.0))
    return _THINNING_STEPS if found <= most else max(1, _THINNING_STEPS * most // found)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
