"""Signals in, executions back, fills, lots, labels and samples: the database side of the loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from model_service.config.label_rule import LabelRules, label_rule
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import OrderStatus, Side
from model_service.database import queries
from model_service.database.bars import BarStore
from model_service.database.connection import Database
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.executions import ExecutionStore
from model_service.database.feature_rows import CURRENT
from model_service.database.outcomes import PostgresOutcomeStore, microseconds
from model_service.database.sample_reader import SampleRows, read_samples
from model_service.database.sample_stream import stream_samples
from model_service.database.training_runs import PostgresTrainingStore
from model_service.market.snapshot import Bar
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, encode_features
from model_service.policies.base import ActionProbabilities
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.labelling import Labeller
from model_service.services.ports import DecidedSignal, SilentTick, TrainingRun
from tests.support.builders import NOON, strategy

BUY_ID, SELL_ID = UUID(int=1), UUID(int=2)
MINUTE = timedelta(minutes=1)
LATER_US = 2**62
FEATURES = encode_features(np.arange(len(FEATURE_NAMES), dtype=np.float32))


def decided(signal_id: UUID, side: Side) -> DecidedSignal:
    signal = TradingSignal(
        signal_id=signal_id,
        side=side,
        asset="BTCUSDT",
        amount=Decimal("500.00"),
        confidence=0.6,
        timestamp=NOON,
        expires_at=NOON + timedelta(seconds=30),
        strategy_id="momentum_v1",
        model_version=None,
        is_warmup=True,
        market_data_snapshot={"price": 100.0, "spread": 0.02},
        metadata={"reasoning": "test"},
        trace_id=signal_id.hex,
    )
    return DecidedSignal(
        signal=signal,
        intent="open",
        price=Decimal(100),
        policy="warmup",
        seed="7:momentum_v1",
        features=FEATURES,
        feature_set=FEATURE_SET,
        probabilities=ActionProbabilities(0.3, 0.2),
        horizon_seconds=300,
        take_profit_percent=3.0,
        stop_loss_percent=2.0,
        fee_rate=0.001,
        minimum_net_return=0.0,
    )


def increment(event_id: str, signal_id: str, side: Side, quantity: str, price: str, *, second: int = 1) -> Observation:
    return Observation(
        event_id=event_id,
        kind=ObservationKind.INCREMENT,
        order_id=f"order-{signal_id}",
        signal_id=signal_id,
        asset="BTCUSDT",
        side=side,
        status=OrderStatus.FILLED,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fees=Decimal("0.5"),
        executed_at=NOON + timedelta(seconds=second),
    )


async def record(database: Database, *observations: Observation) -> tuple[int, int, int]:
    batch = await ExecutionStore(database).record([(one, b"{}") for one in observations], "test", NOON)
    return batch.new_events, batch.orphans, batch.fills


async def with_signals(database: Database, *signals: DecidedSignal) -> PostgresDecisionStore:
    store = PostgresDecisionStore(database)
    await store.record(signals, (), ())
    return store


async def test_an_event_counts_once_however_often_it_comes(database: Database) -> None:
    store = await with_signals(database, decided(BUY_ID, Side.BUY))
    event = increment("e1", str(BUY_ID), Side.BUY, "2", "100")
    assert await record(database, event, event) == (1, 0, 1)
    assert await record(database, event) == (0, 0, 0)
    lots = (await store.open_lots())["momentum_v1", "BTCUSDT"]
    assert [(lot.side, lot.remaining_quantity) for lot in lots] == [(Side.BUY, Decimal(2))]


async def test_two_writers_of_one_event_make_one_fill(database: Database) -> None:
    import asyncio

    await with_signals(database, decided(BUY_ID, Side.BUY))
    event = increment("e1", str(BUY_ID), Side.BUY, "2", "100")
    results = await asyncio.gather(*(record(database, event) for _ in range(4)))
    assert sorted(result[2] for result in results) == [0, 0, 0, 1]
    assert await database.fetchval("SELECT count(*) FROM model_service.fills") == 1


async def test_a_fill_of_an_unknown_signal_is_kept_as_an_orphan(database: Database) -> None:
    good = increment("e2", str(BUY_ID), Side.BUY, "1", "100")
    await with_signals(database, decided(BUY_ID, Side.BUY))
    orphan = increment("test-event-001", "test-signal-001", Side.BUY, "1", "100")
    assert await record(database, orphan, good) == (2, 1, 1)
    row = await database.fetchrow("SELECT * FROM model_service.execution_events WHERE event_id = 'test-event-001'")
    assert row is not None
    assert row["is_orphan"]


async def test_checkpoints_and_increments_of_one_order_do_not_add_up_twice(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    part = increment("e1", str(BUY_ID), Side.BUY, "1", "100")
    total = replace(part, event_id="e2", kind=ObservationKind.CHECKPOINT, quantity=Decimal(3), price=Decimal(101))
    await record(database, part)
    await record(database, total)
    assert await database.fetchval("SELECT sum(quantity) FROM model_service.fills") == Decimal(3)
    assert await database.fetchval("SELECT sum(quantity * price) FROM model_service.fills") == Decimal(303)


async def test_an_opposite_fill_in_the_same_batch_closes_the_lot_and_realises(database: Database) -> None:
    store = await with_signals(database, decided(BUY_ID, Side.BUY), decided(SELL_ID, Side.SELL))
    await record(
        database,
        increment("e1", str(BUY_ID), Side.BUY, "2", "100"),
        increment("e2", str(SELL_ID), Side.SELL, "3", "110", second=2),
    )
    lots = (await store.open_lots())["momentum_v1", "BTCUSDT"]
    assert [(lot.side, lot.remaining_quantity) for lot in lots] == [(Side.SELL, Decimal(1))]
    pnl = await database.fetchval("SELECT sum(realized_pnl) FROM model_service.lot_closures")
    # 2 * (110 - 100), less the whole entry fee of 0.5 and two thirds of the exit fee of 0.5
    assert float(pnl) == pytest.approx(20 - 0.5 - 0.5 * 2 / 3)


async def test_the_open_order_of_a_signal_ends_with_its_order(database: Database) -> None:
    store = await with_signals(database, decided(BUY_ID, Side.BUY))
    assert [order.side for order in await store.open_orders(NOON)] == [Side.BUY]
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    assert await store.open_orders(NOON) == []


async def test_silences_add_up_by_minute(database: Database) -> None:
    store = PostgresDecisionStore(database)
    tick = SilentTick("momentum_v1", "BTCUSDT", NOON, Reason(ReasonCode.OPEN_ORDER, 1.0, 0.0))
    await store.record((), (), [tick, tick])
    await store.record((), (), [replace(tick, at=NOON + timedelta(seconds=59)), replace(tick, at=NOON + MINUTE)])
    rows = await database.fetch("SELECT minute, occurrences FROM model_service.decision_counts ORDER BY minute")
    assert [tuple(row) for row in rows] == [(NOON, 3), (NOON + MINUTE, 1)]


def path(closes: Sequence[float]) -> list[tuple[str, Bar]]:
    bars = []
    for index, close in enumerate(closes):
        start = NOON + index * MINUTE
        bars.append(("BTCUSDT", Bar(start, start + MINUTE, close, close, close, close, 1.0)))
    return bars


async def test_a_filled_signal_becomes_a_sample_with_the_bytes_of_its_decision(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    bars = BarStore(database, 60)
    await bars.save(path([100, 100, 100, 100, 100, 101, 102]))
    labeller = Labeller(PostgresOutcomeStore(database, bars), 60)
    assert await labeller.step(NOON + timedelta(seconds=300)) == 0, "the horizon has not passed"
    assert await labeller.step(NOON + timedelta(seconds=420)) == 1
    assert await labeller.step(NOON + timedelta(seconds=420)) == 0, "an outcome is written once"
    sample = await database.fetchrow("SELECT * FROM model_service.samples")
    assert sample is not None
    assert sample["features"] == FEATURES
    # close of the first bar that ends at or after entry + H (12:05:01 -> the bar that ends 12:06), less half the spread
    exit_price = 101 * (1 - 0.0001)
    expected = exit_price / 100 - 1 - (0.5 + 0.001 * exit_price * 2) / 200
    assert sample["net_return"] == pytest.approx(expected, rel=1e-9)
    assert sample["label"] == 1
    assert sample["decided_us"] == int(NOON.timestamp()) * 1_000_000
    # Who sells instead gets one spread of 0.02 % less, pays the same share as fees, and buys back at 101 * 1.0001.
    sold = 100 * 0.9999 / 1.0001
    opposite = 1 - 101 * 1.0001 / sold - 0.5 / 200 - 0.001 * 101 * 1.0001 / sold
    assert sample["opposite_net_return"] == pytest.approx(opposite, rel=1e-9)
    assert await database.fetchval("SELECT opposite_net_return FROM model_service.outcomes") == pytest.approx(opposite)


async def test_a_late_fill_revises_the_outcome_and_keeps_the_first(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    bars = BarStore(database, 60)
    await bars.save(path([100] * 7))
    labeller = Labeller(PostgresOutcomeStore(database, bars), 60)
    await labeller.step(NOON + timedelta(seconds=420))
    await record(database, increment("e9", str(BUY_ID), Side.BUY, "2", "90", second=5))
    assert await labeller.step(NOON + timedelta(seconds=480)) == 1
    rows = await database.fetch("SELECT revision, label FROM model_service.outcomes ORDER BY revision")
    assert [tuple(row) for row in rows] == [(1, 0), (2, 1)]
    # Each is known from the moment on when it was made; a run as of an earlier one sees what was believed then.
    made = [microseconds(NOON + timedelta(seconds=seconds)) for seconds in (420, 480)]
    for as_of_us, label, superseded in ((made[0] - 1, [], 0), (made[1] - 1, [0], 0), (made[1], [1], 1)):
        found = await read_samples(database, "momentum_v1", current=CURRENT, as_of_us=as_of_us)
        assert found.rows["label"].tolist() == label
        assert found.dropped["superseded_revision"] == superseded


async def test_rows_of_another_label_rule_are_left_out_and_counted(database: Database) -> None:
    """After a change of settings two kinds of labels lie in the table; a run reads those of today's rule."""
    changed = [
        replace(decided(BUY_ID, Side.BUY), horizon_seconds=240),
        replace(decided(BUY_ID, Side.BUY), take_profit_percent=None),
        replace(decided(BUY_ID, Side.BUY), stop_loss_percent=2.5),
        replace(decided(BUY_ID, Side.BUY), fee_rate=0.002),
        replace(decided(BUY_ID, Side.BUY), minimum_net_return=0.001),
    ]
    signals = [decided(SELL_ID, Side.SELL)]
    for number, one in enumerate(changed):
        signals.append(replace(one, signal=replace(one.signal, signal_id=UUID(int=100 + number))))
    await with_signals(database, *signals)
    for number, one in enumerate(signals):
        fill = increment(f"e{number}", str(one.signal.signal_id), one.signal.side, "1", "100", second=number)
        await record(database, fill)
    bars = BarStore(database, 60)
    await bars.save(path([100] * 7))
    assert await Labeller(PostgresOutcomeStore(database, bars), 60).step(NOON + 7 * MINUTE) == 6
    today = LabelRules(label_rule(300, 3.0, 2.0, 0.001, 0.0), {})
    found = await read_samples(
        database, "momentum_v1", current=CURRENT, as_of_us=microseconds(NOON + 7 * MINUTE), rules=today
    )
    assert [bytes(one) for one in found.rows["signal_id"]] == [SELL_ID.bytes]
    assert found.dropped["other_label_rule"] == 5
    dearer = strategy(fee_rate=0.001, fee_rates={"BTCUSDT": 0.002, "NEVERTRADED": 0.01})
    cheaper = strategy(fee_rate=0.002, fee_rates={"BTCUSDT": 0.001})
    for of_asset, kept in ((dearer, UUID(int=103)), (cheaper, SELL_ID)):
        rules = of_asset.label_rules
        at_once = await read_samples(database, "momentum_v1", current=CURRENT, as_of_us=LATER_US, rules=rules)
        for read in (at_once, await streamed(database, rules)):
            assert [bytes(one) for one in read.rows["signal_id"]] == [kept.bytes], "the rule of its asset counts"
            assert read.dropped["other_label_rule"] == 5
    all_rules = await read_samples(database, "momentum_v1", current=CURRENT, as_of_us=microseconds(NOON + 7 * MINUTE))
    assert len(all_rules.rows) == 6


