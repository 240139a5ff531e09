"""A model as it decides: checked bytes in, probabilities out, through onnxruntime with one thread."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from model_service.models.calibration import Calibration
from model_service.models.inputs import ModelInputs, UnknownFeatures
from model_service.models.manifest import read_inputs

SERVING_FILE = "serving.onnx"
CALIBRATION_FILE = "calibration.json"
MANIFEST_FILE = "manifest.json"
REQUIRED_FILES = (SERVING_FILE, CALIBRATION_FILE, MANIFEST_FILE)
INPUT_NAME = "features"
OUTPUT_NAME = "probabilities"

_UNREADABLE = (
    ValueError, RuntimeError, onnx_errors.Fail, onnx_errors.InvalidArgument, onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf, onnx_errors.NotImplemented, onnx_errors.RuntimeException,
)  # fmt: skip
_ONLY_FATAL = 4


class ArtifactDamaged(Exception):  # noqa: N818 - it names the state of the files
    """The files are not what was judged: one is missing, its hash differs, or it cannot be read.

    Attributes:
        reason: why a version lost the word, as activations record it.
    """

    reason = "artifact_damaged"


class ArtifactIncompatible(ArtifactDamaged):
    """The files are whole but read features that this program does not compute; train a new version."""

    reason = "artifact_incompatible"


class ArtifactUnreachable(ArtifactDamaged):
    """Nothing can be said of the files: the whole folder of the versions is away, such as a volume not mounted."""

    reason = "artifact_unreachable"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of n possible trades.

    Attributes:
        probability: calibrated probability of a profit, float64 (n,).
        expected_net_return: mean net return of acting, a fraction of the notional, float64 (n,).
    """

    probability: NDArray[np.float64]
    expected_net_return: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SidePrediction:
    """What the model says of one decision, (of buying, of selling); else as `Prediction`."""

    probability: tuple[float, float]
    expected_net_return: tuple[float, float]


class LoadedModel:
    """A version in memory, ready to decide. Make it with `from_files`."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        calibration: Calibration,
        manifest: Mapping[str, Any],
        inputs: ModelInputs,
    ) -> None:
        self._session = session
        self.calibration = calibration
        self.manifest = manifest
        self.inputs = inputs

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], sha256: Mapping[str, str]) -> LoadedModel:
        """The model in `files` (content by name), after their hashes (hex by name) have been checked.

        Raises:
            ArtifactDamaged: a required file or hash is missing, a hash differs, or a file cannot be read.
            ArtifactIncompatible: it reads a feature that this program does not compute.
        """
        _check_hashes(files, sha256)
        manifest, inputs = _manifest(files[MANIFEST_FILE])
        calibration = _calibration(files[CALIBRATION_FILE])
        session = _session(files[SERVING_FILE])
        _check_shape(session, len(inputs.names))
        return cls(session, calibration, manifest, inputs)

    @property
    def feature_set(self) -> str:
        """Name of the features that it was trained on; `inputs` has them."""
        return str(self.manifest["feature_set"])

    @property
    def model_type(self) -> str:
        """The family, such as `xgboost`."""
        return str(self.manifest["model_type"])

    @property
    def accuracy_at_threshold(self) -> float | None:
        """Share of winners among the test trades that it would have taken; None when it would have taken none."""
        value = self.manifest.get("accuracy_at_threshold")
        return None if value is None else float(value)

    @property
    def break_even(self) -> float:
        """The probability at which acting earns nothing."""
        return self.calibration.break_even

    def scores(self, features: NDArray[np.float32], side_signs: NDArray[Any]) -> NDArray[np.float64]:
        """The graph's own probability before calibration, float64 (n,). Arguments as in `predict`."""
        known = np.where(np.isfinite(features), features, np.float32(math.nan)).astype(np.float32, copy=False)
        inputs = self.inputs.rows(known, side_signs)
        (probabilities,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: inputs})
        return np.asarray(probabilities, dtype=np.float64)[:, 1]

    def predict_sides(self, features: NDArray[np.float32]) -> SidePrediction:
        """Both sides of one decision, in one call of the graph: what `predict` says, for a fraction of its cost.

        Args:
            features: one vector in today's order, not aligned, float32 (F,); NaN is unknown, and nothing is infinite.
        """
        (probabilities,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: self.inputs.both_sides(features)})
        buy, sell = probabilities[:, 1].tolist()
        up, down = self.calibration.probability_of(buy), self.calibration.probability_of(sell)
        expected = self.calibration.expected_net_return_of
        return SidePrediction((up, down), (expected(up), expected(down)))

    def predict(self, features: NDArray[np.float32], side_signs: NDArray[Any]) -> Prediction:
        """Probability and expected net return of trading n times on a side.

        Args:
            features: vectors in today's order, not aligned, float32 (n, F); what is not finite counts as unknown.
            side_signs: +1 for a buy, -1 for a sell, (n,).
        """
        probability = self.calibration.probability(self.scores(features, side_signs))
        return Prediction(probability, self.calibration.expected_net_return(probability))


def sha256_of(data: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def _check_hashes(files: Mapping[str, bytes], sha256: Mapping[str, str]) -> None:
    for name in REQUIRED_FILES:
        if name not in files or name not in sha256:
            raise ArtifactDamaged(f"{name}: the {'file' if name not in files else 'hash'} is missing")
    for name, data in files.items():
        if name in sha256 and sha256_of(data) != sha256[name]:
            raise ArtifactDamaged(f"{name}: sha256 is {sha256_of(data)}, the record says {sha256[name]}")


def _manifest(data: bytes) -> tuple[Mapping[str, Any], ModelInputs]:
    try:
        manifest = json.loads(data)
        return dict(manifest), read_inputs(manifest)
    except UnknownFeatures as error:
        raise ArtifactIncompatible(f"{MANIFEST_FILE}: {error}; train a new version") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactDamaged(f"{MANIFEST_FILE}: {type(error).__name__}: {error}") from error


def _calibration(data: bytes) -> Calibration:
    try:
        return Calibration.from_json(data)
    except ValueError as error:
        raise ArtifactDamaged(f"{CALIBRATION_FILE}: {error}") from error


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    onnxruntime.set_default_logger_severity(_ONLY_FATAL)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _UNREADABLE as error:
        raise ArtifactDamaged(f"{SERVING_FILE}: {type(error).__name__}") from error


def _check_shape(session: onnxruntime.InferenceSession, width: int) -> None:
    inputs = {node.name: node.shape for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if set(inputs) != {INPUT_NAME} or OUTPUT_NAME not in outputs:
        raise ArtifactDamaged(f"{SERVING_FILE}: inputs {sorted(inputs)}, outputs {sorted(outputs)}")
    if inputs[INPUT_NAME][-1] != width:
        raise ArtifactDamaged(f"{SERVING_FILE}: takes {inputs[INPUT_NAME][-1]} inputs, not {width}")
