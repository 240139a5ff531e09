"""One training run from rows to a judged candidate, as a function of its arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service import __version__
from model_service.learning.artifact_writer import (
    TEST_PREDICTIONS_FILE,
    library_versions,
    manifest_bytes,
    predictions_bytes,
)
from model_service.learning.baselines import baselines, off_policy_report
from model_service.learning.calibrate import fit_calibration
from model_service.learning.dataset import Dataset, IdleDraws, dataset_from_rows, idle_draws_from_rows
from model_service.learning.dataset_report import dataset_report
from model_service.learning.estimators import (
    Block,
    FitRequest,
    FittedModel,
    fit_model,
    libraries_of,
    native_file,
    refuse_increment,
)
from model_service.learning.evaluation import Evaluation, Judged, evaluate
from model_service.learning.gate import judge
from model_service.learning.importance import importance
from model_service.learning.incumbent import IncumbentModel
from model_service.learning.plan import Plan, RunFacts, facts_of, horizon_us, parent_end_us, plan_run
from model_service.learning.refusal import Refused
from model_service.learning.reliability import reliability
from model_service.learning.scorecard import scorecard
from model_service.models.artifact import CALIBRATION_FILE, MANIFEST_FILE, SERVING_FILE, LoadedModel, sha256_of
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_SET, align_to_side
from model_service.models.job import Candidate, TrainingJob
from model_service.models.manifest import read_inputs
from model_service.models.samples import Rows

Phase = Literal["preparing", "fitting", "evaluating"]


class OnProgress(Protocol):
    """Where a run says how far it is."""

    def __call__(self, phase: Phase, fraction: float, note: str, report: Mapping[str, Any] | None = None, /) -> None:
        """Phase, fraction of the run from 0 to 1, a note; and once, when it is known, the report on the rows."""


_PREPARED, _FITTING_FROM, _EVALUATING_FROM = 0.14, 0.15, 0.85


@dataclass(frozen=True)
class Prepared:
    """The rows of a run, all in memory, and the plan for them."""

    dataset: Dataset
    plan: Plan

    def block(self, name: str) -> Block:
        """The rows of a block as a model reads them."""
        rows = self.plan.split.blocks()[name]
        return Block(self.dataset.inputs(rows), self.dataset.labels[rows], self.plan.weights[rows])

    def held_out(self, idle: Rows | None, incumbent: IncumbentModel | None = None) -> HeldOut:
        """What judging needs once the model is fitted; of the draws in `idle` those of the test block's time."""
        test = self.dataset.take(self.plan.split.test)
        draws = IdleDraws.nothing() if idle is None else idle_draws_from_rows(idle)
        return HeldOut(
            calibration=self.dataset.take(self.plan.split.calibration),
            test=test,
            facts=facts_of(self.dataset, self.plan),
            idle=draws.between(int(test.decided_us[0]), int(test.decided_us[-1])),
            incumbent=incumbent,
        )


@dataclass(frozen=True)
class HeldOut:
    """The rows that a fitted model is calibrated and judged on, and the facts of the run; the same for every engine."""

    calibration: Dataset
    test: Dataset
    facts: RunFacts
    idle: IdleDraws = field(default_factory=IdleDraws.nothing)
    incumbent: IncumbentModel | None = None


def train_candidate(
    job: TrainingJob,
    rows: Rows,
    dropped: Mapping[str, int],
    parent_files: Mapping[str, bytes],
    on_progress: OnProgress,
    *,
    idle: Rows | None = None,
    incumbent: IncumbentModel | None = None,
) -> tuple[Candidate, dict[str, bytes]]:
    """Make a candidate and judge it.

    Args:
        job: strategy, seed, threads and kind of training.
        rows: structured array with the columns of `samples`.
        dropped: rows that the reader left out, by reason.
        parent_files: content of the parent's artifact by name, for an increment.
        on_progress: told how far the run is.
        idle: draws that led to no trade, as `database/idle_reader.py` makes them, of the test block's time at least.
        incumbent: the version that speaks now; None when none does.

    Returns:
        The candidate and the content of its files by name.

    Raises:
        Refused: the rows, or the parent, do not allow a model.
    """
    prepared = prepare(job, rows, dropped)
    on_progress("preparing", _PREPARED, kept(prepared.plan), prepared.plan.report)
    blocks = prepared.block("train"), prepared.block("early_stopping")
    fitted = fit_model(fit_request(job, *blocks, parent_files, on_progress))
    return conclude(job, prepared.held_out(idle, incumbent), fitted, on_progress)


