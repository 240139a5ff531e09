"""What a candidate does on rows that nothing of it has seen: the test block (METHOD 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import action_floor, would_take

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Score = Callable[[NDArray[np.float32], NDArray[np.int8]], Floats]
"""Raw probabilities for features (n, F), not aligned, traded on side signs (n,)."""


@dataclass(frozen=True)
class Evaluation:
    """A candidate's word on each row of the test block, and what came of it; all arrays (n,) in time order.

    Attributes:
        test: the rows.
        raw, probability: score and calibrated probability of the side that was really traded.
        taken: rows whose logged action the candidate would take itself.
        majority_class: the more frequent label of the training block, for the baseline.
        parity_gap: largest difference between native and served scores, both sides.
        decisions_changed: rows where the native model would decide otherwise than the served one.
        action_floor: the probability from which it acts.
    """

    test: Dataset
    raw: Floats
    probability: Floats
    taken: Mask
    majority_class: int
    parity_gap: float
    decisions_changed: int
    action_floor: float

    @property
    def labels(self) -> NDArray[np.int8]:
        """What really happened."""
        return self.test.labels

    @property
    def predicted(self) -> NDArray[np.int8]:
        """Predicted class at a probability of one half."""
        return (self.probability >= 0.5).astype(np.int8)

    @property
    def taken_returns(self) -> Floats:
        """Net returns of the trades taken, in time order."""
        return self.test.net_returns[self.taken]


def evaluate(
    test: Dataset, served: Score, native: Score, calibration: Calibration, majority_class: int, action_threshold: float
) -> Evaluation:
    """Judge a candidate by its served scores, and compare them with those of its native form."""
    floor = action_floor(calibration.break_even, action_threshold)
    own, other = _both_sides(served, test)
    taken = would_take(calibration.probability(own), calibration.probability(other), test.side_signs, floor)
    native_own, native_other = _both_sides(native, test)
    native_taken = would_take(
        calibration.probability(native_own), calibration.probability(native_other), test.side_signs, floor
    )
    gaps = np.abs(np.concatenate((own - native_own, other - native_other)))
    return Evaluation(
        test=test,
        raw=own,
        probability=calibration.probability(own),
        taken=taken,
        majority_class=majority_class,
        parity_gap=float(np.max(gaps, initial=0.0)),
        decisions_changed=int(np.sum(taken != native_taken)),
        action_floor=floor,
    )


def _both_sides(score: Score, test: Dataset) -> tuple[Floats, Floats]:
    return score(test.features, test.side_signs), score(test.features, -test.side_signs)
