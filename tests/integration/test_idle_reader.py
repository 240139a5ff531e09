"""Draws that led to no trade: which ones count with r = 0, and how many are enough."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from model_service.contracts.types import Side
from model_service.database.connection import Database, DatabaseAddress, DatabaseUnavailable
from model_service.database.decisions import PostgresDecisionStore
from model_service.database.feature_rows import CURRENT, FeatureSet, register_feature_set
from model_service.database.idle_reader import IdleRows, read_idle_draws
from model_service.learning.dataset import idle_draws_from_rows
from model_service.models.features import FEATURE_NAMES, FEATURE_SET
from model_service.policies.base import ActionProbabilities
from model_service.services.ports import DecidedSignal, NoneDraw
from tests.integration.test_stores import FEATURES, decided
from tests.support.builders import NOON

STATE = """
    UPDATE model_service.trading_signals SET status = $2, order_state = $3, first_filled_at = $4 WHERE signal_id = $1
"""


def microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


async def read(database: Database, **changes: Any) -> IdleRows:
    span = {"start_us": microseconds(NOON), "end_us": microseconds(NOON + timedelta(minutes=1))}
    return await read_idle_draws(database, "momentum_v1", current=CURRENT, **{**span, **changes})


def none(number: int, **changes: Any) -> NoneDraw:
    draw = NoneDraw(
        decision_id=UUID(int=number), strategy_id="momentum_v1", asset="BTCUSDT", decided_at=NOON, policy="warmup",
        model_version=None, features=FEATURES, feature_set=FEATURE_SET, probabilities=ActionProbabilities(0.3, 0.2),
        sample_rate=0.25, seed="7",
    )  # fmt: skip
    return replace(draw, **changes)


async def test_draws_of_none_inside_the_span_count(database: Database) -> None:
    inside = [NOON, NOON + timedelta(microseconds=1), NOON + timedelta(minutes=1)]
    outside = [NOON - timedelta(microseconds=1), NOON + timedelta(minutes=1, microseconds=1)]
    draws = [none(number, decided_at=moment) for number, moment in enumerate([*inside, *outside])]
    await PostgresDecisionStore(database).record((), [*draws, none(9, strategy_id="another")], ())
    found = idle_draws_from_rows((await read(database)).rows)
    assert found.decided_us.tolist() == [microseconds(moment) for moment in inside]
    assert found.actions.tolist() == [0, 0, 0]
    assert found.sample_rates.tolist() == [0.25] * 3
    for name, value in (("buy", 0.3), ("sell", 0.2), ("none", 0.5)):
        assert getattr(found, f"probability_{name}") == pytest.approx([value] * 3), name
    assert np.array_equal(found.features, np.tile(np.arange(len(FEATURE_NAMES), dtype=np.float32), (3, 1)))


NEVER_FILLED = [
    ("expired", None), ("unroutable", None), ("published", "rejected"), ("published", "cancelled"),
    ("published", "lost"),
]  # fmt: skip
UNDECIDED = [
    ("pending", None), ("sending", None), ("published", None), ("published", "pending"),
    ("published", "partially_filled"), ("published", "dry_run"),
]  # fmt: skip


async def opened(database: Database, *signals: tuple[DecidedSignal, str, str | None, datetime | None]) -> None:
    await PostgresDecisionStore(database).record([signal for signal, *_ in signals], (), ())
    for signal, *state in signals:
        await database.execute(STATE, signal.signal.signal_id, *state)


async def test_openings_that_never_filled_count_and_those_without_a_verdict_do_not(database: Database) -> None:
    states = [*NEVER_FILLED, *UNDECIDED]
    sides = [Side.SELL if number % 2 else Side.BUY for number in range(len(states))]
    signals = [decided(UUID(int=100 + number), side) for number, side in enumerate(sides)]
    await opened(database, *((signal, *state, None) for signal, state in zip(signals, states, strict=True)))
    found = idle_draws_from_rows((await read(database)).rows)
    assert sorted(found.actions.tolist()) == sorted(side.sign for side in sides[: len(NEVER_FILLED)])
    assert found.sample_rates.tolist() == [1.0] * len(NEVER_FILLED)


async def test_a_fill_makes_it_a_trade_and_an_exit_is_no_draw(database: Database) -> None:
    partly, leaving, reducing = (decided(UUID(int=number), Side.SELL) for number in (1, 2, 3))
    await opened(
        database,
        (partly, "published", "cancelled", NOON),
        (replace(leaving, intent="exit"), "published", "rejected", None),
        (replace(reducing, intent="reduce"), "published", "rejected", None),
    )
    assert (await read(database)).rows["action"].tolist() == [-1]


async def test_draws_of_older_sets_are_put_into_todays_order(database: Database) -> None:
    older = FeatureSet("f0-0badcafe", FEATURE_NAMES[:3][::-1])
    await register_feature_set(database, older, NOON)
    vector = np.array([3, 2, 1], dtype="<f4").tobytes()
    mapped, unknown = none(1, feature_set=older.name, features=vector), none(2, feature_set="f0-00000000")
    draws = [mapped, unknown, none(3, features=b"")]
    await PostgresDecisionStore(database).record((), draws, ())
    found = await read(database)
    assert found.rows["features"][0, :3].tolist() == [1, 2, 3]
    assert np.isnan(found.rows["features"][0, 3:]).all()
    assert found.dropped == {"other_feature_set": 1, "damaged_features": 1}


async def test_too_many_draws_are_thinned_at_a_rate_that_their_own_is_multiplied_by(database: Database) -> None:
    draws = [none(number) for number in range(2000)]
    signals = [decided(UUID(int=10_000 + number), Side.BUY) for number in range(1000)]
    await PostgresDecisionStore(database).record((), draws, ())
    await opened(database, *((signal, "expired", None, None) for signal in signals))
    whole, thinned, again = await read(database), await read(database, most=1000), await read(database, most=1000)
    assert (len(whole.rows), set(whole.rows["sample_rate"].tolist())) == (3000, {0.25, 1.0})
    # One in three of each kind, which varies by sqrt(3000 * 1/3 * 2/3) = 26.
    assert abs(len(thinned.rows) - 1000) < 110
    for action, count, rate in ((0, 2000, 0.25), (1, 1000, 1.0)):
        kept = thinned.rows[thinned.rows["action"] == action]
        assert kept["sample_rate"] == pytest.approx(rate / 3, rel=1e-5)
        assert np.sum(1 / kept["sample_rate"]) == pytest.approx(count / rate, rel=0.15)
    assert np.array_equal(np.sort(thinned.rows), np.sort(again.rows))


async def test_no_draws_are_no_rows(database: Database) -> None:
    assert len(idle_draws_from_rows((await read(database)).rows)) == 0


async def test_reading_from_a_database_that_is_away_says_so() -> None:
    database = Database(DatabaseAddress("127.0.0.1", 1, "none", "nobody"))
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1"):
        await read(database)
