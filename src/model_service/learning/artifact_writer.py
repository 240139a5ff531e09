"""The files of a version: what is in them, and how they reach the disk."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model_service.learning.evaluation import Evaluation
from model_service.models.artifact import sha256_of
from model_service.models.features import TODAY
from model_service.models.manifest import describe_inputs

TEST_PREDICTIONS_FILE = "test_predictions.npz"


def manifest_bytes(facts: Mapping[str, Any], libraries: Sequence[str]) -> bytes:
    """`manifest.json`: the inputs in order and `facts`; no time of day, so that the same run gives the same bytes."""
    content = {
        **describe_inputs(TODAY),
        "libraries": library_versions(libraries),
        **facts,
    }
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions by package; the package that brings xgboost is named by its module."""
    return {name: _module_version(name) for name in names}


def predictions_bytes(evaluation: Evaluation) -> bytes:
    """`test_predictions.npz`: who, when, probability, label and taken of the test block, for later comparisons."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        signal_ids=evaluation.test.signal_ids,
        decided_us=evaluation.test.decided_us,
        probability=evaluation.probability,
        label=evaluation.labels,
        taken=evaluation.taken,
    )
    return buffer.getvalue()


def write_artifact(directory: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write `files` into the folder and onto the disk; returns their sha256 in hex by name.

    Raises OSError; what was written until then is removed.
    """
    written: list[Path] = []
    try:
        for name, data in files.items():
            written.append(directory / name)
            _write_through(directory / name, data)
        _sync_directory(directory)
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return {name: sha256_of(data) for name, data in files.items()}


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _module_version(name: str) -> str:
    if name == "xgboost":
        import xgboost

        return str(xgboost.__version__)
    return version(name)
