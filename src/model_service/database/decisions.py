"""What a decision reads, and where signals, draws of `none` and counted silences are recorded."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.decision_digest import FROZEN, decision_digest
from model_service.database.exit_states import EXIT_STATES, KEEP_EXIT_STATE, exit_state_from, exit_state_row
from model_service.database.opening_limits import admit_openings
from model_service.database.shared_tables import SharedTables
from model_service.policies.exit_state import ExitState
from model_service.services.ports import (
    PLATFORM_SECONDS,
    DecidedSignal,
    DueTicks,
    ExecutionStatistics,
    NoneDraw,
    OpenOrder,
    PlatformUnreadable,
    PositionKey,
    RefusedOpening,
    SilentTick,
    Unstorable,
)
from model_service.services.shared_limits import SharedLimits
from model_service.trades.ledger import Lot

Write = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement and its rows."""
T = TypeVar("T")
REFUSED_VALUES = (
    asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, TypeError, ArithmeticError
)  # fmt: skip
"""Of a row, before anything was committed: by PostgreSQL, by the driver, or while it was being written as JSON."""
ORDER_TIMEOUT = timedelta(minutes=5)
"""After so long without a word an order of ours no longer counts as open; order-manager cancels at the same age."""

OPEN_LOTS = """
    SELECT lot_id, strategy_id, asset, side, signal_id, opened_at, entry_price, quantity, remaining_quantity,
           entry_fees, coalesce(position_id, lot_id) AS position_id
    FROM model_service.lots WHERE remaining_quantity > 0 ORDER BY lot_id
"""

OPEN_ORDERS = """
    SELECT strategy_id, asset, side, intent,
           CASE WHEN intent = 'exit' THEN greatest(0, amount / price - filled.quantity) END AS quantity,
           greatest(0, amount - filled.value) AS amount
    FROM model_service.trading_signals CROSS JOIN LATERAL (
        SELECT coalesce(sum(fills.quantity), 0) AS quantity, coalesce(sum(fills.quantity * fills.price), 0) AS value
        FROM model_service.fills WHERE fills.signal_id = trading_signals.signal_id
    ) AS filled
    WHERE status IN ('pending', 'sending', 'published')
      AND (order_state IS NULL OR order_state IN ('pending', 'partially_filled'))
      AND decided_at > $1
"""

EXECUTION_STATISTICS = """
    WITH recent AS (
        SELECT signal_id, strategy_id, asset, CASE side WHEN 'buy' THEN 1 ELSE -1 END AS sign, price, order_state
        FROM model_service.trading_signals
        WHERE order_state IN ('filled', 'rejected', 'cancelled')
        ORDER BY decided_at DESC, signal_id LIMIT 500
    ), filled AS (
        SELECT signal_id, sum(quantity * price) AS notional, sum(quantity) AS quantity, sum(fees) AS fees
        FROM model_service.fills WHERE signal_id IN (SELECT signal_id FROM recent) GROUP BY signal_id
    ), judged AS (
        SELECT DISTINCT ON (signal_id) signal_id, label FROM model_service.outcomes
        WHERE signal_id IN (SELECT signal_id FROM recent) ORDER BY signal_id, revision DESC
    )
    SELECT strategy_id, asset,
           avg((sign * (notional / quantity / price - 1) * 100))::float8 AS slippage_percent,
           avg((fees / notional * 100))::float8 AS fee_percent,
           (count(*) FILTER (WHERE order_state = 'filled'))::float8 / count(*) AS fill_ratio,
           avg(label)::float8 AS win_rate
    FROM recent LEFT JOIN filled USING (signal_id) LEFT JOIN judged USING (signal_id)
    GROUP BY strategy_id, asset
"""

INSERT_SIGNAL = """
    INSERT INTO model_service.trading_signals (
        signal_id, strategy_id, asset, side, intent, price, amount, confidence, decided_at, expires_at, policy,
        model_version, is_warmup, seed, feature_set, features, probability_buy, probability_sell, probability_none,
        horizon_seconds, take_profit_percent, stop_loss_percent, fee_rate, minimum_net_return, market_data_snapshot,
        metadata, trace_id, evidence, decision_sha256, at_tick)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
            $24, $25, $26, $27, $28, $29, $30)
"""

