"""Reads the rows of a training run: a million of them without a Python object for any value."""

from __future__ import annotations

from dataclasses import dataclass

from model_service.database.binary_copy import Column
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.driver_errors import UNAVAILABLE
from model_service.database.feature_rows import FeatureSet, Source, read_feature_rows
from model_service.models.samples import Rows, in_time_order, latest_revisions

COLUMNS = (
    (Column("signal_id", "s.signal_id", "(16,)u1"), "(16,)u1"),
    (Column("decided_us", "s.decided_us", ">i8"), "i8"),
    (Column("exit_us", "s.exit_us", ">i8"), "i8"),
    (Column("net_return", "s.net_return", ">f8"), "f8"),
    (Column("opposite_net_return", "coalesce(s.opposite_net_return, 'NaN')", ">f8"), "f8"),
    (Column("probability_buy", "s.probability_buy", ">f8"), "f8"),
    (Column("probability_sell", "s.probability_sell", ">f8"), "f8"),
    (Column("probability_none", "s.probability_none", ">f8"), "f8"),
    (Column("revision", "s.revision", ">i4"), "i4"),
    (Column("asset_code", "s.asset_code", ">i4"), "i4"),
    (Column("exit_rule", "s.exit_rule", ">i2"), "i2"),
    (Column("side", "s.side", ">i2"), "i1"),
    (Column("label", "s.label", ">i2"), "i1"),
    (Column("is_warmup", "s.is_warmup", "u1"), "?"),
    (Column("is_reduction", "(s.intent = 'reduce')", "u1"), "?"),
)
REFUSALS = (
    ("not_yet_known", "s.available_us > $2"),
    ("not_an_opening", "s.intent NOT IN ('open', 'reduce')"),
    ("other_label_rule", "coalesce(s.label_rule <> $3::bigint, false)"),
)
"""Each condition is true or false, never null; it has the moment as $2 and the rule of the labels as $3."""
# Neither sorted nor joined by the server: both cost more there than the reading itself (3 s of a million rows).
_ROWS = "FROM model_service.samples AS s WHERE s.strategy_id = $1"
SUPERSEDED = "superseded_revision"


@dataclass(frozen=True)
class SampleRows:
    """What was read.

    Attributes:
        rows: structured array (n,), ordered by decided_us and signal_id; fields as the columns of the table `samples`,
            with `features` float32 (F,) in today's order and `is_reduction` in place of the intent.
        dropped: rows of the strategy that were left out, by reason.
        of_other_sets: rows among `rows` that were written with another feature set, by its name.
    """

    rows: Rows
    dropped: dict[str, int]
    of_other_sets: dict[str, int]


async def read_samples(
    database: Database, strategy_id: str, *, current: FeatureSet, as_of_us: int, rule: int | None = None
) -> SampleRows:
    """The latest revision known at `as_of_us` of each labelled opening or reduction of a strategy.

    Args:
        rule: rows that `config.label_rule` gives another number are left out; None: all rules count.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
        asyncpg.PostgresError: it refused, for example because a table is missing.
    """
    source = Source(_ROWS, (strategy_id, as_of_us, rule), COLUMNS, REFUSALS)
    connection = await database.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            read = await read_feature_rows(connection, database, source, current)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL at {database.address}: {error or type(error).__name__}") from error
    finally:
        connection.terminate()
    rows = latest_revisions(read.rows)
    dropped = {**read.dropped, SUPERSEDED: len(read.rows) - len(rows)}
    return SampleRows(in_time_order(rows), dropped, read.of_other_sets)