def conclude(
    job: TrainingJob, held_out: HeldOut, fitted: FittedModel, on_progress: OnProgress
) -> tuple[Candidate, dict[str, bytes]]:
    """Calibrate, export and judge a fitted model, wherever it was fitted; returns as `train_candidate`."""
    on_progress("evaluating", _EVALUATING_FROM, "calibrating, exporting and judging on the test block")
    facts = held_out.facts
    files = {SERVING_FILE: fitted.onnx(), fitted.native_file: fitted.native()}
    files[CALIBRATION_FILE] = _calibrate(held_out.calibration, fitted).to_json()
    served = _load({**files, MANIFEST_FILE: _manifest(job, facts, None)})
    evaluation = _evaluate(job, held_out, fitted, served)
    explained = {
        "importance": importance(fitted, held_out.test, job.seed),
        "calibration": reliability(
            served.calibration,
            evaluation.labels,
            evaluation.probability,
            evaluation.test.decided_us,
            evaluation.horizon_us,
        ),
    }
    candidate = _candidate(job, facts, fitted, evaluation, explained)
    files[MANIFEST_FILE] = _manifest(job, facts, _metric(candidate, "accuracy_at_threshold"))
    files[TEST_PREDICTIONS_FILE] = predictions_bytes(evaluation)
    hashes = {name: sha256_of(data) for name, data in files.items()}
    return candidate.model_copy(update={"files": hashes}), files


def prepare(job: TrainingJob, rows: Rows, dropped: Mapping[str, int]) -> Prepared:
    """Rows to a split dataset. Raises Refused."""
    dataset, unusable = dataset_from_rows(rows, job.as_of_us)
    if job.training_type == "incremental":
        refuse_increment(job.strategy.model_type)
        dataset = dataset.take(dataset.decided_us > parent_end_us(job))
    report = dataset_report(dataset, {**dropped, **unusable}, horizon_us(job))
    return Prepared(dataset, plan_run(job, dataset, report))


def kept(plan: Plan) -> str:
    """How many rows the split keeps, as a note."""
    split = plan.split
    serving = sum(len(rows) for rows in split.blocks().values())
    dropped = split.purged + split.embargoed
    return f"kept {serving:,} of {serving + dropped:,} rows, dropped {dropped:,} at the borders of the blocks"


def fit_request(
    job: TrainingJob,
    train: Block,
    early_stopping: Block,
    parent_files: Mapping[str, bytes],
    on_progress: OnProgress,
) -> FitRequest:
    """What the job asks to be fitted on these blocks. Raises Refused for a parent that cannot be continued."""

    def on_round(done: int, most: int) -> None:
        share = done / most
        fraction = _FITTING_FROM + share * (_EVALUATING_FROM - _FITTING_FROM)
        on_progress("fitting", fraction, f"round {done} of at most {most}")

    model_type, training = job.strategy.model_type, job.strategy.training
    on_progress("fitting", _FITTING_FROM, f"{model_type} on {len(train.labels)} rows")
    return FitRequest(
        model_type=model_type,
        train=train,
        early_stopping=early_stopping,
        seed=job.seed,
        threads=job.threads,
        on_round=on_round,
        parent=parent_model(job, parent_files),
        hyperparameters=training.hyperparameters,
        early_stopping_rounds=training.early_stopping_rounds,
        monotone_constraints=training.monotone_constraints,
        device=job.device,
    )


def parent_model(job: TrainingJob, parent_files: Mapping[str, bytes]) -> bytes | None:
    """The native file to continue from; None for a full training.

    Raises Refused with `parent_incompatible` when the parent has no such file, `parent_damaged` when it is another file
    than the one that was judged.
    """
    if job.training_type != "incremental":
        return None
    name = native_file(job.strategy.model_type)
    _check_parent_inputs(job, parent_files)
    if name not in parent_files:
        raise Refused("parent_incompatible", f"{job.parent_version} has no {name}; request a full training.")
    content = parent_files[name]
    if name in job.parent_files and sha256_of(content) != job.parent_files[name]:
        hint = f"{name} of {job.parent_version} is not the file that was judged (sha256); request a full training."
        raise Refused("parent_damaged", hint)
    return content


