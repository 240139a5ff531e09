"""What a candidate does on rows that nothing of it has seen: the test block (METHOD 7)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset, IdleDraws
from model_service.learning.incumbent import Comparison, IncumbentModel, compare
from model_service.learning.off_policy import LoggedDraws, OffPolicyValue, off_policy_value
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import Acting, DecisionRule
from model_service.models.intervals import TimeBlocks

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]
Mask = NDArray[np.bool_]
Score = Callable[[NDArray[np.float32], Signs], Floats]
"""Raw probabilities for features (n, F), not aligned, traded on side signs (n,)."""
_ROWS_AT_ONCE = 1 << 15
_ROUNDING = 1e-6
"""Scores that differ by so much only in rounding: float32 sums in another order."""
_NUDGES = ((0.0, 0.0), *((own, other) for own in (-_ROUNDING, _ROUNDING) for other in (-_ROUNDING, _ROUNDING)))
"""Of the traded side's score and of the other one's; as they are first, which leaves hardly a row to the rest."""


@dataclass(frozen=True)
class Judged:
    """What evaluation needs of a candidate and of its strategy.

    Attributes:
        served, native: its scores as it would decide, and as it was fitted.
        calibration: from score to probability.
        majority_class: the more frequent label of the training block, for the baseline.
        acting: what of the strategy says when its models act.
        exploration_rate, horizon_us: the strategy's.
        action_rate: the probability that a tick of the strategy acts at all, as it is set now; None: not known.
        threads: parts of the rows that are served at the same time; each part by one thread, as in the service.
    """

    served: Score
    native: Score
    calibration: Calibration
    majority_class: int
    acting: Acting
    exploration_rate: float
    horizon_us: int
    threads: int = 1
    action_rate: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """A candidate's word on each row of the test block, and what came of it; all arrays (n,) in time order.

    Attributes:
        test: the rows.
        raw, probability: score and calibrated probability of the side that was really traded.
        chosen: the side that the candidate would act on, 0 for none.
        majority_class: the more frequent label of the training block, for the baseline.
        parity_gap: largest difference between native and served scores, both sides.
        decisions_changed: rows where the native model would decide otherwise than the served one, and not only because
            two scores, or a score and the floor, are the same but for rounding.
        action_floor: the probability from which it acts.
        hysteresis: what it needs more to act against the position of the row.
        horizon_us: H, microseconds.
        off_policy: what it would earn, by the recorded propensities.
        comparison: how it stands to the version that speaks now; None when none does.
    """

    test: Dataset
    raw: Floats
    probability: Floats
    chosen: Signs
    majority_class: int
    parity_gap: float
    decisions_changed: int
    action_floor: float
    hysteresis: float
    horizon_us: int
    off_policy: OffPolicyValue
    comparison: Comparison | None

    @cached_property
    def blocks(self) -> TimeBlocks:
        """How sure numbers over these rows are."""
        return TimeBlocks(self.test.decided_us, self.horizon_us)

    @property
    def labels(self) -> NDArray[np.int8]:
        """What really happened."""
        return self.test.labels

    @property
    def predicted(self) -> NDArray[np.int8]:
        """Predicted class at a probability of one half."""
        return (self.probability >= 0.5).astype(np.int8)

    @property
    def taken(self) -> Mask:
        """Rows whose logged action the candidate would take itself."""
        taken: Mask = self.chosen == self.test.side_signs
        return taken

    @property
    def taken_returns(self) -> Floats:
        """Net returns of the trades taken, in time order."""
        return self.test.net_returns[self.taken]


def evaluate(
    judged: Judged, test: Dataset, idle: IdleDraws | None = None, incumbent: IncumbentModel | None = None
) -> Evaluation:
    """Judge a candidate by its served scores, and compare them with those of its native form.

    Args:
        idle: draws without a trade from the test block's time.
        incumbent: the version that speaks now.
    """
    rule = judged.acting.rule(judged.calibration)
    own, other = _both_sides(judged.served, test.features, test.side_signs, judged.threads)
    native_own, native_other = _both_sides(judged.native, test.features, test.side_signs)
    probability = judged.calibration.probability(own)
    other_probability = judged.calibration.probability(other)
    chosen = rule.chosen_sides(probability, other_probability, test.side_signs, test.features)
    gaps = np.abs(np.concatenate((own - native_own, other - native_other)))
    draws = _logged_draws(judged, test, chosen, probability, other_probability, idle or IdleDraws.nothing(), rule)
    return Evaluation(
        test=test,
        raw=own,
        probability=probability,
        chosen=chosen,
        majority_class=judged.majority_class,
        parity_gap=float(np.max(gaps, initial=0.0)),
        decisions_changed=_decisions_changed(judged.calibration, chosen, native_own, native_other, test, rule),
        action_floor=rule.floor,
        hysteresis=rule.hysteresis,
        horizon_us=judged.horizon_us,
        off_policy=off_policy_value(draws, judged.exploration_rate, judged.horizon_us, judged.action_rate),
        comparison=None if incumbent is None else compare(incumbent, test, chosen, judged.acting, judged.horizon_us),
    )


def _both_sides(
    score: Score, features: NDArray[np.float32], side_signs: Signs, threads: int = 1
) -> tuple[Floats, Floats]:
    """Scores of each row's side and of the other, a part of the rows at a time: inputs are copies."""
    own, other = np.empty(len(features)), np.empty(len(features))

    def fill(start: int) -> None:
        part = slice(start, start + _ROWS_AT_ONCE)
        own[part] = score(features[part], side_signs[part])
        other[part] = score(features[part], (-side_signs[part]).astype(np.int8))

    starts = range(0, len(features), _ROWS_AT_ONCE)
    if threads == 1:
        for start in starts:
            fill(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, starts))
    return own, other


