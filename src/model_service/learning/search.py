"""The search over hyperparameters, inside the training block alone.

It splits that block in time once more, purged and embargoed like the whole, and knows no other row: early stopping,
calibration and test blocks stay what no choice has seen. That is also why its trials do not count among the candidates
of the deflated Sharpe ratio (METHOD 7): what is deflated is the best of several results on test rows, and a trial has
none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.config.extras import missing_for_search
from model_service.config.hyperparameters import LARGEST_ENSEMBLE, Value, chosen_hyperparameters
from model_service.learning.estimators import Block, FitRequest, FittedModel, fit_model
from model_service.learning.refusal import RunBroken
from model_service.learning.split import evenly, purged_blocks
from model_service.learning.weights import with_mean_one

SEARCH_ROWS = 200_000
"""At most so many rows, evenly taken: labels of neighbours overlap, so they say little that these do not."""
FOREST_TREES = 50
"""Trees of a forest while settings are compared; more make each of them better and hardly change their order."""
SHARES = (0.7, 0.1, 0.2)
LEAST_ROWS = {"fitting": 100, "early_stopping": 30, "validation": 50}
_PROBABILITY_FLOOR = 1e-7

OnTrial = Callable[[int, int, str], None]
"""Called with the trials done, the trials in all and a note, before each trial."""


@dataclass(frozen=True)
class TrainingRows:
    """The training block with the times of its rows, as the search splits it.

    Attributes:
        decided_us, exit_us: label intervals, int64 (n,).
    """

    block: Block
    decided_us: NDArray[np.int64]
    exit_us: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp]) -> Block:
        """Some of the rows, weighed among themselves."""
        return Block(self.block.inputs[rows], self.block.labels[rows], with_mean_one(self.block.weights[rows]))


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        hyperparameters: to be used over the strategy's own; empty when no search was possible.
        report: how it went, for `training_config`.
    """

    hyperparameters: Mapping[str, Value]
    report: Mapping[str, Any]


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False


_SPACES: Mapping[str, Mapping[str, _Range]] = {
    "xgboost": {
        "max_depth": _Range(2, 6, whole=True),
        "eta": _Range(0.01, 0.3, logarithmic=True),
        "min_child_weight": _Range(1.0, 200.0, logarithmic=True),
        "subsample": _Range(0.5, 1.0),
        "colsample_bytree": _Range(0.3, 1.0),
        "lambda": _Range(0.1, 100.0, logarithmic=True),
    },
    "random_forest": {
        "max_depth": _Range(2, 10, whole=True),
        "min_samples_leaf": _Range(5, 500, whole=True, logarithmic=True),
        "max_features": _Range(0.05, 1.0, logarithmic=True),
    },
    "logistic_regression": {"C": _Range(1e-4, 100.0, logarithmic=True)},
    "sgd_classifier": {"alpha": _Range(1e-5, 1.0, logarithmic=True), "l1_ratio": _Range(0.0, 1.0)},
}


def require_optuna() -> None:
    """Raises RunBroken with `search_unavailable` when the extra is missing; nothing is loaded."""
    missing = missing_for_search()
    if missing is not None:
        raise RunBroken("search_unavailable", missing)


def search(request: FitRequest, rows: TrainingRows, horizon_us: int, trials: int, on_trial: OnTrial) -> Found:
    """Try `trials` sets of hyperparameters and return the best; those that the strategy sets itself stay as they are.

    The tree-structured Parzen estimator [Bergstra et al. 2011] of Optuna, seeded with the run's seed; the first trial
    is what would be used without a search. What is compared is the weighted log loss on the last fifth of the rows.
    A training block that is too small to be split gives no search; the report says why.

    Raises:
        RunBroken: with `search_unavailable`, when Optuna is missing.
    """
    require_optuna()
    parts, space = _parts(rows, horizon_us), _space(request)
    reason = _too_small(parts) if space else "the strategy sets all that would be searched"
    if reason is not None:
        return Found({}, {"trials": [], "skipped": reason})
    return _optimise(request, parts, space, trials, on_trial)


def weighted_log_loss(scores: NDArray[np.float64], block: Block) -> float:
    """Mean of -log of the probability given to what happened, by weight; scores are held off 0 and 1."""
    held = np.clip(np.where(block.labels == 1, scores, 1.0 - scores), _PROBABILITY_FLOOR, 1.0)
    return float(np.average(-np.log(held), weights=block.weights))


