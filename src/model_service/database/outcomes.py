"""Filled signals whose label is due, and the outcomes and samples that come of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from model_service.config.label_rule import label_rule
from model_service.contracts.types import Side
from model_service.database.bars import BarStore
from model_service.database.connection import Connection, Database
from model_service.market.snapshot import Bar
from model_service.services.ports import FilledSignal, Outcome
from model_service.trades.labels import EXIT_RULE_CODES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# So many of each asset: one whose prices have stopped holds up no other. Within an asset whose horizon ended first
# comes first, so that no strategy's long horizon does either.
DUE = """
    SELECT s.signal_id, s.strategy_id, s.asset, s.side, s.model_version, s.horizon_seconds, s.take_profit_percent,
           s.stop_loss_percent, s.fee_rate, s.minimum_net_return, s.first_filled_at,
           coalesce((s.market_data_snapshot ->> 'spread')::float8, 0) AS spread_percent,
           f.quantity, f.notional / f.quantity AS price, f.fees
    FROM (
        SELECT *, row_number() OVER (PARTITION BY asset ORDER BY due_at, signal_id) AS place
        FROM (SELECT *, first_filled_at + make_interval(secs => horizon_seconds) AS due_at
              FROM model_service.trading_signals
              WHERE labelled_at IS NULL AND first_filled_at IS NOT NULL AND intent <> 'exit') AS filled
        WHERE due_at <= $1) AS s
    CROSS JOIN LATERAL (
        SELECT sum(quantity) AS quantity, sum(quantity * price) AS notional, sum(fees) AS fees
        FROM model_service.fills WHERE fills.signal_id = s.signal_id) AS f
    WHERE s.place <= $2
    ORDER BY s.due_at, s.signal_id
"""
REPORTED = """
    SELECT DISTINCT ON (signal_id) signal_id, reported_return, executed_at FROM (
        SELECT l.signal_id, e.reported_return, e.executed_at
        FROM model_service.lots AS l JOIN model_service.lot_closures AS c USING (lot_id)
        JOIN model_service.fills AS f USING (fill_id) JOIN model_service.execution_events AS e USING (event_id)
        WHERE l.signal_id = ANY($1::uuid[]) AND e.reported_return IS NOT NULL
        UNION ALL
        SELECT e.signal_id::uuid, e.reported_return, e.executed_at FROM model_service.execution_events AS e
        WHERE e.signal_id = ANY($2::text[]) AND e.reported_return IS NOT NULL) AS reports
    ORDER BY signal_id, executed_at DESC, reported_return
"""
REVISIONS = """
    SELECT signal_id, max(revision) AS revision FROM model_service.outcomes
    WHERE signal_id = ANY($1::uuid[]) GROUP BY signal_id
"""
INSERT_OUTCOME = """
    INSERT INTO model_service.outcomes (
        signal_id, revision, strategy_id, asset, side, model_version, entry_at, exit_at, entry_price, exit_price,
        exit_rule, fees, net_return, label, available_at, opposite_net_return)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
INSERT_SAMPLES = """
    INSERT INTO model_service.samples (
        signal_id, revision, strategy_id, asset_code, feature_set, side, intent, is_warmup, model_version, decided_us,
        exit_us, available_us, label, exit_rule, net_return, probability_buy, probability_sell, probability_none,
        features, opposite_net_return, label_rule)
    SELECT s.signal_id, given.revision, s.strategy_id, a.asset_code, s.feature_set,
           CASE s.side WHEN 'buy' THEN 1 ELSE -1 END, s.intent, s.is_warmup, s.model_version,
           (extract(epoch FROM s.decided_at) * 1000000)::bigint, given.exit_us, given.available_us, given.label,
           given.exit_rule, given.net_return, s.probability_buy, s.probability_sell, s.probability_none, s.features,
           given.opposite_net_return, given.label_rule
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::smallint[], $6::smallint[], $7::float8[],
                $8::float8[], $9::bigint[])
         AS given (signal_id, revision, exit_us, available_us, label, exit_rule, net_return, opposite_net_return,
                   label_rule)
    JOIN model_service.trading_signals AS s USING (signal_id)
    JOIN model_service.asset_codes AS a USING (asset)
"""
ADD_ASSETS = "INSERT INTO model_service.asset_codes (asset) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
# First of all statements: it waits for a transaction of ours that is still under way after its connection was lost, and
# then finds what that one has labelled. A second outcome would pass for a correction of the first.
CLAIM = """
    UPDATE model_service.trading_signals SET labelled_at = $2
    WHERE signal_id = ANY($1::uuid[]) AND labelled_at IS NULL RETURNING signal_id
"""
# A fill that was entered after the signal was read has made the label out of date. The claim's lock on the signal holds
# back any further one, which then finds a label to be revised.
GIVE_BACK = """
    UPDATE model_service.trading_signals AS s SET labelled_at = NULL
    FROM unnest($1::uuid[], $2::timestamptz[], $3::numeric[], $4::numeric[], $5::numeric[])
         AS seen (signal_id, entry_at, quantity, price, fees)
    WHERE s.signal_id = seen.signal_id AND (
        s.first_filled_at <> seen.entry_at
        OR (SELECT (sum(f.quantity), sum(f.quantity * f.price) / sum(f.quantity), sum(f.fees))
                   IS DISTINCT FROM (seen.quantity, seen.price, seen.fees)
            FROM model_service.fills AS f WHERE f.signal_id = seen.signal_id))
    RETURNING s.signal_id
"""


