"""The run as a whole: the same contract for every family, then what the numbers must show."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from model_service.learning.refusal import Refused
from model_service.learning.run import train_candidate
from model_service.models.artifact import LoadedModel
from model_service.models.features import DIRECTIONAL_NAMES, FEATURE_NAMES
from model_service.models.inputs import ModelInputs
from model_service.models.job import Candidate
from model_service.models.manifest import describe_inputs
from tests.support.training_rows import START_US, imbalance_rows, training_job, training_strategy

FAMILIES = ["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
Result = tuple[Candidate, dict[str, bytes]]


def run(model_type: str, rows: Any, parent: dict[str, bytes] | None = None, **job: Any) -> Result:
    strategy = training_strategy(model_type=model_type)
    return train_candidate(training_job(strategy=strategy, **job), rows, {}, parent or {}, lambda *_: None)


@cache
def planted(model_type: str, seed: int = 3) -> Result:
    return run(model_type, imbalance_rows(2000, seed, assets=3))


def metric(candidate: Candidate, name: str) -> float:
    return next(metric.value for metric in candidate.metrics if metric.name == name)


def failed(candidate: Candidate) -> list[str]:
    return [condition.condition for condition in candidate.gate if not condition.passed]


def test_the_value_per_decision_is_that_of_the_rate_of_the_strategy_as_it_is_now() -> None:
    made = [
        run("logistic_regression", imbalance_rows(2000, 3, assets=3), tick_seconds=seconds)[0] for seconds in (1.0, 2.0)
    ]
    slow, fast = (one.report["off_policy"]["value_per_decision_doubly_robust"]["value"] for one in made)
    assert fast == pytest.approx(2 * slow, rel=1e-6)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_planted_edge_passes_the_gate(model_type: str) -> None:
    candidate, _ = planted(model_type)
    assert failed(candidate) == []
    assert candidate.gate_passed
    assert 0.75 <= metric(candidate, "accuracy") <= 0.95
    assert {condition.number for condition in candidate.gate} == {1, 2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_report_explains_the_candidate(model_type: str) -> None:
    report = planted(model_type)[0].report
    assert report["importance"]["features"][0]["feature"] == "book_imbalance"
    assert sum(part["rows"] for part in report["calibration"]["bins"]) == report["rows_test"]
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_shuffled_labels_fall_to_the_base_rate(model_type: str) -> None:
    rows = imbalance_rows(2000, 3, assets=3)
    order = np.random.default_rng(1).permutation(2000)
    rows["label"], rows["net_return"] = rows["label"][order], rows["net_return"][order]
    candidate, _ = run(model_type, rows)
    assert not candidate.gate_passed
    assert metric(candidate, "accuracy") == pytest.approx(metric(candidate, "base_rate"), abs=0.08)
    assert metric(candidate, "roc_auc") == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_same_run_gives_the_same_bytes(model_type: str) -> None:
    candidate, files = run(model_type, imbalance_rows(2000, 3, assets=3), run_id="another")
    assert {name: data == planted(model_type)[1][name] for name, data in files.items()} == dict.fromkeys(files, True)
    assert candidate.files == planted(model_type)[0].files


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_served_model_is_the_judged_one(model_type: str) -> None:
    candidate, files = planted(model_type)
    model = LoadedModel.from_files(files, candidate.files)
    predictions = np.load(BytesIO(files["test_predictions.npz"]))
    rows = imbalance_rows(2000, 3, assets=3)
    test = np.isin(rows["decided_us"], predictions["decided_us"])
    served = model.predict(rows["features"][test], rows["side"][test]).probability
    assert served == pytest.approx(predictions["probability"], abs=1e-12)
    assert model.accuracy_at_threshold == metric(candidate, "accuracy_at_threshold")
    parity = next(condition for condition in candidate.gate if condition.condition == "artifact parity")
    assert parity.value is not None
    assert parity.value < 1e-6


@pytest.mark.parametrize("model_type", FAMILIES)
def test_unknown_and_huge_inputs_give_probabilities(model_type: str) -> None:
    candidate, files = planted(model_type)
    model = LoadedModel.from_files(files, candidate.files)
    features = np.full((3, imbalance_rows(1, 0)["features"].shape[1]), np.nan, dtype=np.float32)
    features[1], features[2] = 1e30, np.inf
    probability = model.predict(features, np.array([1, -1, 1])).probability
    assert np.all((probability >= 0) & (probability <= 1))


def test_the_manifest_tells_how_it_was_made() -> None:
    candidate, files = planted("xgboost")
    manifest = json.loads(files["manifest.json"])
    assert manifest["dataset_fingerprint"] == candidate.report["fingerprint"]
    assert manifest["seed"] == 7
    assert set(manifest["libraries"]) == {"numpy", "onnx", "onnxruntime", "xgboost"}
    assert set(files) == {
        "model.json", "serving.onnx", "calibration.json", "manifest.json", "test_predictions.npz",
    }  # fmt: skip


def test_nothing_that_shaped_the_model_ends_after_trained_until() -> None:
    rows = imbalance_rows(2000, 3, assets=3)
    candidate, files = planted("xgboost")
    tested = np.load(BytesIO(files["test_predictions.npz"]))["decided_us"]
    assert candidate.trained_until_us < tested.min()
    assert candidate.trained_until_us in rows["exit_us"]


def test_a_feature_that_is_constant_or_unknown_everywhere_does_no_harm() -> None:
    for model_type in FAMILIES:
        rows = imbalance_rows(1500, 4, assets=3)
        rows["features"][:, 0], rows["features"][:, 1] = np.nan, 3.0
        candidate, _ = run(model_type, rows)
        assert metric(candidate, "roc_auc") > 0.7


@pytest.mark.parametrize("model_type", ["xgboost", "sgd_classifier"])
def test_an_increment_learns_from_newer_rows_only(model_type: str) -> None:
    rows = imbalance_rows(3500, 3, assets=3)
    parent, files = run(model_type, rows[:2000])
    job = {
        "training_type": "incremental", "parent_directory": "/parent", "parent_version": "v1",
        "parent_trained_until_us": parent.trained_until_us,
    }  # fmt: skip
    child, child_files = run(model_type, rows, files, **job)
    assert child.dataset_size == int(np.sum(rows["decided_us"] > parent.trained_until_us))
    assert child.trained_until_us > parent.trained_until_us
    assert metric(child, "roc_auc") > 0.75
    assert child_files["serving.onnx"] != files["serving.onnx"]
    if model_type == "xgboost":
        config = child.training_config
        assert config["parent_rounds"] < config["rounds"] <= config["parent_rounds"] + 150


@pytest.mark.parametrize(
    ("model_type", "until", "files", "code"),
    [
        ("random_forest", START_US, {}, "increment_unsupported"),
        ("logistic_regression", START_US, {}, "increment_unsupported"),
        ("xgboost", START_US + 10**15, {}, "no_new_data"),
        ("xgboost", None, {}, "increment_unsupported"),
        ("xgboost", START_US, {}, "parent_incompatible"),
        ("xgboost", START_US, {"model.json": b"{}"}, "parent_incompatible"),
        ("sgd_classifier", START_US, {"model.skops": b"PK"}, "parent_incompatible"),
    ],
)
def test_an_increment_that_cannot_be_is_refused(
    model_type: str, until: int | None, files: dict[str, bytes], code: str
) -> None:
    job = {"training_type": "incremental", "parent_directory": "/parent", "parent_version": "v1"}
    with pytest.raises(Refused) as refused:
        run(model_type, imbalance_rows(2000, 3), files, parent_trained_until_us=until, **job)
    assert refused.value.code == code


@pytest.mark.parametrize("name", ["model.json", "manifest.json"])
def test_a_parent_that_is_not_what_was_judged_is_refused_before_it_is_parsed(name: str) -> None:
    rows = imbalance_rows(3500, 3, assets=3)
    parent, files = planted("xgboost")
    damaged = {**files, name: files[name].replace(b"0", b"1", 1)}
    job = {
        "training_type": "incremental", "parent_directory": "/parent", "parent_version": "v1",
        "parent_trained_until_us": parent.trained_until_us, "parent_files": parent.files,
    }  # fmt: skip
    with pytest.raises(Refused) as refused:
        run("xgboost", rows, damaged, **job)
    assert refused.value.code == "parent_damaged"
    assert name in refused.value.hint


def test_a_parent_of_another_model_type_is_refused() -> None:
    parent, files = planted("sgd_classifier")
    job = {
        "training_type": "incremental", "parent_directory": "/parent", "parent_version": "v1",
        "parent_trained_until_us": parent.trained_until_us, "parent_files": parent.files,
    }  # fmt: skip
    with pytest.raises(Refused, match="v1 is a sgd_classifier, the strategy asks for xgboost") as refused:
        run("xgboost", imbalance_rows(3500, 3, assets=3), files, **job)
    assert refused.value.code == "parent_incompatible"


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("value", [np.nan, 4.0])
def test_a_model_that_can_learn_nothing_is_judged_and_not_promoted(model_type: str, value: float) -> None:
    rows = imbalance_rows(2000, 3, assets=3)
    rows["features"], rows["side"] = value, 1
    candidate, files = run(model_type, rows)
    assert json.loads(files["calibration.json"])["method"] == "constant"
    assert not candidate.gate_passed
    assert metric(candidate, "roc_auc") == pytest.approx(0.5)


@pytest.mark.parametrize("model_type", ["xgboost", "sgd_classifier"])
def test_an_increment_on_a_parent_of_other_features_is_refused(model_type: str) -> None:
    """As many features in another order would fit into the parent, and mean something else."""
    rows = imbalance_rows(3500, 3, assets=3)
    parent, files = run(model_type, rows[:2000])
    manifest = json.loads(files["manifest.json"])
    reordered = ModelInputs(FEATURE_NAMES[::-1], DIRECTIONAL_NAMES, FEATURE_NAMES)
    older = {**files, "manifest.json": json.dumps({**manifest, **describe_inputs(reordered)}).encode()}
    job = {
        "training_type": "incremental", "parent_directory": "/parent", "parent_version": "v1",
        "parent_trained_until_us": parent.trained_until_us,
    }  # fmt: skip
    with pytest.raises(Refused, match=f"parent_incompatible: v1 reads {reordered.feature_set}"):
        run(model_type, rows, older, **job)


def test_progress_rises_and_comes_every_ten_rounds() -> None:
    seen: list[tuple[str, float, str]] = []
    reports: list[Any] = []

    def on_progress(phase: str, fraction: float, note: str, report: Any = None, /) -> None:
        seen.append((phase, fraction, note))
        reports.append(report)

    train_candidate(training_job(), imbalance_rows(2000, 3, assets=3), {}, {}, on_progress)
    assert [report["rows"] for report in reports if report is not None] == [2000]
    fractions = [fraction for _, fraction, _ in seen]
    assert fractions == sorted(fractions)
    rounds = [int(note.split()[1]) for phase, _, note in seen if phase == "fitting" and note.startswith("round")]
    assert rounds == list(range(10, rounds[-1] + 1, 10))
    assert len(rounds) >= 3
