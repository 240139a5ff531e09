"""One training run from rows to a judged candidate, as a function of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_service import __version__
from model_service.learning.artifact_writer import (
    TEST_PREDICTIONS_FILE,
    library_versions,
    manifest_bytes,
    predictions_bytes,
)
from model_service.learning.calibrate import fit_calibration
from model_service.learning.dataset import (
    Dataset,
    Rows,
    dataset_from_rows,
    dataset_report,
    refuse_if_insufficient,
    training_weights,
)
from model_service.learning.estimators import (
    Block,
    FitRequest,
    FittedModel,
    fit_model,
    libraries_of,
    native_file,
    refuse_increment,
)
from model_service.learning.evaluation import Evaluation, evaluate
from model_service.learning.gate import judge
from model_service.learning.refusal import Refused
from model_service.learning.scorecard import scorecard
from model_service.learning.split import Split, refuse_one_class, refuse_small_blocks, split_in_time
from model_service.models.artifact import CALIBRATION_FILE, MANIFEST_FILE, SERVING_FILE, LoadedModel, sha256_of
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_SET, align_to_side
from model_service.models.job import Candidate, TrainingJob

Phase = Literal["preparing", "fitting", "evaluating"]
OnProgress = Callable[[Phase, float, str], None]
_FITTING_FROM, _EVALUATING_FROM = 0.15, 0.85


@dataclass(frozen=True)
class Prepared:
    """The rows of a run, split; a report goes with them."""

    dataset: Dataset
    split: Split
    weights: NDArray[np.float32]
    report: Mapping[str, Any]

    def block(self, name: str) -> Block:
        """The rows of a block as a model reads them."""
        rows = self.split.blocks()[name]
        part = self.dataset.take(rows)
        return Block(part.inputs(), part.labels, self.weights[rows])


def train_candidate(
    job: TrainingJob,
    rows: Rows,
    dropped: Mapping[str, int],
    parent_files: Mapping[str, bytes],
    on_progress: OnProgress,
) -> tuple[Candidate, dict[str, bytes]]:
    """Make a candidate and judge it.

    Args:
        job: strategy, seed, threads and kind of training.
        rows: structured array with the columns of `samples`.
        dropped: rows that the reader left out, by reason.
        parent_files: content of the parent's artifact by name, for an increment.
        on_progress: phase, fraction of the run, note.

    Returns:
        The candidate and the content of its files by name.

    Raises:
        Refused: the rows, or the parent, do not allow a model.
    """
    prepared = prepare(job, rows, dropped)
    fitted = fit_model(_fit_request(job, prepared, parent_files, on_progress))
    on_progress("evaluating", _EVALUATING_FROM, "calibrating, exporting and judging on the test block")
    files = {SERVING_FILE: fitted.onnx(), fitted.native_file: fitted.native()}
    files[CALIBRATION_FILE] = _calibrate(prepared, fitted).to_json()
    served = _load({**files, MANIFEST_FILE: _manifest(job, prepared, None)})
    evaluation = _evaluate(job, prepared, fitted, served)
    candidate = _candidate(job, prepared, fitted, evaluation)
    files[MANIFEST_FILE] = _manifest(job, prepared, _metric(candidate, "accuracy_at_threshold"))
    files[TEST_PREDICTIONS_FILE] = predictions_bytes(evaluation)
    hashes = {name: sha256_of(data) for name, data in files.items()}
    return candidate.model_copy(update={"files": hashes}), files


def prepare(job: TrainingJob, rows: Rows, dropped: Mapping[str, int]) -> Prepared:
    """Rows to a split dataset. Raises Refused."""
    horizon_us = job.strategy.horizon_seconds * 1_000_000
    dataset, unusable = dataset_from_rows(rows)
    minimum = job.strategy.minimum_dataset_size
    if job.training_type == "incremental":
        refuse_increment(job.strategy.model_type)
        dataset, minimum = _newer_than_parent(job, dataset), 1
    report = dataset_report(dataset, {**dropped, **unusable}, horizon_us)
    refuse_if_insufficient(dataset, minimum, horizon_us, report)
    split = split_in_time(dataset.decided_us, dataset.exit_us, horizon_us)
    report = {**report, **split.report()}
    refuse_small_blocks(split, report)
    refuse_one_class(dataset.labels, split, report)
    return Prepared(dataset, split, training_weights(dataset), report)


def _newer_than_parent(job: TrainingJob, dataset: Dataset) -> Dataset:
    """Rows decided after all that the parent has seen, so that its test of the increment is a test."""
    if job.parent_trained_until_us is None or job.parent_directory is None:
        raise Refused("increment_unsupported", "an increment needs a parent version; request a full training.")
    newer = dataset.take(dataset.decided_us > job.parent_trained_until_us)
    if not len(newer):
        raise Refused("no_new_data", f"no outcome is newer than what {job.parent_version} was trained on.")
    return newer


def _fit_request(
    job: TrainingJob, prepared: Prepared, parent_files: Mapping[str, bytes], on_progress: OnProgress
) -> FitRequest:
    def on_round(done: int, most: int) -> None:
        share = done / most
        fraction = _FITTING_FROM + share * (_EVALUATING_FROM - _FITTING_FROM)
        on_progress("fitting", fraction, f"round {done} of at most {most}")

    model_type = job.strategy.model_type
    on_progress("fitting", _FITTING_FROM, f"{model_type} on {len(prepared.split.train)} rows")
    return FitRequest(
        model_type=model_type,
        train=prepared.block("train"),
        early_stopping=prepared.block("early_stopping"),
        seed=job.seed,
        threads=job.threads,
        on_round=on_round,
        parent=_parent_model(job, parent_files),
    )


def _parent_model(job: TrainingJob, parent_files: Mapping[str, bytes]) -> bytes | None:
    if job.training_type != "incremental":
        return None
    name = native_file(job.strategy.model_type)
    if name not in parent_files:
        raise Refused("parent_incompatible", f"{job.parent_version} has no {name}; request a full training.")
    return parent_files[name]


def _calibrate(prepared: Prepared, fitted: FittedModel) -> Calibration:
    part = prepared.dataset.take(prepared.split.calibration)
    return fit_calibration(fitted.scores(part.inputs()), part.labels, part.net_returns)


def _load(files: Mapping[str, bytes]) -> LoadedModel:
    return LoadedModel.from_files(files, {name: sha256_of(data) for name, data in files.items()})


def _evaluate(job: TrainingJob, prepared: Prepared, fitted: FittedModel, served: LoadedModel) -> Evaluation:
    def native(features: NDArray[np.float32], side_signs: NDArray[np.int8]) -> NDArray[np.float64]:
        return fitted.scores(align_to_side(features, side_signs))

    return evaluate(
        test=prepared.dataset.take(prepared.split.test),
        served=served.scores,
        native=native,
        calibration=served.calibration,
        majority_class=int(2 * np.sum(prepared.dataset.labels[prepared.split.train]) > len(prepared.split.train)),
        action_threshold=job.strategy.action_threshold,
    )


def _candidate(job: TrainingJob, prepared: Prepared, fitted: FittedModel, evaluation: Evaluation) -> Candidate:
    metrics, left_out = scorecard(evaluation, job.candidates_tried)
    gate = judge(evaluation, job.strategy.accuracy_threshold)
    return Candidate(
        model_type=job.strategy.model_type,
        feature_set=FEATURE_SET,
        files={},
        dataset_size=len(prepared.dataset),
        trained_until_us=_trained_until(prepared),
        training_config=_training_config(job, prepared, fitted),
        report={**prepared.report, "metrics_left_out": left_out},
        metrics=metrics,
        gate=gate,
        gate_passed=all(condition.passed for condition in gate),
    )


def _trained_until(prepared: Prepared) -> int:
    """The last label end among the rows that shaped the model: training, early stopping and calibration."""
    split = prepared.split
    return int(np.max(prepared.dataset.exit_us[np.concatenate((split.train, split.early_stopping, split.calibration))]))


def _training_config(job: TrainingJob, prepared: Prepared, fitted: FittedModel) -> dict[str, Any]:
    return {
        **fitted.details(),
        "training_type": job.training_type,
        "parent_version": job.parent_version if job.training_type == "incremental" else None,
        "seed": job.seed,
        "threads": job.threads,
        "as_of_us": job.as_of_us,
        "candidates_tried": job.candidates_tried,
        "code_version": __version__,
        "libraries": library_versions(libraries_of(job.strategy.model_type)),
        "dataset_fingerprint": prepared.report["fingerprint"],
        "strategy": job.strategy.model_dump(mode="json"),
    }


def _manifest(job: TrainingJob, prepared: Prepared, accuracy_at_threshold: float | None) -> bytes:
    facts = {
        "strategy_id": job.strategy.strategy_id,
        "horizon_seconds": job.strategy.horizon_seconds,
        "model_type": job.strategy.model_type,
        "training_type": job.training_type,
        "dataset_fingerprint": prepared.report["fingerprint"],
        "dataset_size": len(prepared.dataset),
        "trained_until_us": _trained_until(prepared),
        "seed": job.seed,
        "threads": job.threads,
        "code_version": __version__,
        "accuracy_at_threshold": accuracy_at_threshold,
    }
    return manifest_bytes(facts, libraries_of(job.strategy.model_type))


def _metric(candidate: Candidate, name: str) -> float | None:
    return next((metric.value for metric in candidate.metrics if metric.name == name), None)
