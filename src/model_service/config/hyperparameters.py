"""What may be set of each model type, within which limits; known here so that a wrong name stops the start, not a run.

Names are the libraries' own, and `rounds`, the number of boosting rounds at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Value = float | int | str | bool
"""A hyperparameter's value as JSON has it."""

LARGEST_ENSEMBLE = 2**18
"""Leaves that an ensemble may have at most, trees times 2^max_depth: exporting more than that takes gigabytes."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One number, switch or word that shapes a fit.

    Attributes:
        default: None where it depends on the rows; then `meaning` says how.
        kind: `float` takes whole numbers too, `bool` only true and false.
        least, most: both allowed themselves.
        words: texts that are allowed beside numbers.
        meaning: one line for the documentation.
    """

    default: Value | None
    kind: type
    meaning: str
    least: float = -math.inf
    most: float = math.inf
    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What it accepts, in words.

        Example:
            >>> Hyperparameter(3, int, "depth of a tree", 1, 12).allowed
            'a whole number from 1 to 12'
        """
        if self.kind is bool:
            return "true or false"
        number = "a whole number" if self.kind is int else "a number"
        return " or ".join((f"{number} from {self.least:g} to {self.most:.7g}", *self.words))

    def accepts(self, value: object) -> bool:
        """Whether `value` may stand there."""
        if isinstance(value, bool) or self.kind is bool:
            return self.kind is bool and isinstance(value, bool)
        if isinstance(value, str):
            return value in self.words
        kinds = (int,) if self.kind is int else (int, float)
        return isinstance(value, kinds) and self.least <= value <= self.most


HYPERPARAMETERS: Mapping[str, Mapping[str, Hyperparameter]] = {
    "xgboost": {
        "rounds": Hyperparameter(400, int, "boosting rounds at most; early stopping ends sooner", 1, 4000),
        "max_depth": Hyperparameter(3, int, "depth of a tree", 1, 12),
        "eta": Hyperparameter(0.05, float, "learning rate", 0.001, 1),
        "min_child_weight": Hyperparameter(20, float, "least sum of second derivatives in a leaf", 0, 1_000_000),
        "subsample": Hyperparameter(0.8, float, "share of rows that each tree sees", 0.1, 1),
        "colsample_bytree": Hyperparameter(0.8, float, "share of inputs that each tree sees", 0.1, 1),
        "lambda": Hyperparameter(5.0, float, "L2 penalty on leaf values", 0, 10_000),
        "alpha": Hyperparameter(0.0, float, "L1 penalty on leaf values", 0, 10_000),
        "gamma": Hyperparameter(0.0, float, "least gain of a split", 0, 10_000),
        "max_delta_step": Hyperparameter(0.0, float, "largest step of a leaf; 0: no limit", 0, 100),
        "max_bin": Hyperparameter(128, int, "bins of an input", 8, 1024),
    },
    "random_forest": {
        "n_estimators": Hyperparameter(200, int, "trees", 10, 2000),
        "max_depth": Hyperparameter(6, int, "depth of a tree", 1, 16),
        "min_samples_leaf": Hyperparameter(
            None, int, "least rows in a leaf; default: 20, or a 200th of the rows that a tree draws", 1, 1_000_000
        ),
        "max_features": Hyperparameter("sqrt", float, "share of inputs tried at a split", 0.01, 1, ("sqrt", "log2")),
        "max_samples": Hyperparameter(
            50_000, int, "rows that each tree draws, at most as many as there are", 100, 1_000_000
        ),
    },
    "logistic_regression": {
        "C": Hyperparameter(0.1, float, "inverse of the L2 penalty", 0.000001, 1_000_000),
        "max_iter": Hyperparameter(500, int, "steps of the solver at most", 1, 10_000),
    },
    "sgd_classifier": {
        "alpha": Hyperparameter(0.01, float, "weight of the penalty", 0.0000001, 100),
        "l1_ratio": Hyperparameter(0.0, float, "share of L1 in the penalty; 0: L2 alone", 0, 1),
        "max_iter": Hyperparameter(200, int, "passes over the rows at most", 1, 10_000),
        "average": Hyperparameter(True, bool, "average the coefficients over the steps"),
    },
}
"""By model type, then by name; the defaults are regularised for few and noisy rows."""

SUPPORTS_MONOTONE_CONSTRAINTS = ("xgboost",)
_TREES = {"xgboost": "rounds", "random_forest": "n_estimators"}


def chosen_hyperparameters(model_type: str, given: Mapping[str, Value]) -> dict[str, Any]:
    """All hyperparameters of a fit: the defaults, and over them what is given; None for what the rows decide."""
    return {name: given.get(name, known.default) for name, known in HYPERPARAMETERS[model_type].items()}


def hyperparameter_fault(model_type: str, given: Mapping[str, object]) -> str | None:
    """What is wrong with `given`, and what is allowed; None when nothing is.

    Example:
        >>> hyperparameter_fault("xgboost", {"max_depth": 0})
        'max_depth is 0, allowed: a whole number from 1 to 12'
    """
    known = HYPERPARAMETERS[model_type]
    for name, value in given.items():
        if name not in known:
            return f"{name} is no hyperparameter of {model_type}, allowed: {', '.join(known)}"
        if not known[name].accepts(value):
            return f"{name} is {value!r}, allowed: {known[name].allowed}"
    return _too_large(model_type, given)


def monotone_fault(model_type: str, given: Mapping[str, object]) -> str | None:
    """What is wrong with monotone constraints but for their names; None when nothing is."""
    if given and model_type not in SUPPORTS_MONOTONE_CONSTRAINTS:
        able = ", ".join(SUPPORTS_MONOTONE_CONSTRAINTS)
        return f"{model_type} cannot be held monotone, allowed: no constraint, or another model type ({able})"
    for name, value in given.items():
        if isinstance(value, bool) or value not in (-1, 1):
            return f"{name} is {value!r}, allowed: 1 (the score may only rise with it) or -1 (only fall)"
    return None


def unknown_feature_fault(given: Iterable[str], features: Iterable[str]) -> str | None:
    """What is wrong with names of features, which only the rooms above know; None when nothing is."""
    known = tuple(features)
    wrong = next((name for name in given if name not in known), None)
    return None if wrong is None else f"{wrong} is no feature, allowed: {', '.join(known)}"


def _too_large(model_type: str, given: Mapping[str, object]) -> str | None:
    if model_type not in _TREES:
        return None
    chosen = {**{name: known.default for name, known in HYPERPARAMETERS[model_type].items()}, **given}
    trees, depth = chosen[_TREES[model_type]], chosen["max_depth"]
    assert isinstance(trees, int), "checked before"
    assert isinstance(depth, int), "checked before"
    leaves = trees * 2**depth
    if leaves <= LARGEST_ENSEMBLE:
        return None
    return f"{_TREES[model_type]} x 2^max_depth is {leaves}, allowed: up to {LARGEST_ENSEMBLE}"