def _optimise(
    request: FitRequest, parts: Mapping[str, Block], space: Mapping[str, _Range], trials: int, on_trial: OnTrial
) -> Found:
    import optuna  # a second of imports, for those who search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=request.seed))
    study.enqueue_trial(_defaults(request, space))
    tried: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        on_trial(len(tried), trials, f"trial {len(tried) + 1} of {trials}")
        chosen = {name: _suggest(trial, name, limits) for name, limits in space.items()}
        loss = weighted_log_loss(_fit(request, parts, chosen).scores(parts["validation"].inputs), parts["validation"])
        tried.append({"hyperparameters": chosen, "log_loss": round(loss, 9)})
        return loss

    study.optimize(objective, n_trials=trials)
    best = study.best_trial.number
    rows = {f"rows_{name}": len(block.labels) for name, block in parts.items()}
    report = {"sampler": "TPE", "objective": "weighted log loss", "best_trial": best + 1, "trials": tried, **rows}
    return Found(tried[best]["hyperparameters"], report)


def _fit(request: FitRequest, parts: Mapping[str, Block], chosen: Mapping[str, Value]) -> FittedModel:
    given = {**request.hyperparameters, **chosen}
    if request.model_type == "random_forest":
        given["n_estimators"] = min(FOREST_TREES, chosen_hyperparameters("random_forest", given)["n_estimators"])
    return fit_model(
        replace(
            request,
            train=parts["fitting"],
            early_stopping=parts["early_stopping"],
            hyperparameters=given,
            on_round=lambda done, most: None,
        )
    )


def _suggest(trial: Any, name: str, limits: _Range) -> Value:
    if limits.whole:
        return int(trial.suggest_int(name, int(limits.low), int(limits.high), log=limits.logarithmic))
    return float(trial.suggest_float(name, limits.low, limits.high, log=limits.logarithmic))


def _space(request: FitRequest) -> dict[str, _Range]:
    """What is open: not set by the strategy, and no ensemble over the limit."""
    space = dict(_SPACES[request.model_type])
    trees = {"xgboost": "rounds", "random_forest": "n_estimators"}.get(request.model_type)
    if trees is not None:
        most = chosen_hyperparameters(request.model_type, request.hyperparameters)[trees]
        depth = math.floor(math.log2(LARGEST_ENSEMBLE / most))
        space["max_depth"] = replace(space["max_depth"], high=min(depth, space["max_depth"].high))
    return {name: limits for name, limits in space.items() if name not in request.hyperparameters}


def _defaults(request: FitRequest, space: Mapping[str, _Range]) -> dict[str, Value]:
    """The defaults of what is open, as numbers inside the ranges."""
    chosen = chosen_hyperparameters(request.model_type, request.hyperparameters)
    if request.model_type == "random_forest":
        drawn = min(chosen["max_samples"], len(request.train.labels))
        chosen |= {"min_samples_leaf": max(20, drawn // 200), "max_features": request.train.inputs.shape[1] ** -0.5}
    held = {name: min(max(chosen[name], limits.low), limits.high) for name, limits in space.items()}
    return {name: int(value) if space[name].whole else float(value) for name, value in held.items()}


def _parts(rows: TrainingRows, horizon_us: int) -> dict[str, Block]:
    """Fitting, early stopping and validation rows, in time order, purged."""
    kept = evenly(len(rows.block.labels), SEARCH_ROWS)
    ends = [round(float(share) * len(kept)) for share in np.cumsum((0.0, *SHARES))]
    cut = purged_blocks(rows.decided_us[kept], rows.exit_us[kept], horizon_us, ends)
    return {name: rows.take(kept[part]) for name, part in zip(LEAST_ROWS, cut.blocks, strict=True)}


def _too_small(parts: Mapping[str, Block]) -> str | None:
    for name, block in parts.items():
        count, wins = len(block.labels), int(np.sum(block.labels))
        if count < LEAST_ROWS[name]:
            return f"{name} keeps {count} rows of the training block after purging, {LEAST_ROWS[name]} are needed"
        if name != "early_stopping" and wins in (0, count):
            return f"all {count} rows of {name} are of one class"
    return None
