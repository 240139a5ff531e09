"""The artifact: hashes first, then shape, then the same numbers as its parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import helper

from model_service.learning.onnx_trees import booster_to_onnx
from model_service.models.artifact import ArtifactDamaged, ArtifactIncompatible, LoadedModel, sha256_of
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, MODEL_INPUT_NAMES

SIDE = len(MODEL_INPUT_NAMES) - 1


def stump(inputs: int = len(MODEL_INPUT_NAMES)) -> bytes:
    """A graph of one tree: log-odds -1 for sells, +2 for buys, on a bias of one half."""
    tree = {
        "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [min(SIDE, inputs - 1), 0, 0],
        "split_conditions": [0.0, -1.0, 2.0], "default_left": [0, 0, 0],
    }  # fmt: skip
    booster = {"gradient_booster": {"model": {"trees": [tree]}}, "learner_model_param": {"base_score": "[5E-1]"}}
    return booster_to_onnx(json.dumps({"learner": booster}).encode(), inputs)


def artifact(**changes: bytes) -> dict[str, bytes]:
    manifest = {"feature_set": FEATURE_SET, "model_inputs": MODEL_INPUT_NAMES, "model_type": "xgboost"}
    calibration = Calibration("sigmoid", 0.5, 0.02, -0.01, 100, slope=2.0, intercept=0.5)
    files = {
        "serving.onnx": stump(),
        "calibration.json": calibration.to_json(),
        "manifest.json": json.dumps({**manifest, "accuracy_at_threshold": 0.8}).encode(),
    }
    return {**files, **{name.replace("_", "."): data for name, data in changes.items()}}


def load(files: dict[str, bytes]) -> LoadedModel:
    return LoadedModel.from_files(files, {name: sha256_of(data) for name, data in files.items()})


def test_it_predicts_what_tree_and_calibration_say() -> None:
    model = load(artifact())
    features = np.full((2, len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    features[0, 0] = np.inf
    prediction = model.predict(features, np.array([1, -1]))
    expected = 1 / (1 + np.exp(-(2 * np.array([2.0, -1.0]) + 0.5)))
    assert prediction.probability == pytest.approx(expected, abs=1e-6)
    assert prediction.expected_net_return == pytest.approx(expected * 0.02 - (1 - expected) * 0.01, abs=1e-7)
    assert prediction.probability.dtype == np.float64
    assert (model.feature_set, model.model_type, model.accuracy_at_threshold) == (FEATURE_SET, "xgboost", 0.8)


@pytest.mark.parametrize("name", ["serving.onnx", "calibration.json", "manifest.json"])
def test_a_flipped_byte_is_found_by_the_hash(name: str) -> None:
    files = artifact()
    hashes = {key: sha256_of(data) for key, data in files.items()}
    damaged = bytearray(files[name])
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(ArtifactDamaged, match=f"{name}: sha256 is"):
        LoadedModel.from_files({**files, name: bytes(damaged)}, hashes)


@pytest.mark.parametrize("missing", ["serving.onnx", "calibration.json", "manifest.json"])
def test_a_missing_file_or_hash_is_named(missing: str) -> None:
    files = artifact()
    hashes = {key: sha256_of(data) for key, data in files.items()}
    without = {name: data for name, data in files.items() if name != missing}
    with pytest.raises(ArtifactDamaged, match=f"{missing}: the file is missing"):
        LoadedModel.from_files(without, hashes)
    del hashes[missing]
    with pytest.raises(ArtifactDamaged, match=f"{missing}: the hash is missing"):
        LoadedModel.from_files(files, hashes)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (artifact(serving_onnx=b"not a graph"), "serving.onnx: "),
        (artifact(serving_onnx=stump(inputs=3)), "takes 3 inputs"),
        (artifact(calibration_json=b"{}"), "calibration.json: not a calibration"),
        (artifact(manifest_json=b"{"), "manifest.json: "),
    ],
)
def test_whole_but_wrong_content_is_refused(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(ArtifactDamaged, match=reason):
        load(files)


def test_another_feature_set_is_incompatible() -> None:
    manifest = {"feature_set": "f1-00000000", "model_inputs": MODEL_INPUT_NAMES, "model_type": "xgboost"}
    with pytest.raises(ArtifactIncompatible, match="f1-00000000"):
        load(artifact(manifest_json=json.dumps(manifest).encode()))


def test_damage_is_silent_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Identity", ["features"], ["probabilities"])
    graph = helper.make_graph([node], "g", [], [])
    with pytest.raises(ArtifactDamaged):
        load(artifact(serving_onnx=helper.make_model(graph).SerializeToString()))
    assert capfd.readouterr().err == ""
