"""Test blocks whose candidate is as good as a test asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset, IdleDraws, dataset_from_rows
from model_service.learning.evaluation import Evaluation, Judged, evaluate
from model_service.learning.incumbent import IncumbentModel
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import Acting
from tests.support.training_rows import HORIZON_SECONDS, blank_rows

CALIBRATION = Calibration("sigmoid", 0.5, 0.002, -0.002, 100, slope=1.0)


def says_first_feature(features: NDArray[np.float32], side_signs: NDArray[np.int8]) -> NDArray[np.float64]:
    """A candidate for which the first feature is the probability that a buy wins, and one minus it that a sell does."""
    buys = features[:, 0].astype(np.float64)
    return np.where(side_signs > 0, buys, 1.0 - buys)


def judged(**changes: Any) -> Judged:
    """What is known of a candidate that says what the first feature says."""
    return replace(
        Judged(
            served=says_first_feature,
            native=says_first_feature,
            calibration=CALIBRATION,
            majority_class=0,
            acting=Acting(0.5),
            exploration_rate=0.05,
            horizon_us=HORIZON_SECONDS * 1_000_000,
        ),
        **changes,
    )


def block(rows: int = 400, right: float = 0.85, seed: int = 1) -> Dataset:
    """As many wins as losses of 20 basis points each; the first feature knows the share `right` of them."""
    rng = np.random.default_rng(seed)
    sample = blank_rows(rows, rng)
    sample["label"] = np.arange(rows) % 2
    sample["net_return"] = np.where(sample["label"] == 1, 0.002, -0.002)
    sample["opposite_net_return"] = -sample["net_return"]
    known = np.where(rng.random(rows) < right, sample["label"], 1 - sample["label"])
    own = known * 0.7 + 0.15
    sample["features"][:, 0] = np.where(sample["side"] > 0, own, 1.0 - own)
    return dataset_from_rows(sample)[0]


def good(
    rows: int = 400, *, idle: IdleDraws | None = None, incumbent: IncumbentModel | None = None, **changes: Any
) -> Evaluation:
    """A calibrated candidate that is right in 85 % of the rows and would take half of them, at a profit."""
    return evaluate(judged(**changes), block(rows), idle, incumbent)