TRY_SIGNAL = INSERT_SIGNAL + "ON CONFLICT (signal_id) DO NOTHING RETURNING true"

INSERT_NONE = """
    INSERT INTO model_service.decisions (
        decision_id, strategy_id, asset, decided_at, policy, model_version, feature_set, features, probability_buy,
        probability_sell, probability_none, sample_rate, seed)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

COUNT_SILENCE = """
    INSERT INTO model_service.decision_counts AS counts
        (strategy_id, asset, reason, minute, occurrences, last_value, last_threshold)
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::int[], $6::float8[], $7::float8[])
    ON CONFLICT (strategy_id, asset, reason, minute) DO UPDATE
    SET occurrences = counts.occurrences + excluded.occurrences,
        last_value = excluded.last_value, last_threshold = excluded.last_threshold
"""


COUNT_DUE = """
    INSERT INTO model_service.due_ticks AS due
        (strategy_id, asset, minute, interval_seconds, first_due_at, last_due_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::float8[], $5::timestamptz[], $6::timestamptz[])
    ON CONFLICT (strategy_id, asset, minute, interval_seconds) DO UPDATE
    SET first_due_at = least(due.first_due_at, excluded.first_due_at),
        last_due_at = greatest(due.last_due_at, excluded.last_due_at)
"""


class PostgresDecisionStore:
    """The decision store in PostgreSQL.

    Args:
        shared: gives what the siblings' tables say, where they exist.
        limits: of openings over all processes; none when left out.
    """

    def __init__(
        self, database: Database, shared: SharedTables | None = None, limits: SharedLimits | None = None
    ) -> None:
        self._database = database
        self._shared = shared
        self._limits = limits or SharedLimits()
        self._tried: tuple[DecidedSignal, ...] = ()

    async def open_lots(self) -> Mapping[PositionKey, Sequence[Lot]]:
        """Open lots, oldest first."""
        lots: dict[PositionKey, list[Lot]] = defaultdict(list)
        for row in await self._database.fetch(OPEN_LOTS):
            lots[row["strategy_id"], row["asset"]].append(lot_from(row))
        return lots

    async def exit_states(self) -> Mapping[PositionKey, ExitState]:
        """What the exit policy remembers, of positions that may be closed by now."""
        rows = await self._database.fetch(EXIT_STATES)
        return {(row["strategy_id"], row["asset"]): exit_state_from(row) for row in rows}

    async def open_orders(self, now: datetime) -> Sequence[OpenOrder]:
        """Orders of our own signals that may still fill."""
        rows = await self._database.fetch(OPEN_ORDERS, now - ORDER_TIMEOUT)
        return [
            OpenOrder(
                row["strategy_id"], row["asset"], Side(row["side"]), row["intent"], row["quantity"], row["amount"]
            )
            for row in rows
        ]

    async def foreign_orders(self) -> Sequence[OpenOrder]:
        """Open orders of the shared table that are not ours. Raises PlatformUnreadable after a second."""
        return [] if self._shared is None else await _in_time(self._shared.open_orders())

    async def shared_positions(self) -> Mapping[str, float] | None:
        """As the platform's table has them; None where there is none. Raises PlatformUnreadable after a second."""
        return None if self._shared is None else await _in_time(self._shared.positions())

    async def execution_statistics(self) -> Mapping[PositionKey, ExecutionStatistics]:
        """Of the newest 500 orders that came to an end."""
        return {
            (row["strategy_id"], row["asset"]): ExecutionStatistics(
                _number(row["slippage_percent"]),
                _number(row["fee_percent"]),
                _number(row["fill_ratio"]),
                _number(row["win_rate"]),
            )
            for row in await self._database.fetch(EXECUTION_STATISTICS)
        }

    async def record(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw],
        silent: Sequence[SilentTick],
        exit_states: Mapping[PositionKey, ExitState] | None = None,
        *,
        prices: Mapping[str, float] | None = None,
        spare: Mapping[UUID, NoneDraw] | None = None,
        due: Mapping[PositionKey, Sequence[DueTicks]] | None = None,
    ) -> Sequence[RefusedOpening]:
        """All of one pass, in one transaction. When it breaks off, `took_effect` says what became of it.

        Openings that the shared limits forbid come back; they are counted as silent ticks, and those of `spare` (by
        signal) kept as draws of `none`. `prices` by asset value the positions that are held against these limits.
        `due` are the ticks that had to come since the last pass, by strategy and asset: written twice they count once.

        Raises Unstorable when PostgreSQL, or its driver, refuses a value; then nothing is stored.
        """
        self._tried = tuple(signals)
        try:
            return await self._record(signals, nones, silent, exit_states or {}, prices or {}, spare or {}, due or {})
        except REFUSED_VALUES as error:
            raise Unstorable(f"{type(error).__name__}: {error}") from error

    async def _record(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw],
        silent: Sequence[SilentTick],
        exit_states: Mapping[PositionKey, ExitState],
        prices: Mapping[str, float],
        spare: Mapping[UUID, NoneDraw],
        due: Mapping[PositionKey, Sequence[DueTicks]],
    ) -> Sequence[RefusedOpening]:
        states = [exit_state_row(key, state) for key, state in sorted(exit_states.items())]
        openings = [decided for decided in signals if decided.intent != "exit"]
        if not openings:
            await self._write(_writes(signals, nones, silent, states, due))
            return ()
        async with self._database.transaction() as connection:
            admission = await admit_openings(
                self._database, connection, openings, self._limits, prices, order_timeout=ORDER_TIMEOUT
            )
            exits = [decided for decided in signals if decided.intent == "exit"]
            drawn = [spare.get(one.decided.signal.signal_id) for one in admission.refused]
            kept = [*nones, *(draw for draw in drawn if draw is not None)]
            counted = [*silent, *map(_silence, admission.refused)]
            for text, rows in _writes([*exits, *admission.granted], kept, counted, states, due):
                await connection.executemany(self._database.sql(text), rows)
        return admission.refused

    async def took_effect(self) -> frozenset[UUID]:
        """Which signals of the last `record`, which broke off, are stored all the same.

        Empty for a pass without signals: to look at the market once more places no order, and counting both looks is
        true. An opening that was refused is not stored, whatever became of the others. Raises DatabaseUnavailable.
        """
        if not self._tried:
            return frozenset()
        async with self._database.acquire() as connection:
            # Its INSERT may still be under way. Trying the same one waits for the end of that transaction, as no SELECT
            # would; and it is taken back in any case.
            attempt = connection.transaction()
            await attempt.start()
            insert = self._database.sql(TRY_SIGNAL)
            stored = [
                one.signal.signal_id
                for one in self._tried
                if await connection.fetchval(insert, *_signal_row(one)) is None
            ]
            await attempt.rollback()
        return frozenset(stored)

    async def _write(self, writes: Sequence[Write]) -> None:
        if len(writes) == 1:  # one transaction by itself, without the round trips of BEGIN and COMMIT
            await self._database.executemany(*writes[0])
        elif writes:
            async with self._database.transaction() as connection:
                for text, rows in writes:
                    await connection.executemany(self._database.sql(text), rows)


