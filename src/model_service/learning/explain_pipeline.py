"""The reasons of scikit-learn pipelines: linear terms, and the paths through a forest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from model_service.learning.explanation import Contributions, Explainer, Floats, Inputs, NativeImportance
from model_service.learning.skops_bytes import TRUSTED_TREES, read_skops


@dataclass(frozen=True)
class LinearExplainer:
    """A linear classifier behind steps that keep the columns; a scaled value of 0 is the training rows' average."""

    pipeline: Pipeline
    method: str = "coefficient times scaled value"

    def contributions(self, inputs: Inputs) -> Contributions:
        """Log-odds: intercept, and one term for each input."""
        estimator = self.pipeline[-1]
        scaled = np.asarray(self.pipeline[:-1].transform(inputs), dtype=np.float64)
        return Contributions("log_odds", float(estimator.intercept_[0]), scaled * estimator.coef_[0])

    def native_importance(self) -> NativeImportance:
        """How far one deviation of an input moves the log-odds."""
        values = np.abs(np.asarray(self.pipeline[-1].coef_[0], dtype=np.float64))
        return NativeImportance("absolute coefficient of the scaled input", values)


@dataclass(frozen=True)
class ForestExplainer:
    """A random forest of classification trees behind steps that keep the columns."""

    pipeline: Pipeline
    method: str = "decision path attribution (Saabas)"

    def contributions(self, inputs: Inputs) -> Contributions:
        """Probability: the mean over the trees of what each split on the way changed."""
        trees = [estimator.tree_ for estimator in self.pipeline[-1].estimators_]
        rows = np.asarray(self.pipeline[:-1].transform(inputs), dtype=np.float32)
        values = np.zeros(rows.shape, dtype=np.float64)
        base = sum(_book_path(tree, rows, values) for tree in trees)
        return Contributions("probability", float(base) / len(trees), values / len(trees))

    def native_importance(self) -> NativeImportance:
        """Share of the impurity that splits on an input removed."""
        values = np.asarray(self.pipeline[-1].feature_importances_, dtype=np.float64)
        return NativeImportance("share of the impurity removed", values)


def explainer_of(pipeline: Pipeline) -> Explainer:
    """The explainer that fits the pipeline's last step."""
    kind = ForestExplainer if isinstance(pipeline[-1], RandomForestClassifier) else LinearExplainer
    return kind(pipeline)


def read_pipeline(native: bytes) -> Explainer:
    """The pipeline in `model.skops`. Raises ValueError."""
    pipeline = read_skops(native, TRUSTED_TREES)
    if not isinstance(pipeline, Pipeline):
        raise ValueError(f"a {type(pipeline).__name__} stands in the place of a pipeline")
    return explainer_of(pipeline)


def _book_path(tree: Any, rows: NDArray[np.float32], values: Floats) -> float:
    """Add what each split of one tree changes for each row to `values`; returns the tree's mean at its root.

    All rows go down by one level at a time, as scikit-learn does: left when float32 value <= threshold.
    """
    share = tree.value[:, 0, 1] / np.sum(tree.value[:, 0, :], axis=1)
    at, every = np.zeros(len(rows), dtype=np.intp), np.arange(len(rows))
    while len(every):
        asked = tree.feature[at]
        every, at, asked = every[asked >= 0], at[asked >= 0], asked[asked >= 0]
        below = _goes_left(tree, at, rows[every, asked])
        child = np.where(below, tree.children_left[at], tree.children_right[at])
        values[every, asked] += share[child] - share[at]
        at = child
    return float(share[0])


def _goes_left(tree: Any, at: NDArray[np.intp], asked: NDArray[np.float32]) -> NDArray[np.bool_]:
    unknown: NDArray[np.bool_] = np.isnan(asked)
    known_left: NDArray[np.bool_] = asked <= tree.threshold[at]
    return np.where(unknown, tree.missing_go_to_left[at].astype(bool), known_left)
