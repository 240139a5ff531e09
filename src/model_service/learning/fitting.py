"""From the blocks of a run to a fitted model: what the job asks for, the search before, the walk forward after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from model_service.learning.dataset import Dataset
from model_service.learning.estimators import Block, FitRequest, FittedModel, fit_model
from model_service.learning.parent import parent_of
from model_service.learning.plan import Plan, horizon_us
from model_service.learning.progress import FITTING, SEARCHED, WALKING, OnProgress
from model_service.learning.search import TrainingRows, search
from model_service.learning.walk_forward import Walk, walk_forward
from model_service.models.decision_rule import Acting
from model_service.models.job import TrainingJob


@dataclass(frozen=True)
class Notes:
    """What else is to be said of a candidate: in its `training_config`, and in its report."""

    config: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


def fit_request(
    job: TrainingJob, train: Block, early_stopping: Block, parent_files: Mapping[str, bytes], on_progress: OnProgress
) -> FitRequest:
    """What the job asks to be fitted on these blocks. Raises Refused for a parent that cannot be continued."""
    start = SEARCHED if _trials(job) else FITTING

    def on_round(done: int, most: int) -> None:
        on_progress("fitting", start + done / most * (WALKING - start), f"round {done} of at most {most}")

    model_type, training = job.strategy.model_type, job.strategy.training
    on_progress("fitting", FITTING, f"{model_type} on {len(train.labels)} rows")
    parent = parent_of(job, parent_files)
    return FitRequest(
        model_type=model_type,
        train=train,
        early_stopping=early_stopping,
        seed=job.seed,
        threads=job.threads,
        on_round=on_round,
        parent=parent.model if parent else None,
        hyperparameters={**(parent.hyperparameters if parent else {}), **training.hyperparameters},
        early_stopping_rounds=training.early_stopping_rounds,
        monotone_constraints=training.monotone_constraints,
        device=job.device,
    )


def fit_in_memory(
    job: TrainingJob, dataset: Dataset, plan: Plan, request: FitRequest, on_progress: OnProgress
) -> tuple[FittedModel, Notes]:
    """Search where the strategy asks for it, fit, and walk forward where it asks for that.

    Raises:
        Refused: the parent cannot be continued.
        RunBroken: the search cannot be made on this machine.
    """
    searched, config = _searched(job, dataset, plan, request, on_progress)
    fitted = fit_model(searched)
    return fitted, Notes(config, _walk_forward(job, dataset, plan, searched, fitted, on_progress))


def _trials(job: TrainingJob) -> int:
    """Trials of the search; an increment goes on with what its parent was fitted with."""
    return job.strategy.training.search_trials if job.training_type == "full" else 0


def _searched(
    job: TrainingJob, dataset: Dataset, plan: Plan, request: FitRequest, on_progress: OnProgress
) -> tuple[FitRequest, Mapping[str, Any]]:
    """The request with what the search found, and what `training_config` says of it."""
    trials = _trials(job)
    if not trials:
        return request, {}

    def on_trial(done: int, most: int, note: str) -> None:
        on_progress("fitting", FITTING + done / most * (SEARCHED - FITTING), note)

    train = plan.split.train
    rows = TrainingRows(request.train, dataset.decided_us[train], dataset.exit_us[train])
    found = search(request, rows, horizon_us(job), trials, on_trial)
    chosen = {**request.hyperparameters, **found.hyperparameters}
    return replace(request, hyperparameters=chosen), {"search": found.report}


def _walk_forward(
    job: TrainingJob, dataset: Dataset, plan: Plan, request: FitRequest, fitted: FittedModel, on_progress: OnProgress
) -> Mapping[str, Any]:
    """Nothing for an increment: what it rests on was learned from rows that are not here."""
    folds = job.strategy.training.walk_forward_folds
    if not folds or job.training_type != "full":
        return {}
    on_progress("evaluating", WALKING, f"walking forward in {folds} folds")
    rounds = fitted.details().get("rounds")
    walk = Walk(request, rounds, folds, horizon_us(job), Acting.of(job.strategy))
    return {"walk_forward": walk_forward(walk, dataset, plan.weights)}
