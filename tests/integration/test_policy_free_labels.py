"""What a signal is labelled with does not depend on what the policy did later (METHOD 3)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from model_service.contracts.executions import Observation
from model_service.contracts.types import Side
from model_service.database.bars import BarStore
from model_service.database.connection import Database
from model_service.database.outcomes import PostgresOutcomeStore
from model_service.market.snapshot import Bar
from model_service.services.labelling import Labeller
from model_service.services.ports import Intent
from tests.integration.test_stores import MINUTE, decided, increment, record, with_signals
from tests.support.builders import NOON

SIGNALS, KEPT, MINUTES = 12, 5, 60
WHOLE, CUT = "BTCUSDT", "ETHUSDT"
INTENTS: tuple[Intent, ...] = ("open", "reduce", "exit")
LABELS = """
    SELECT entry_at, entry_price, exit_at, exit_price, exit_rule, fees, net_return, label, opposite_net_return
    FROM model_service.outcomes WHERE asset = $1 ORDER BY entry_at
"""
CLOSURES = """
    SELECT count(*) FROM model_service.lot_closures AS c JOIN model_service.lots AS l USING (lot_id) WHERE l.asset = $1
"""


@dataclass(frozen=True)
class Step:
    """A signal of the policy and the fills of its order, (second, quantity, price) each."""

    second: int
    side: Side
    intent: Intent
    fills: Sequence[tuple[int, str, str]]


def policy(draw: random.Random) -> list[Step]:
    """Openings either way, reductions and exits, filled in parts, so that lots are closed early and flipped."""
    steps = []
    for number in range(SIGNALS):
        second = 60 * number + draw.randrange(50)
        fills = [(second + 1 + part, str(draw.randint(1, 4)), str(draw.randint(96, 104))) for part in range(2)]
        intent: Intent = "open" if number < KEPT else draw.choice(INTENTS)
        steps.append(Step(second, draw.choice([Side.BUY, Side.SELL]), intent, fills))
    return steps


async def play(database: Database, asset: str, steps: Sequence[Step], first_id: int) -> None:
    for number, step in enumerate(steps):
        signal_id = UUID(int=first_id + number)
        one = decided(signal_id, step.side)
        at = NOON + timedelta(seconds=step.second)
        signal = replace(one.signal, asset=asset, timestamp=at, expires_at=at + MINUTE, trace_id=signal_id.hex)
        await with_signals(database, replace(one, signal=signal, intent=step.intent))
        await record(database, *(_filled(asset, signal_id, step, part) for part in range(len(step.fills))))


def _filled(asset: str, signal_id: UUID, step: Step, part: int) -> Observation:
    second, quantity, price = step.fills[part]
    filled = increment(f"{signal_id}-{part}", str(signal_id), step.side, quantity, price, second=second)
    return replace(filled, asset=asset, fees=Decimal("0.1"))


def bars(draw: random.Random) -> list[Bar]:
    found, close = [], 100.0
    for minute in range(MINUTES):
        close *= 1 + draw.gauss(0, 0.01)
        start = NOON + minute * MINUTE
        found.append(Bar(start, start + MINUTE, close, close * 1.005, close * 0.995, close, 1.0))
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_labels_stay_when_all_later_signals_are_removed(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    steps, path = policy(draw), bars(draw)
    await play(database, WHOLE, steps, 1)
    await play(database, CUT, steps[:KEPT], 1_000)
    store = BarStore(database, 60)
    await store.save([(asset, bar) for asset in (WHOLE, CUT) for bar in path])
    await Labeller(PostgresOutcomeStore(database, store), 60).step(NOON + MINUTES * MINUTE)
    whole, cut = await database.fetch(LABELS, WHOLE), await database.fetch(LABELS, CUT)
    assert [tuple(row) for row in whole[:KEPT]] == [tuple(row) for row in cut]
    assert len(cut) == KEPT
    closed = [await database.fetchval(CLOSURES, asset) for asset in (WHOLE, CUT)]
    assert closed[0] > closed[1], "what was really earned did depend on it"
