"""The reasons of a booster: XGBoost's own TreeSHAP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost

from model_service.learning.explanation import Contributions, Inputs, NativeImportance

THREADS = 1


@dataclass(frozen=True)
class BoosterExplainer:
    """A `binary:logistic` booster, cut to its best iteration before: TreeSHAP uses all trees that it has."""

    booster: xgboost.Booster
    method: str = "TreeSHAP"

    def contributions(self, inputs: Inputs) -> Contributions:
        """XGBoost's last column is the same in each row: the mean margin over the training rows."""
        matrix = xgboost.DMatrix(inputs, nthread=THREADS)
        parts = np.asarray(self.booster.predict(matrix, pred_contribs=True), dtype=np.float64)
        return Contributions("log_odds", float(parts[0, -1]), parts[:, :-1])

    def native_importance(self) -> NativeImportance:
        """Each input's share of the gain of all splits; 0 for one that no tree asks."""
        names = self.booster.feature_names or [f"f{index}" for index in range(self.booster.num_features())]
        gains: Mapping[str, Any] = self.booster.get_score(importance_type="total_gain")
        values = np.array([gains.get(name, 0.0) for name in names], dtype=np.float64)
        total = float(np.sum(values))
        return NativeImportance("share of the gain of all splits", values / total if total > 0 else values)


def read_booster(native: bytes) -> BoosterExplainer:
    """The booster in `model.json`. Raises ValueError."""
    if not native:
        raise ValueError("not a booster: the file is empty")  # XGBoost would abort the process
    try:
        return BoosterExplainer(xgboost.Booster(model_file=bytearray(native)))
    except xgboost.core.XGBoostError as error:
        raise ValueError("not a booster in XGBoost's JSON") from error
