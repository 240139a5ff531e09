"""What a seed gives is part of every record: another order of the draws would make all stored decisions differ."""

from __future__ import annotations

import random
from decimal import Decimal

from model_service.contracts.types import Side
from model_service.policies.base import ActionProbabilities
from model_service.services.decision import Draw, draw
from tests.support.builders import strategy


def test_a_seed_gives_the_amount_first_and_then_the_side() -> None:
    rng = random.Random("7:momentum_v1:BTCUSDT:2026-03-02T12:00:00+00:00")
    first, second = rng.random(), rng.random()
    rng = random.Random("7:momentum_v1:BTCUSDT:2026-03-02T12:00:00+00:00")
    amount = (100 + 900 * Decimal(repr(first))).quantize(Decimal("0.01"), "ROUND_DOWN")
    only_buys = ActionProbabilities(second + 1e-9, 0.0)
    assert draw(strategy(), only_buys, rng) == Draw(amount, Side.BUY)
    rng = random.Random("7:momentum_v1:BTCUSDT:2026-03-02T12:00:00+00:00")
    assert draw(strategy(), ActionProbabilities(second - 1e-9, 0.0), rng) == Draw(amount, None)