async def streamed(database: Database, rules: LabelRules) -> SampleRows:
    """The same rows, read block by block."""
    blocks: list[Any] = []
    dropped = await stream_samples(
        database, "momentum_v1", current=CURRENT, as_of_us=LATER_US, rules=rules, on_rows=blocks.append
    )
    return SampleRows(np.concatenate(blocks), dropped, {})


class LateFills(PostgresOutcomeStore):
    """Between what the labeller reads and what it writes, `meanwhile` happens, once."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def bars(self, asset: str, interval_seconds: int, start: datetime, end: datetime) -> Sequence[Bar]:
        found = await super().bars(asset, interval_seconds, start, end)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


async def test_a_fill_that_comes_while_the_label_is_made_is_in_it(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY), decided(SELL_ID, Side.SELL))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    await record(database, increment("e2", str(SELL_ID), Side.SELL, "2", "100"))
    bars = BarStore(database, 60)
    await bars.save(path([100] * 7))
    store = LateFills(database, bars)
    store.meanwhile = lambda: record(database, increment("e9", str(BUY_ID), Side.BUY, "2", "90", second=5))
    labeller = Labeller(store, 60)
    assert await labeller.step(NOON + timedelta(seconds=420)) == 1, "the other signal has its label"
    assert await labeller.step(NOON + timedelta(seconds=421)) == 1
    assert await labeller.step(NOON + timedelta(seconds=422)) == 0
    rows = await database.fetch("SELECT revision, entry_price FROM model_service.outcomes WHERE side = 'buy'")
    assert [tuple(row) for row in rows] == [(1, 95)]


async def test_an_asset_without_prices_holds_up_no_other(database: Database) -> None:
    stalled = [decided(UUID(int=100 + number), Side.BUY) for number in range(3)]
    stalled = [replace(one, signal=replace(one.signal, asset="ETHUSDT")) for one in stalled]
    await with_signals(database, *stalled, decided(BUY_ID, Side.BUY))
    for number, one in enumerate(stalled):
        fill = increment(f"s{number}", str(one.signal.signal_id), Side.BUY, "1", "100", second=0)
        await record(database, replace(fill, asset="ETHUSDT"))
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "2", "100"))
    bars = BarStore(database, 60)
    await bars.save(path([100] * 7))
    labeller = Labeller(PostgresOutcomeStore(database, bars), 60, batch=2)
    assert await labeller.step(NOON + timedelta(seconds=420)) == 1
    assert await database.fetchval("SELECT asset FROM model_service.outcomes") == "BTCUSDT"


async def test_of_one_asset_whose_horizon_ended_first_comes_first(database: Database) -> None:
    slow, quick = decided(BUY_ID, Side.BUY), replace(decided(SELL_ID, Side.SELL), horizon_seconds=60)
    await with_signals(database, slow, quick)
    await record(database, increment("e1", str(BUY_ID), Side.BUY, "1", "100", second=1))
    await record(database, increment("e2", str(SELL_ID), Side.SELL, "1", "100", second=2))
    store = PostgresOutcomeStore(database, BarStore(database, 60))
    assert [one.signal_id for one in await store.due(NOON + timedelta(hours=1), 1)] == [SELL_ID]
    assert [one.signal_id for one in await store.due(NOON + timedelta(hours=1), 2)] == [SELL_ID, BUY_ID]


async def test_without_a_price_path_the_reported_return_labels(database: Database) -> None:
    await with_signals(database, decided(BUY_ID, Side.BUY))
    event = increment("e1", str(BUY_ID), Side.BUY, "2", "100")
    await record(database, replace(event, reported_return=Decimal("0.01")))
    labeller = Labeller(PostgresOutcomeStore(database, BarStore(database, 60)), 60)
    assert await labeller.step(NOON + timedelta(seconds=400)) == 0, "bars may still come"
    assert await labeller.step(NOON + timedelta(hours=1)) == 1
    for table in ("outcomes", "samples"):
        row = await database.fetchrow(f"SELECT net_return, opposite_net_return FROM model_service.{table}")
        assert row is not None
        assert tuple(row) == (pytest.approx(0.01), None), table
    assert await database.fetchval("SELECT exit_rule FROM model_service.outcomes") == "reported"


async def test_the_report_on_a_run_outlives_later_progress_and_its_end(database: Database) -> None:
    store, run_id = PostgresTrainingStore(database), uuid4()
    await store.request(
        TrainingRun(run_id, "momentum_v1", "full", "manual", "requested", NOON, 2000), "asked for", previous=None
    )
    await store.progress(run_id, "preparing", 0.1, "read", NOON)
    await store.progress(run_id, "preparing", 0.2, "kept", NOON, dataset_report={"rows": 2000})
    await store.progress(run_id, "fitting", 0.5, "round 10", NOON)
    before = await queries.training_run(database, run_id)
    await store.finish(run_id, "failed", NOON, error_code="timeout", error_hint="it took too long")
    after = await queries.training_run(database, run_id)
    assert before is not None
    assert after is not None
    assert (before["progress_note"], before["dataset_report"]) == ("round 10", {"rows": 2000})
    assert (after["state"], after["dataset_report"]) == ("failed", {"rows": 2000})
