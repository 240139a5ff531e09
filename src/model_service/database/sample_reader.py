"""Reads the rows of a training run: a million of them without a Python object for any value."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from model_service.config.label_rule import LabelRules
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
Refusals = tuple[tuple[str, str], ...]
_ASSET_CODES = "SELECT asset, asset_code FROM model_service.asset_codes WHERE asset = ANY($1::text[]) ORDER BY asset"
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
    database: Database, strategy_id: str, *, current: FeatureSet, as_of_us: int, rules: LabelRules | None = None
) -> SampleRows:
    """The latest revision known at `as_of_us` of each labelled opening or reduction of a strategy.

    Args:
        rules: rows that were labelled by another rule than that of their asset are left out; None: all rules count.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
        asyncpg.PostgresError: it refused, for example because a table is missing.
    """
    connection = await database.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            left_out = await refusals(connection, database, rules)
            source = Source(_ROWS, (strategy_id, as_of_us, rules and rules.otherwise), COLUMNS, left_out)
            read = await read_feature_rows(connection, database, source, current)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"PostgreSQL at {database.address}: {error or type(error).__name__}") from error
    finally:
        connection.terminate()
    rows = latest_revisions(read.rows)
    dropped = {**read.dropped, SUPERSEDED: len(read.rows) - len(rows)}
    return SampleRows(in_time_order(rows), dropped, read.of_other_sets)


async def refusals(connection: asyncpg.Connection, database: Database, rules: LabelRules | None) -> Refusals:
    """What is left out, as reason and SQL condition on a row `s`.

    Each condition is true or false, never null; it has the moment as $2 and the rule of most assets as $3.
    """
    by_asset = rules.by_asset if rules is not None else {}
    codes = await connection.fetch(database.sql(_ASSET_CODES), sorted(by_asset)) if by_asset else []
    cases = "".join(f" WHEN {row['asset_code']:d} THEN '{by_asset[row['asset']]:d}'::bigint" for row in codes)
    rule = f"CASE s.asset_code{cases} ELSE $3::bigint END" if cases else "$3::bigint"
    return (
        ("not_yet_known", "s.available_us > $2"),
        ("not_an_opening", "s.intent NOT IN ('open', 'reduce')"),
        ("other_label_rule", f"coalesce(s.label_rule <> {rule}, false)"),
    )
