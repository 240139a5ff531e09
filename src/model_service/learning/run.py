"""One training run from rows to a judged candidate, as a function of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
from model_service.learning.bounds import with_lower_bounds
from model_service.learning.calibrate import fit_calibration
from model_service.learning.dataset import Dataset, IdleDraws, dataset_from_rows, idle_draws_from_rows
from model_service.learning.dataset_report import summary_of
from model_service.learning.estimators import Block, FittedModel, libraries_of, refuse_increment
from model_service.learning.evaluation import Evaluation, Judged, evaluate
from model_service.learning.fitting import Notes, fit_in_memory, fit_request
from model_service.learning.gate import judge
from model_service.learning.importance import importance
from model_service.learning.incumbent import IncumbentModel
from model_service.learning.plan import Plan, RunFacts, facts_of, horizon_us, parent_end_us, plan_run
from model_service.learning.progress import EVALUATING, PREPARED, OnProgress
from model_service.learning.reliability import reliability
from model_service.learning.scorecard import scorecard
from model_service.models.artifact import CALIBRATION_FILE, MANIFEST_FILE, SERVING_FILE, LoadedModel, sha256_of
from model_service.models.calibration import Calibration
from model_service.models.decision_rule import Acting, action_rate
from model_service.models.drift import MANIFEST_ENTRY, to_manifest
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, align_to_side
from model_service.models.job import Candidate, TrainingJob
from model_service.models.samples import Rows


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
            training_features=self.dataset.features[self.plan.split.train],
        )


@dataclass(frozen=True)
class HeldOut:
    """The rows that a fitted model is calibrated and judged on, and the facts of the run; the same for every engine.

    Attributes:
        training_features: of the training block, (n, F), not aligned, against which later drift is measured.
    """

    calibration: Dataset
    test: Dataset
    facts: RunFacts
    idle: IdleDraws = field(default_factory=IdleDraws.nothing)
    incumbent: IncumbentModel | None = None
    training_features: NDArray[np.float32] | None = None


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
        RunBroken: the search that the strategy asks for cannot be made on this machine.
    """
    prepared = prepare(job, rows, dropped)
    on_progress("preparing", PREPARED, kept(prepared.plan), prepared.plan.report)
    blocks = prepared.block("train"), prepared.block("early_stopping")
    request = fit_request(job, *blocks, parent_files, on_progress)
    fitted, notes = fit_in_memory(job, prepared.dataset, prepared.plan, request, on_progress)
    return conclude(job, prepared.held_out(idle, incumbent), fitted, on_progress, notes)


def conclude(
    job: TrainingJob, held_out: HeldOut, fitted: FittedModel, on_progress: OnProgress, notes: Notes | None = None
) -> tuple[Candidate, dict[str, bytes]]:
    """Calibrate, export and judge a fitted model, wherever it was fitted; returns as `train_candidate`.

    `notes` are what its fitting has to say beside.
    """
    on_progress("evaluating", EVALUATING, "calibrating, exporting and judging on the test block")
    facts = held_out.facts
    files = {SERVING_FILE: fitted.onnx(), fitted.native_file: fitted.native()}
    files[CALIBRATION_FILE] = _calibrate(held_out.calibration, fitted, horizon_us(job)).to_json()
    reference = _reference(held_out)
    served = _load({**files, MANIFEST_FILE: _manifest(job, facts, fitted, None, {})})
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
    notes = notes or Notes()
    candidate = _candidate(job, facts, fitted, evaluation, Notes(notes.config, {**explained, **notes.report}))
    files[MANIFEST_FILE] = _manifest(job, facts, fitted, _metric(candidate, "accuracy_at_threshold"), reference)
    files[TEST_PREDICTIONS_FILE] = predictions_bytes(evaluation)
    hashes = {name: sha256_of(data) for name, data in files.items()}
    return candidate.model_copy(update={"files": hashes}), files


def prepare(job: TrainingJob, rows: Rows, dropped: Mapping[str, int]) -> Prepared:
    """Rows to a split dataset. Raises Refused."""
    dataset, unusable = dataset_from_rows(rows, job.as_of_us)
    if job.training_type == "incremental":
        refuse_increment(job.strategy.model_type)
        dataset = dataset.take(dataset.decided_us > parent_end_us(job))
    summary = summary_of(dataset)
    report = summary.report({**dropped, **unusable}, horizon_us(job))
    return Prepared(dataset, plan_run(job, dataset, report, summary.uniqueness()))


def kept(plan: Plan) -> str:
    """How many rows the split keeps, as a note."""
    split = plan.split
    serving = sum(len(rows) for rows in split.blocks().values())
    dropped = split.purged + split.embargoed
    return f"kept {serving:,} of {serving + dropped:,} rows, dropped {dropped:,} at the borders of the blocks"


def _calibrate(rows: Dataset, fitted: FittedModel, horizon_us: int) -> Calibration:
    scores = fitted.scores(rows.inputs())
    calibration = fit_calibration(scores, rows.labels, rows.net_returns)
    return with_lower_bounds(calibration, scores, rows.labels, rows.net_returns, rows.decided_us, horizon_us)


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
        acting=Acting.of(job.strategy),
        exploration_rate=job.strategy.exploration_rate,
        horizon_us=horizon_us(job),
        threads=job.threads,
        action_rate=_action_rate(job),
    )
    return evaluate(judged, held_out.test, held_out.idle, held_out.incumbent)


def _action_rate(job: TrainingJob) -> float | None:
    """Of the strategy as it would run; None where nothing says how often it ticks, or on what."""
    if job.tick_seconds is None or not job.strategy.assets:
        return None
    return action_rate(job.strategy, job.tick_seconds)


def _candidate(
    job: TrainingJob, facts: RunFacts, fitted: FittedModel, evaluation: Evaluation, notes: Notes
) -> Candidate:
    metrics, left_out = scorecard(evaluation, job.candidates_tried)
    gate = judge(evaluation, job.strategy.accuracy_threshold)
    return Candidate(
        model_type=job.strategy.model_type,
        feature_set=FEATURE_SET,
        files={},
        dataset_size=facts.dataset_size,
        trained_until_us=facts.trained_until_us,
        training_config={**_training_config(job, facts, fitted), **notes.config},
        report={
            **facts.report,
            "metrics_left_out": left_out,
            "baselines": baselines(evaluation),
            "off_policy": off_policy_report(evaluation),
            **notes.report,
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


def _reference(held_out: HeldOut) -> dict[str, Any]:
    rows = held_out.training_features
    return {} if rows is None else to_manifest(FEATURE_NAMES, rows)


def _manifest(
    job: TrainingJob,
    facts: RunFacts,
    fitted: FittedModel,
    accuracy_at_threshold: float | None,
    reference: dict[str, Any],
) -> bytes:
    content = {
        "strategy_id": job.strategy.strategy_id,
        "horizon_seconds": job.strategy.horizon_seconds,
        "model_type": job.strategy.model_type,
        "training_type": job.training_type,
        "hyperparameters": fitted.details()["hyperparameters"],
        "dataset_fingerprint": facts.report["fingerprint"],
        "dataset_size": facts.dataset_size,
        "trained_until_us": facts.trained_until_us,
        "seed": job.seed,
        "threads": job.threads,
        "code_version": __version__,
        "accuracy_at_threshold": accuracy_at_threshold,
        MANIFEST_ENTRY: reference,
    }
    return manifest_bytes(content, libraries_of(job.strategy.model_type))


def _metric(candidate: Candidate, name: str) -> float | None:
    return next((metric.value for metric in candidate.metrics if metric.name == name), None)
