"""Intervals cover what they state, with labels that overlap fifteenfold and volatility in clusters; seeds are fixed.

Prices without structure and without costs: what each number shows in the long run is known without simulating it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from model_service.learning.evaluation import Evaluation
from model_service.models.intervals import Estimate
from studies.coverage import LOWER_BOUND, TWO_SIDED, WORLDS, judged

ROWS, REPETITIONS = 400, 400
TRUE = {"accuracy": 0.5, "win_rate": 0.5, "average_return": 0.0, "value_per_trade": 0.0}


def numbers(evaluation: Evaluation) -> dict[str, Estimate]:
    taken, returns, ratio = evaluation.taken, evaluation.test.net_returns, evaluation.blocks.ratio
    return {
        "accuracy": ratio(evaluation.labels == evaluation.predicted),
        "win_rate": ratio((returns > 0) * taken, taken),
        "average_return": ratio(returns * taken, taken),
        "value_per_trade": evaluation.off_policy.per_trade,
    }


@lru_cache(maxsize=1)
def found() -> list[dict[str, Estimate]]:
    return [numbers(judged(WORLDS["free"], ROWS, seed)) for seed in range(70_000, 70_000 + REPETITIONS)]


@pytest.mark.parametrize("name", TRUE)
def test_bounds_and_intervals_cover_as_often_as_they_say(name: str) -> None:
    true, estimates = TRUE[name], [one[name] for one in found()]
    above = np.mean([one.lower(0.95) <= true for one in estimates])
    inside = np.mean([one.lower(0.95) <= true <= one.upper(0.95) for one in estimates])
    assert LOWER_BOUND[0] <= above <= LOWER_BOUND[1]
    assert TWO_SIDED[0] <= inside <= TWO_SIDED[1]


def test_errors_of_independent_rows_would_cover_far_too_seldom() -> None:
    def naive(estimate: Estimate) -> bool:
        return bool(abs(estimate.value - 0.5) <= 1.645 * np.sqrt(0.25 / ROWS))

    assert np.mean([naive(one["accuracy"]) for one in found()]) < 0.75