def _check_parent_inputs(job: TrainingJob, parent_files: Mapping[str, bytes]) -> None:
    """An increment goes on with the parent's own columns, so they must be today's, in today's order."""
    try:
        inputs = read_inputs(json.loads(parent_files.get(MANIFEST_FILE, b"")))
    except (ValueError, KeyError, TypeError) as error:
        hint = f"the manifest of {job.parent_version} cannot be used ({error}); request a full training."
        raise Refused("parent_incompatible", hint) from error
    if inputs.feature_set != FEATURE_SET:
        hint = f"{job.parent_version} reads {inputs.feature_set}, rows are {FEATURE_SET} now; request a full training."
        raise Refused("parent_incompatible", hint)


def _calibrate(rows: Dataset, fitted: FittedModel) -> Calibration:
    return fit_calibration(fitted.scores(rows.inputs()), rows.labels, rows.net_returns)


def _load(files: Mapping[str, bytes]) -> LoadedModel:
    return LoadedModel.from_files(files, {name: sha256_of(data) for name, data in files.items()})


def _evaluate(job: TrainingJob, held_out: HeldOut, fitted: FittedModel, served: LoadedModel) -> Evaluation:
    def native(features: NDArray[np.float32], side_signs: NDArray[np.int8]) -> NDArray[np.float64]:
        return fitted.scores(align_to_side(features, side_signs))

    judged = Judged(
        served=served.scores,
        native=native,
        calibration=served.calibration,
        majority_class=held_out.facts.majority_class,
        action_threshold=job.strategy.action_threshold,
        exploration_rate=job.strategy.exploration_rate,
        horizon_us=horizon_us(job),
        threads=job.threads,
    )
    return evaluate(judged, held_out.test, held_out.idle, held_out.incumbent)


def _candidate(
    job: TrainingJob, facts: RunFacts, fitted: FittedModel, evaluation: Evaluation, explained: Mapping[str, Any]
) -> Candidate:
    metrics, left_out = scorecard(evaluation, job.candidates_tried)
    gate = judge(evaluation, job.strategy.accuracy_threshold)
    return Candidate(
        model_type=job.strategy.model_type,
        feature_set=FEATURE_SET,
        files={},
        dataset_size=facts.dataset_size,
        trained_until_us=facts.trained_until_us,
        training_config=_training_config(job, facts, fitted),
        report={
            **facts.report,
            "metrics_left_out": left_out,
            "baselines": baselines(evaluation),
            "off_policy": off_policy_report(evaluation),
            **explained,
        },
        metrics=metrics,
        gate=gate,
        gate_passed=all(condition.passed for condition in gate),
    )


def _training_config(job: TrainingJob, facts: RunFacts, fitted: FittedModel) -> dict[str, Any]:
    return {
        **fitted.details(),
        "engine": job.engine,
        "training_type": job.training_type,
        "parent_version": job.parent_version if job.training_type == "incremental" else None,
        "seed": job.seed,
        "threads": job.threads,
        "as_of_us": job.as_of_us,
        "candidates_tried": job.candidates_tried,
        "weight_of_wins": facts.report["weight_of_wins"],
        "code_version": __version__,
        "libraries": library_versions(libraries_of(job.strategy.model_type)),
        "dataset_fingerprint": facts.report["fingerprint"],
        "strategy": job.strategy.model_dump(mode="json"),
    }


def _manifest(job: TrainingJob, facts: RunFacts, accuracy_at_threshold: float | None) -> bytes:
    content = {
        "strategy_id": job.strategy.strategy_id,
        "horizon_seconds": job.strategy.horizon_seconds,
        "model_type": job.strategy.model_type,
        "training_type": job.training_type,
        "dataset_fingerprint": facts.report["fingerprint"],
        "dataset_size": facts.dataset_size,
        "trained_until_us": facts.trained_until_us,
        "seed": job.seed,
        "threads": job.threads,
        "code_version": __version__,
        "accuracy_at_threshold": accuracy_at_threshold,
    }
    return manifest_bytes(content, libraries_of(job.strategy.model_type))


def _metric(candidate: Candidate, name: str) -> float | None:
    return next((metric.value for metric in candidate.metrics if metric.name == name), None)