class PostgresOutcomeStore:
    """Outcomes and samples in PostgreSQL."""

    def __init__(self, database: Database, bars: BarStore) -> None:
        self._database = database
        self._bars = bars
        self._known_assets: set[str] = set()

    async def due(self, now: datetime, limit: int) -> Sequence[FilledSignal]:
        """Filled, unlabelled openings whose horizon has passed, `limit` of each asset at most, first due first."""
        return [_filled(row) for row in await self._database.fetch(DUE, now, limit)]

    async def bars(self, asset: str, interval_seconds: int, start: datetime, end: datetime) -> Sequence[Bar]:
        """Bars of `asset` that overlap [start, end), in order."""
        return await self._bars.between(asset, start, end)

    async def reported(self, signal_ids: Sequence[UUID]) -> Mapping[UUID, tuple[Decimal, datetime]]:
        """What the platform itself reported as the return (a fraction) of these signals' lots, and when."""
        rows = await self._database.fetch(REPORTED, list(signal_ids), [str(one) for one in signal_ids])
        return {row["signal_id"]: (row["reported_return"], row["executed_at"]) for row in rows}

    async def store(self, outcomes: Sequence[Outcome]) -> int:
        """Outcomes, and samples for the labelled ones, in one transaction; returns how many samples.

        What has been labelled meanwhile is left as it is, so that it can be tried again after an answer that was lost.
        What has got another fill meanwhile stays due.
        """
        async with self._database.transaction() as connection:
            claimed = await self._claim(connection, outcomes)
            labelled = [one for one in outcomes if one.label is not None and one.filled.signal_id in claimed]
            if labelled:
                await self._insert(connection, labelled)
        # Not earlier: an asset whose transaction was rolled back is not in the table.
        self._known_assets |= {outcome.filled.asset for outcome in labelled}
        return len(labelled)

    async def _claim(self, connection: Connection, outcomes: Sequence[Outcome]) -> set[UUID]:
        """The signals that are ours to label, with the fills that `outcomes` know of."""
        asked = [outcome.filled.signal_id for outcome in outcomes]
        rows = await connection.fetch(self._database.sql(CLAIM), asked, outcomes[0].available_at)
        claimed = {row["signal_id"] for row in rows}
        entries = [_entry_row(outcome.filled) for outcome in outcomes if outcome.filled.signal_id in claimed]
        if not entries:
            return claimed
        columns = [list(column) for column in zip(*entries, strict=True)]
        outdated = await connection.fetch(self._database.sql(GIVE_BACK), *columns)
        return claimed - {row["signal_id"] for row in outdated}

    async def _insert(self, connection: Connection, labelled: Sequence[Outcome]) -> None:
        ids = [outcome.filled.signal_id for outcome in labelled]
        rows = await connection.fetch(self._database.sql(REVISIONS), ids)
        last = {row["signal_id"]: row["revision"] for row in rows}
        revisions = [last.get(one, 0) + 1 for one in ids]
        await connection.executemany(
            self._database.sql(INSERT_OUTCOME),
            [_outcome_row(outcome, revision) for outcome, revision in zip(labelled, revisions, strict=True)],
        )
        await self._add_assets(connection, {outcome.filled.asset for outcome in labelled})
        sample_rows = [_sample_row(outcome, revision) for outcome, revision in zip(labelled, revisions, strict=True)]
        columns = [list(column) for column in zip(*sample_rows, strict=True)]
        await connection.execute(self._database.sql(INSERT_SAMPLES), *columns)

    async def _add_assets(self, connection: Connection, assets: set[str]) -> None:
        unknown = sorted(assets - self._known_assets)
        if unknown:
            await connection.execute(self._database.sql(ADD_ASSETS), unknown)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def _filled(row: asyncpg.Record) -> FilledSignal:
    return FilledSignal(
        signal_id=row["signal_id"],
        strategy_id=row["strategy_id"],
        asset=row["asset"],
        side=Side(row["side"]),
        model_version=row["model_version"],
        entry_at=row["first_filled_at"],
        entry_price=row["price"],
        entry_quantity=row["quantity"],
        entry_fees=row["fees"],
        horizon_seconds=row["horizon_seconds"],
        take_profit_percent=row["take_profit_percent"],
        stop_loss_percent=row["stop_loss_percent"],
        fee_rate=row["fee_rate"],
        minimum_net_return=row["minimum_net_return"],
        spread_percent=row["spread_percent"],
    )


def _entry_row(filled: FilledSignal) -> tuple[Any, ...]:
    return filled.signal_id, filled.entry_at, filled.entry_quantity, filled.entry_price, filled.entry_fees


def _outcome_row(outcome: Outcome, revision: int) -> tuple[Any, ...]:
    filled, label = outcome.filled, outcome.label
    assert label is not None, "only labelled outcomes are inserted"
    return (
        filled.signal_id, revision, filled.strategy_id, filled.asset, filled.side.value, filled.model_version,
        filled.entry_at, label.exit_at, filled.entry_price, label.exit_price, label.exit_rule.value, label.fees,
        label.net_return, label.label, outcome.available_at, outcome.opposite_net_return,
    )  # fmt: skip


def _sample_row(outcome: Outcome, revision: int) -> tuple[Any, ...]:
    label, filled = outcome.label, outcome.filled
    assert label is not None, "only labelled outcomes become samples"
    rule = label_rule(
        filled.horizon_seconds, filled.take_profit_percent, filled.stop_loss_percent, filled.fee_rate,
        filled.minimum_net_return,
    )  # fmt: skip
    return (
        filled.signal_id, revision, microseconds(label.exit_at), microseconds(outcome.available_at),
        label.label, EXIT_RULE_CODES[label.exit_rule], label.net_return, outcome.opposite_net_return, rule,
    )  # fmt: skip
