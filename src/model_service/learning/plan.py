"""Which rows of a run serve for what, and what all of them say (METHOD 4, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.class_weight import weight_of_wins, with_class_weight
from model_service.learning.dataset import Outlined, refuse_if_insufficient
from model_service.learning.refusal import Refused
from model_service.learning.split import Split, refuse_one_class, refuse_small_blocks, split_in_time
from model_service.learning.weights import training_weights
from model_service.models.job import TrainingJob


@dataclass(frozen=True)
class Plan:
    """Which row of a run serves for what, and how much it weighs; `report` says what is known of the rows."""

    split: Split
    weights: NDArray[np.float32]
    report: Mapping[str, Any]


@dataclass(frozen=True)
class RunFacts:
    """Numbers of all rows of a run that its candidate and its judgement name.

    Attributes:
        dataset_size: rows in all blocks and between them.
        trained_until_us: the last label end among the rows that shape the model.
        majority_class: the more frequent label of the training block.
        report: what is known of the rows.
    """

    dataset_size: int
    trained_until_us: int
    majority_class: int
    report: Mapping[str, Any]


def plan_run(job: TrainingJob, rows: Outlined, report: Mapping[str, Any], uniqueness: NDArray[np.float64]) -> Plan:
    """Split and weigh the rows of a run, given in time order with their average uniqueness, (n,). Raises Refused."""
    is_increment = job.training_type == "incremental"
    if is_increment and not len(rows):
        raise Refused("no_new_data", f"no outcome is newer than what {job.parent_version} was trained on.")
    refuse_if_insufficient(rows, 1 if is_increment else job.strategy.minimum_dataset_size, horizon_us(job), report)
    split = split_in_time(rows.decided_us, rows.exit_us, horizon_us(job))
    report = {**report, **split.report()}
    refuse_small_blocks(split, report)
    refuse_one_class(rows.labels, split, report)
    wanted = job.strategy.training
    weights = training_weights(rows, uniqueness, split.train, wanted.recency_half_life_hours)
    factor = weight_of_wins(weights[split.train], rows.labels[split.train], wanted.class_weight)
    report = {**report, "weight_of_wins": round(factor, 6)}
    return Plan(split, with_class_weight(weights, rows.labels, factor, split.train), report)


def facts_of(rows: Outlined, plan: Plan) -> RunFacts:
    """The facts of planned rows."""
    split = plan.split
    shaping = np.concatenate((split.train, split.early_stopping, split.calibration))
    return RunFacts(
        dataset_size=len(rows),
        trained_until_us=int(np.max(rows.exit_us[shaping])),
        majority_class=int(2 * np.sum(rows.labels[split.train]) > len(split.train)),
        report=plan.report,
    )


def parent_end_us(job: TrainingJob) -> int:
    """The last moment that shaped the parent: an increment learns, and is judged, on rows decided after it.

    Raises Refused with `increment_unsupported` when the job names no parent.
    """
    if job.parent_trained_until_us is None or job.parent_directory is None:
        raise Refused("increment_unsupported", "an increment needs a parent version; request a full training.")
    return job.parent_trained_until_us


def horizon_us(job: TrainingJob) -> int:
    """H in microseconds."""
    return job.strategy.horizon_seconds * 1_000_000
