"""Gradient boosting with XGBoost, regularised for few and noisy rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from model_service.config.hyperparameters import chosen_hyperparameters
from model_service.learning.estimators import Block, FitRequest, OnRound, known_inputs
from model_service.learning.explain_booster import BoosterExplainer
from model_service.learning.explanation import Explainer
from model_service.learning.onnx_trees import booster_to_onnx
from model_service.learning.refusal import Refused, RunBroken
from model_service.models.features import FEATURE_NAMES, MODEL_INPUT_NAMES

FIXED: Mapping[str, Any] = {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist"}
INCREMENT_ROUNDS = 150
REPORT_EVERY = 10
MOST_STOPPING_ROWS = 25_000
"""Rows that the loss of each round is taken of, evenly spread over the early stopping block. Of a hundred thousand more
would cost a tenth of the run, and they overlap too much to say more."""
_CONSTRAINTS = "monotone_constraints"


@dataclass(frozen=True)
class BoostedModel:
    """A booster cut to its best iteration, so that every way of using it uses the same trees.

    Attributes:
        parent_rounds: rounds of the version that it continues.
        stopping_loss: log loss of the best iteration on the early stopping block; None without that block.
        used: hyperparameters and settings of the fit.
    """

    booster: xgboost.Booster
    inputs: int
    parent_rounds: int
    stopping_loss: float | None
    used: Mapping[str, Any]
    native_file: str = "model.json"

    def native(self) -> bytes:
        """XGBoost's JSON: a flipped byte in it is an error, where one in the binary form crashed the process."""
        return bytes(self.booster.save_raw("json"))

    def onnx(self) -> bytes:
        """The same trees as an ONNX graph."""
        return booster_to_onnx(self.native(), self.inputs)

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of label 1 before calibration, float64 (n,)."""
        return np.asarray(self.booster.inplace_predict(known_inputs(inputs)), dtype=np.float64)

    def explainer(self) -> Explainer:
        """The booster, asked for its reasons."""
        return BoosterExplainer(self.booster)

    def details(self) -> Mapping[str, Any]:
        """What the fit used, rounds kept and the loss on the early stopping block."""
        loss = self.stopping_loss
        return {
            **self.used,
            "rounds": self.booster.num_boosted_rounds(),
            "parent_rounds": self.parent_rounds,
            "early_stopping_log_loss": None if loss is None else round(loss, 9),
        }


def fit_boosted(request: FitRequest) -> BoostedModel:
    """Boost until the loss on the early stopping block has not fallen for a while, then cut to the best iteration.

    With a parent, boosting continues on its trees by at most INCREMENT_ROUNDS, to twice the hyperparameter `rounds` in
    all. Raises Refused with `increment_round_cap` when the parent has them already, with `parent_incompatible` when its
    file cannot be read or it was held monotone in another way.
    """
    parent = parent_booster(request)
    before = parent.num_boosted_rounds() if parent else 0
    rounds = rounds_allowed(request, before)
    stopping = request.early_stopping
    booster = xgboost.train(
        booster_parameters(request),
        _matrix(request.train, request.threads),
        rounds,
        evals=[(_matrix(_spread(stopping), request.threads), "early_stopping")] if stopping else [],
        early_stopping_rounds=request.early_stopping_rounds if stopping else None,
        verbose_eval=False,
        xgb_model=parent,
        callbacks=[_RoundReporter(rounds, request.on_round)],
    )
    return finished(booster, request, before)


def booster_parameters(request: FitRequest) -> dict[str, Any]:
    """What `xgboost.train` takes; without a parent also the base score, the weighted share of wins."""
    chosen = chosen_hyperparameters("xgboost", request.hyperparameters)
    del chosen["rounds"]
    run = {"seed": request.seed, "nthread": request.threads, "device": request.device}
    parameters = {**FIXED, **chosen, **run, **_monotone(request.monotone_constraints)}
    if request.parent is None:
        parameters["base_score"] = float(np.average(request.train.labels, weights=request.train.weights))
    return parameters


def rounds_allowed(request: FitRequest, before: int) -> int:
    """Boosting rounds at most, for a parent of `before` rounds. Raises Refused with `increment_round_cap`."""
    rounds: int = chosen_hyperparameters("xgboost", request.hyperparameters)["rounds"]
    if request.parent is None:
        return rounds
    most = 2 * rounds
    if before >= most:
        hint = f"the parent has {before} rounds, {most} are the most (twice `rounds`); request a full training."
        raise Refused("increment_round_cap", hint)
    return min(INCREMENT_ROUNDS, most - before)


def parent_booster(request: FitRequest) -> xgboost.Booster | None:
    """The booster to continue from; None for a full training. Raises Refused with `parent_incompatible`."""
    if request.parent is None:
        return None
    try:
        json.loads(request.parent)  # what is no JSON makes XGBoost abort the process
        parent = xgboost.Booster(model_file=bytearray(request.parent))
        width, constraints = parent.num_features(), parent.attr(_CONSTRAINTS)
    except (ValueError, xgboost.core.XGBoostError) as error:
        raise _incompatible("the parent's model.json cannot be read") from error
    if width != request.train.inputs.shape[1]:
        raise _incompatible("the parent reads other features")
    if (constraints or "{}") != _as_text(request.monotone_constraints):
        raise _incompatible("the parent was fitted under other monotone constraints")
    return parent


def finished(booster: xgboost.Booster, request: FitRequest, before: int) -> BoostedModel:
    """The model of a booster that has just been trained, wherever that was: cut to its best iteration, on the CPU."""
    loss = None
    if request.early_stopping is not None:
        loss = float(booster.best_score)
        booster = booster[: int(booster.best_iteration) + 1]
    booster.set_param({"device": "cpu", "nthread": request.threads})
    if request.monotone_constraints:
        booster.set_attr(**{_CONSTRAINTS: _as_text(request.monotone_constraints)})
    return BoostedModel(booster, len(MODEL_INPUT_NAMES), before, loss, _used(request))


def require_device(device: str) -> None:
    """Make sure that XGBoost can compute on `device`, before rows are read for it.

    Where it cannot, it falls back to the CPU with a warning, so a booster of one round is asked where it was made.
    Raises RunBroken with `device_unavailable`.
    """
    if device == "cpu":
        return
    if not xgboost.build_info().get("USE_CUDA"):
        raise _no_device("this XGBoost was built without CUDA; install the extra `gpu` in place of `cpu`")
    rows = xgboost.DMatrix(np.eye(4, dtype=np.float32), label=np.array([0, 1, 0, 1]))
    try:
        probe = xgboost.train({**FIXED, "device": device}, rows, 1)
    except xgboost.core.XGBoostError as error:
        raise _no_device(f"XGBoost says: {str(error).splitlines()[0]}") from error
    used = json.loads(probe.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith(device):
        raise _no_device("no GPU can be used here; look at the driver with nvidia-smi")


def _no_device(what: str) -> RunBroken:
    return RunBroken("device_unavailable", f"MODEL_TRAINING_DEVICE is cuda, but {what}, or set it to cpu.")


def _used(request: FitRequest) -> Mapping[str, Any]:
    return {
        "hyperparameters": {**FIXED, **chosen_hyperparameters("xgboost", request.hyperparameters)},
        "early_stopping_rounds": request.early_stopping_rounds,
        "monotone_constraints": dict(request.monotone_constraints),
        "device": request.device,
    }


def _monotone(constraints: Mapping[str, int]) -> dict[str, str]:
    unknown = next((name for name in constraints if name not in FEATURE_NAMES), None)
    if unknown is not None:
        hint = f"monotone_constraints names {unknown}, which is no feature; correct the strategy's settings."
        raise Refused("unknown_feature", hint)
    if not constraints:
        return {}
    return {_CONSTRAINTS: f"({','.join(str(constraints.get(name, 0)) for name in MODEL_INPUT_NAMES)})"}


def _as_text(constraints: Mapping[str, int]) -> str:
    return json.dumps(dict(constraints), sort_keys=True)


def _incompatible(what: str) -> Refused:
    return Refused("parent_incompatible", f"{what}; request a full training.")


def _matrix(block: Block, threads: int) -> xgboost.DMatrix:
    """The plain matrix: XGBoost sorts it into bins faster than it builds a QuantileDMatrix, with the same trees."""
    return xgboost.DMatrix(block.inputs, label=block.labels, weight=block.weights, nthread=threads)


def _spread(block: Block) -> Block:
    count = len(block.labels)
    if count <= MOST_STOPPING_ROWS:
        return block
    rows = np.arange(MOST_STOPPING_ROWS) * count // MOST_STOPPING_ROWS
    return Block(block.inputs[rows], block.labels[rows], block.weights[rows])


class _RoundReporter(xgboost.callback.TrainingCallback):
    def __init__(self, rounds: int, on_round: OnRound) -> None:
        super().__init__()
        self._rounds, self._on_round, self._done = rounds, on_round, 0

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self._done += 1
        if self._done % REPORT_EVERY == 0 or self._done == self._rounds:
            self._on_round(self._done, self._rounds)
        return False
