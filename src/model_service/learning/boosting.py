"""Gradient boosting with XGBoost, regularised for few and noisy rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from model_service.learning.estimators import Block, FitRequest, OnRound
from model_service.learning.explain_booster import BoosterExplainer
from model_service.learning.explanation import Explainer
from model_service.learning.onnx_trees import booster_to_onnx
from model_service.learning.refusal import Refused

HYPERPARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_depth": 3,
    "eta": 0.05,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "lambda": 5.0,
    "max_bin": 128,
}
ROUNDS = 400
INCREMENT_ROUNDS = 150
TOTAL_ROUNDS = 800
PATIENCE = 40
REPORT_EVERY = 10


@dataclass(frozen=True)
class BoostedModel:
    """A booster cut to its best iteration, so that every way of using it uses the same trees."""

    booster: xgboost.Booster
    inputs: int
    parent_rounds: int
    stopping_loss: float
    native_file: str = "model.json"

    def native(self) -> bytes:
        """XGBoost's JSON: a flipped byte in it is an error, where one in the binary form crashed the process."""
        return bytes(self.booster.save_raw("json"))

    def onnx(self) -> bytes:
        """The same trees as an ONNX graph."""
        return booster_to_onnx(self.native(), self.inputs)

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of label 1 before calibration, float64 (n,)."""
        return np.asarray(self.booster.inplace_predict(inputs), dtype=np.float64)

    def explainer(self) -> Explainer:
        """The booster, asked for its reasons."""
        return BoosterExplainer(self.booster)

    def details(self) -> Mapping[str, Any]:
        """Hyperparameters, rounds kept and the loss on the early stopping block."""
        return {
            "hyperparameters": dict(HYPERPARAMETERS),
            "rounds": self.booster.num_boosted_rounds(),
            "parent_rounds": self.parent_rounds,
            "early_stopping_log_loss": round(self.stopping_loss, 9),
        }


def fit_boosted(request: FitRequest) -> BoostedModel:
    """Boost until the loss on the early stopping block has not fallen for PATIENCE rounds, then cut to the best one.

    With a parent, boosting continues on its trees by at most INCREMENT_ROUNDS, TOTAL_ROUNDS in all.
    Raises Refused with `increment_round_cap` when the parent has them already.
    """
    parent = _parent_booster(request.parent)
    before = parent.num_boosted_rounds() if parent else 0
    rounds = _rounds_allowed(before, parent is not None)
    booster = xgboost.train(
        _parameters(request),
        _training_matrix(request),
        rounds,
        evals=[(_matrix(request.early_stopping, request.threads), "early_stopping")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
        xgb_model=parent,
        callbacks=[_RoundReporter(rounds, request.on_round)],
    )
    best, loss = int(booster.best_iteration), float(booster.best_score)
    return BoostedModel(booster[: best + 1], request.train.inputs.shape[1], before, loss)


def _parameters(request: FitRequest) -> dict[str, Any]:
    parameters = {**HYPERPARAMETERS, "seed": request.seed, "nthread": request.threads}
    if request.parent is None:
        parameters["base_score"] = float(np.average(request.train.labels, weights=request.train.weights))
    return parameters


def _training_matrix(request: FitRequest) -> xgboost.DMatrix:
    """Binned at once, which halves the memory; a parent's trees need the values themselves."""
    if request.parent is not None:
        return _matrix(request.train, request.threads)
    block, bins = request.train, HYPERPARAMETERS["max_bin"]
    return xgboost.QuantileDMatrix(
        block.inputs, label=block.labels, weight=block.weights, nthread=request.threads, max_bin=bins
    )


def _matrix(block: Block, threads: int) -> xgboost.DMatrix:
    return xgboost.DMatrix(block.inputs, label=block.labels, weight=block.weights, nthread=threads)


def _parent_booster(content: bytes | None) -> xgboost.Booster | None:
    if content is None:
        return None
    try:
        return xgboost.Booster(model_file=bytearray(content))
    except xgboost.core.XGBoostError as error:
        raise Refused(
            "parent_incompatible", "the parent's model.json cannot be read; request a full training."
        ) from error


def _rounds_allowed(before: int, is_increment: bool) -> int:
    rounds = min(INCREMENT_ROUNDS, TOTAL_ROUNDS - before) if is_increment else ROUNDS
    if rounds <= 0:
        hint = f"the parent has {before} rounds, {TOTAL_ROUNDS} are the most; request a full training."
        raise Refused("increment_round_cap", hint)
    return rounds


class _RoundReporter(xgboost.callback.TrainingCallback):
    def __init__(self, rounds: int, on_round: OnRound) -> None:
        super().__init__()
        self._rounds, self._on_round, self._done = rounds, on_round, 0

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self._done += 1
        if self._done % REPORT_EVERY == 0 or self._done == self._rounds:
            self._on_round(self._done, self._rounds)
        return False
