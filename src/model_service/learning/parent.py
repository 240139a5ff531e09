"""The version that an increment continues, checked before any of it is parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_service.config.hyperparameters import HYPERPARAMETERS, Value, hyperparameter_fault
from model_service.learning.estimators import native_file
from model_service.learning.refusal import Refused
from model_service.models.artifact import MANIFEST_FILE, sha256_of
from model_service.models.features import FEATURE_SET
from model_service.models.job import TrainingJob
from model_service.models.manifest import read_inputs


@dataclass(frozen=True)
class Parent:
    """What is taken over from a version.

    Attributes:
        model: content of its native file.
        hyperparameters: those that it was fitted with, which a search may have found.
    """

    model: bytes
    hyperparameters: Mapping[str, Value]


def parent_of(job: TrainingJob, files: Mapping[str, bytes]) -> Parent | None:
    """The version to continue from, whose files are `files`; None for a full training.

    Raises Refused with `parent_incompatible` when a file is missing or cannot be used, `parent_damaged` when it is
    another file than the one that was judged.
    """
    if job.training_type != "incremental":
        return None
    model_type = job.strategy.model_type
    manifest = _manifest(job, _checked(job, files, MANIFEST_FILE))
    return Parent(_checked(job, files, native_file(model_type)), _hyperparameters(model_type, manifest))


def _checked(job: TrainingJob, files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise _incompatible(f"{job.parent_version} has no {name}")
    if name in job.parent_files and sha256_of(files[name]) != job.parent_files[name]:
        hint = f"{name} of {job.parent_version} is not the file that was judged (sha256); request a full training."
        raise Refused("parent_damaged", hint)
    return files[name]


def _manifest(job: TrainingJob, content: bytes) -> Mapping[str, Any]:
    """An increment goes on with the parent's own columns, so they must be today's, in today's order."""
    try:
        manifest = json.loads(content)
        inputs = read_inputs(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise _incompatible(f"the manifest of {job.parent_version} cannot be used ({error})") from error
    if inputs.feature_set != FEATURE_SET:
        raise _incompatible(f"{job.parent_version} reads {inputs.feature_set}, rows are {FEATURE_SET} now")
    if manifest.get("model_type") != job.strategy.model_type:
        kind = manifest.get("model_type")
        raise _incompatible(f"{job.parent_version} is a {kind}, the strategy asks for {job.strategy.model_type}")
    return dict(manifest)


def _incompatible(what: str) -> Refused:
    return Refused("parent_incompatible", f"{what}; request a full training.")


def _hyperparameters(model_type: str, manifest: Mapping[str, Any]) -> Mapping[str, Value]:
    """Those that still exist and are allowed; a version made before they were recorded has none."""
    recorded = manifest.get("hyperparameters")
    known = recorded if isinstance(recorded, Mapping) else {}
    chosen = {name: value for name, value in known.items() if name in HYPERPARAMETERS[model_type]}
    return {} if hyperparameter_fault(model_type, chosen) else chosen
