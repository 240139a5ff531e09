"""The artifact: hashes first, then shape, then the same numbers as its parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost
from onnx import helper

from model_service.learning.onnx_trees import booster_to_onnx
from model_service.models.artifact import ArtifactDamaged, ArtifactIncompatible, LoadedModel, sha256_of
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, MODEL_INPUT_NAMES
from model_service.models.inputs import ModelInputs
from model_service.models.manifest import describe_inputs

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


def test_one_decision_is_two_rows_of_a_prediction() -> None:
    model = load(artifact())
    features = np.full(len(FEATURE_NAMES), np.nan, dtype=np.float32)
    features[:3] = 0.25, -3.0, 1e-9
    both, rows = model.predict_sides(features), model.predict(np.stack([features, features]), np.array([1, -1]))
    assert both.probability == pytest.approx(tuple(rows.probability), abs=1e-15)
    assert both.expected_net_return == pytest.approx(tuple(rows.expected_net_return), abs=1e-15)
    assert both.probability[0] > both.probability[1]


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


SHORTER = ("spread_percent", "book_imbalance", "return_5m")
"""What a version of an earlier program read: fewer features, in another order."""


def booster_of(inputs: ModelInputs) -> tuple[xgboost.Booster, dict[str, bytes]]:
    """A booster trained on rows made by `inputs`, and its artifact."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((500, len(FEATURE_NAMES))).astype(np.float32)
    rows = inputs.rows(vectors, rng.choice([-1, 1], 500))
    labels = rows[:, 1] + 0.3 * rows[:, 2] * rows[:, 0] + 0.2 * rng.standard_normal(500) > 0
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_depth": 3}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, label=labels), num_boost_round=20)
    graph = booster_to_onnx(bytes(booster.save_raw("json")), len(inputs.names))
    manifest = {**describe_inputs(inputs), "model_type": "xgboost"}
    return booster, artifact(serving_onnx=graph, manifest_json=json.dumps(manifest).encode())


@pytest.mark.parametrize("is_format_1", [False, True])
def test_a_model_of_a_shorter_reordered_list_decides_on_its_own_columns(is_format_1: bool) -> None:
    inputs = ModelInputs(SHORTER, {"book_imbalance", "return_5m"}, FEATURE_NAMES)
    booster, files = booster_of(inputs)
    if is_format_1:
        manifest = json.loads(files["manifest.json"])
        del manifest["directional"]
        files["manifest.json"] = json.dumps({**manifest, "format": 1}).encode()
    model = load(files)
    today = np.random.default_rng(6).standard_normal((40, len(FEATURE_NAMES))).astype(np.float32)
    today[::7] = np.nan
    signs = np.tile([1, -1], 20)
    spread, imbalance, move = (today[:, FEATURE_NAMES.index(name)] for name in SHORTER)
    columns = np.column_stack([spread, imbalance * signs, move * signs, signs]).astype(np.float32)
    expected = booster.inplace_predict(columns)
    assert np.ptp(expected) > 0.5, "a model that says something"
    np.testing.assert_allclose(model.scores(today, signs), expected, atol=1e-5)
    assert (model.feature_set, model.inputs.features) == (inputs.feature_set, SHORTER)


def test_a_feature_that_nobody_computes_any_more_is_named() -> None:
    manifest = {"feature_set": "f1-00000000", "model_inputs": ["moon_phase", "return_1m", "side"], "model_type": "x"}
    with pytest.raises(ArtifactIncompatible, match=r"manifest\.json: this program does not compute moon_phase"):
        load(artifact(manifest_json=json.dumps(manifest).encode()))


def test_a_graph_that_does_not_fit_its_own_manifest_is_damaged() -> None:
    inputs = ModelInputs(SHORTER, {"book_imbalance"}, FEATURE_NAMES)
    manifest = {**describe_inputs(inputs), "model_type": "xgboost"}
    with pytest.raises(ArtifactDamaged, match="takes 41 inputs, not 4"):
        load(artifact(manifest_json=json.dumps(manifest).encode()))


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