async def _in_time(reading: Awaitable[T]) -> T:
    """What a sibling's table says. Whoever holds a lock on one of them must hold up no decision of ours."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(PLATFORM_SECONDS):
            return await reading
    except (TimeoutError, DatabaseUnavailable) as error:
        raise PlatformUnreadable(time.monotonic() - started) from error


def lot_from(row: asyncpg.Record) -> Lot:
    """A lot from its row."""
    return Lot(
        lot_id=row["lot_id"],
        strategy_id=row["strategy_id"],
        asset=row["asset"],
        side=Side(row["side"]),
        signal_id=row["signal_id"],
        opened_at=row["opened_at"],
        entry_price=row["entry_price"],
        quantity=row["quantity"],
        remaining_quantity=row["remaining_quantity"],
        entry_fees=row["entry_fees"],
        position_id=row["position_id"],
    )


def _writes(
    signals: Sequence[DecidedSignal],
    nones: Sequence[NoneDraw],
    silent: Sequence[SilentTick],
    states: Sequence[tuple[Any, ...]],
    due: Mapping[PositionKey, Sequence[DueTicks]],
) -> list[Write]:
    """Statements with their rows, those without rows left out."""
    writes: list[Write] = [
        (INSERT_SIGNAL, [_signal_row(decided) for decided in signals]),
        (INSERT_NONE, [_none_row(draw) for draw in nones]),
        (COUNT_SILENCE, [tuple(_count_columns(silent))] if silent else []),
        (KEEP_EXIT_STATE, states),
        (COUNT_DUE, [tuple(_due_columns(due))] if due else []),
    ]
    return [(text, rows) for text, rows in writes if rows]


def _silence(refused: RefusedOpening) -> SilentTick:
    signal = refused.decided.signal
    return SilentTick(signal.strategy_id, signal.asset, signal.timestamp, refused.reason)


def _signal_row(decided: DecidedSignal) -> tuple[Any, ...]:
    signal = decided.signal
    row = (
        signal.signal_id, signal.strategy_id, signal.asset, signal.side.value, decided.intent, decided.price,
        signal.amount, signal.confidence, signal.timestamp, signal.expires_at, decided.policy, signal.model_version,
        signal.is_warmup, decided.seed, decided.feature_set, decided.features, decided.probabilities.buy,
        decided.probabilities.sell, decided.probabilities.none, decided.horizon_seconds, decided.take_profit_percent,
        decided.stop_loss_percent, decided.fee_rate, decided.minimum_net_return, dict(signal.market_data_snapshot),
        dict(signal.metadata), signal.trace_id, decided.evidence,
    )  # fmt: skip
    return (*row, decision_digest(dict(zip(FROZEN, row, strict=True))), decided.at_tick)


def _none_row(draw: NoneDraw) -> tuple[Any, ...]:
    return (
        draw.decision_id, draw.strategy_id, draw.asset, draw.decided_at, draw.policy, draw.model_version,
        draw.feature_set, draw.features, draw.probabilities.buy, draw.probabilities.sell, draw.probabilities.none,
        draw.sample_rate, draw.seed,
    )  # fmt: skip


def _count_columns(silent: Sequence[SilentTick]) -> list[tuple[Any, ...]]:
    """The seven columns of the counts, for one statement: a tick of many strategies counts a thousand silences."""
    groups: dict[tuple[str, str, str, datetime], list[SilentTick]] = defaultdict(list)
    for tick in silent:
        minute = tick.at.replace(second=0, microsecond=0)
        groups[tick.strategy_id, tick.asset, tick.reason.code.value, minute].append(tick)
    # In one order always, so that two writers cannot lock each other's rows crosswise.
    rows = [
        (*key, sum(one.count for one in ticks), ticks[-1].reason.value, ticks[-1].reason.threshold)
        for key, ticks in sorted(groups.items())
    ]
    return list(zip(*rows, strict=True))


def _due_columns(due: Mapping[PositionKey, Sequence[DueTicks]]) -> list[tuple[Any, ...]]:
    """The six columns of the ticks that were due; those of one minute in one row."""
    rows: dict[tuple[str, str, datetime, float], tuple[datetime, datetime]] = {}
    for (strategy_id, asset), spans in due.items():
        for span in spans:
            place = (strategy_id, asset, span.minute, span.interval_seconds)
            first, last = rows.get(place, (span.first, span.last))
            rows[place] = min(first, span.first), max(last, span.last)
    return list(zip(*((*place, *times) for place, times in sorted(rows.items())), strict=True))


def _number(value: float | None) -> float:
    return math.nan if value is None else value
