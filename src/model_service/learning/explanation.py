"""What each input of a model adds to what it says: contributions that sum to its word, by family.

| family | unit | contribution |
|---|---|---|
| `xgboost` | log-odds | TreeSHAP [Lundberg, Erion & Lee 2018] |
| linear ones | log-odds | coefficient times the scaled value: SHAP of independent inputs [Lundberg & Lee 2017] |
| `random_forest` | probability | each split's change of its tree's mean, booked to the input it asks [Saabas 2014] |

All are of the score before calibration, which is a monotone map of the sum and has no parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.models.calibration import sigmoid

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]
Unit = Literal["log_odds", "probability"]


@dataclass(frozen=True)
class Contributions:
    """What n rows owe to each of their k inputs.

    Attributes:
        base_value: what the model says of an average row of its training.
        values: float64 (n, k); with the base value, a row sums to what the model says of it.
    """

    unit: Unit
    base_value: float
    values: Floats

    @property
    def totals(self) -> Floats:
        """Base value plus contributions, float64 (n,)."""
        return np.asarray(self.base_value + np.sum(self.values, axis=1), dtype=np.float64)

    @property
    def scores(self) -> Floats:
        """The totals as probabilities before calibration, float64 (n,)."""
        return sigmoid(self.totals) if self.unit == "log_odds" else self.totals


@dataclass(frozen=True)
class NativeImportance:
    """What a family itself calls the importance of its inputs; `values` float64 (k,), not negative."""

    kind: str
    values: Floats


class Explainer(Protocol):
    """A native model, asked for its reasons."""

    @property
    def method(self) -> str:
        """How contributions are found, for people."""

    def contributions(self, inputs: Inputs) -> Contributions:
        """Of rows aligned to their side, float32 (n, k), at least one, NaN for unknown."""

    def native_importance(self) -> NativeImportance:
        """Of all inputs."""


def read_explainer(model_type: str, native: bytes) -> Explainer:
    """The explainer in a native file, whose hash has been checked before.

    Raises:
        ValueError: the file cannot be read.
    """
    # Each family's library is imported only where it is needed; the other one costs seconds.
    if model_type == "xgboost":
        from model_service.learning.explain_booster import read_booster

        return read_booster(native)
    from model_service.learning.explain_pipeline import read_pipeline

    return read_pipeline(native)