def _decisions_changed(
    calibration: Calibration, served: Signs, own: Floats, other: Floats, test: Dataset, rule: DecisionRule
) -> int:
    """Rows that the native scores decide otherwise, whichever way they are rounded."""
    left = np.arange(len(served))
    for nudge, towards in _NUDGES:
        moved = calibration.probability(own[left] + nudge), calibration.probability(other[left] + towards)
        again = rule.chosen_sides(*moved, test.side_signs[left], test.features[left])
        left = left[again != served[left]]
    return len(left)


def _logged_draws(
    judged: Judged, test: Dataset, chosen: Signs, own: Floats, other: Floats, idle: IdleDraws, rule: DecisionRule
) -> LoggedDraws:
    """Trades of the test block and draws without one, in time order, with the candidate's choice for each."""
    buys = np.ones(len(idle), dtype=np.int8)
    raw_buy, raw_sell = _both_sides(judged.served, idle.features, buys, judged.threads)
    idle_buy, idle_sell = judged.calibration.probability(raw_buy), judged.calibration.probability(raw_sell)
    is_buy = test.side_signs > 0
    expected = judged.calibration.expected_net_return
    draws = LoggedDraws(
        decided_us=np.concatenate((test.decided_us, idle.decided_us)),
        actions=np.concatenate((test.side_signs, idle.actions)),
        traded=np.arange(len(test) + len(idle)) < len(test),
        probability_buy=np.concatenate((test.probability_buy, idle.probability_buy)),
        probability_sell=np.concatenate((test.probability_sell, idle.probability_sell)),
        probability_none=np.concatenate((test.probability_none, idle.probability_none)),
        sample_rates=np.concatenate((np.ones(len(test)), idle.sample_rates)),
        rewards=np.concatenate((test.net_returns, np.zeros(len(idle)))),
        chosen=np.concatenate((chosen, rule.chosen_sides(idle_buy, idle_sell, buys, idle.features))),
        expected_buy=expected(np.concatenate((np.where(is_buy, own, other), idle_buy))),
        expected_sell=expected(np.concatenate((np.where(is_buy, other, own), idle_sell))),
    )
    if not len(idle):
        return draws
    return draws.take(np.argsort(draws.decided_us, kind="stable"))
