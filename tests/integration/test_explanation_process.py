"""A real explaining child on real artifacts: it agrees with what serves, checks before it parses, and never stays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from model_service.database.connection import Database
from model_service.database.decision_features import PostgresDecisionSource
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.explanation_process import ExplanationLauncher
from model_service.learning.run import train_candidate
from model_service.models.artifact import REQUIRED_FILES, LoadedModel, sha256_of
from model_service.models.features import FEATURE_NAMES, FEATURE_SET, FEATURES, encode_features
from model_service.models.job import Explanation, ExplanationJob, Failure
from model_service.services.errors import Refused
from model_service.services.explanations import Explanations
from tests.support.api_rows import add_signal, add_version
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

ROWS = imbalance_rows(2000, 3, assets=3)
PATIENT = ExplanationLauncher(longest_seconds=150)
"""For a machine whose cores are busy with other tests."""
FAMILIES = ["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]


@cache
def artifact(model_type: str) -> dict[str, bytes]:
    job = training_job(strategy=training_strategy(model_type=model_type))
    return train_candidate(job, ROWS, {}, {}, lambda *_: None)[1]


def job_on(folder: Path, model_type: str, features: np.ndarray, *, damaged: str | None = None) -> ExplanationJob:
    files = artifact(model_type)
    for name, content in files.items():
        (folder / name).write_bytes(content[:-1] + b"?" if name == damaged else content)
    return ExplanationJob(
        version="v1",
        directory=str(folder),
        files={name: sha256_of(content) for name, content in files.items()},
        feature_names=FEATURE_NAMES,
        features=features.astype("<f4").tobytes().hex(),
    )


async def explained(job: ExplanationJob) -> Explanation:
    answer = await PATIENT.explain(job)
    assert isinstance(answer, Explanation), answer
    return answer


@pytest.mark.parametrize("model_type", FAMILIES)
async def test_both_sides_add_up_to_what_the_service_itself_says(tmp_path: Path, model_type: str) -> None:
    features = ROWS["features"][1990]
    answer = await explained(job_on(tmp_path, model_type, features))
    served = LoadedModel.from_files(
        artifact(model_type), {name: sha256_of(artifact(model_type)[name]) for name in REQUIRED_FILES}
    )
    prediction = served.predict(np.stack([features, features]), np.array([1, -1]))
    for row, side in enumerate((answer.buy, answer.sell)):
        assert side.total == pytest.approx(answer.base_value + sum(part.contribution for part in side.contributions))
        assert side.probability == pytest.approx(prediction.probability[row], abs=1e-5)
        assert side.expected_net_return == pytest.approx(prediction.expected_net_return[row], abs=1e-7)
    strongest = max(answer.buy.contributions, key=lambda part: abs(part.contribution))
    assert strongest.feature == "book_imbalance"
    assert (answer.model_type, answer.version) == (model_type, "v1")


async def test_values_are_shown_as_they_were_and_as_the_model_saw_them(tmp_path: Path) -> None:
    features = np.arange(1, len(FEATURE_NAMES) + 1, dtype=np.float32)
    features[5], features[6] = np.nan, np.inf
    answer = await explained(job_on(tmp_path, "xgboost", features))
    for side, sign in ((answer.buy, 1), (answer.sell, -1)):
        for feature, part, value in zip(FEATURES, side.contributions, features, strict=False):
            turned = sign if feature.directional else 1
            expected = (value, turned * value) if np.isfinite(value) else (None, None)
            assert (part.feature, part.value, part.aligned) == (feature.name, *expected)
        assert (side.contributions[-1].feature, side.contributions[-1].aligned) == ("side", sign)


async def test_an_older_vector_is_read_by_its_names(tmp_path: Path) -> None:
    features = ROWS["features"][1990].copy()
    features[0] = np.nan
    whole = await explained(job_on(tmp_path, "logistic_regression", features))
    job = job_on(tmp_path, "logistic_regression", features[:0:-1])
    part = await explained(job.model_copy(update={"feature_names": FEATURE_NAMES[:0:-1]}))
    assert part == whole


@pytest.mark.parametrize("name", ["model.json", "calibration.json", "manifest.json"])
async def test_a_file_that_is_not_what_was_judged_is_not_parsed(tmp_path: Path, name: str) -> None:
    job = job_on(tmp_path, "xgboost", ROWS["features"][0], damaged=name)
    answer = await PATIENT.explain(job)
    assert isinstance(answer, Failure)
    assert (answer.code, f"v1/{name}: sha256" in answer.hint) == ("artifact_damaged", True)
    (tmp_path / name).unlink()
    answer = await PATIENT.explain(job)
    assert isinstance(answer, Failure)
    assert (answer.code, "No such file" in answer.hint) == ("artifact_damaged", True)


def children() -> set[int]:
    """Process numbers of the children of this process."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(path.parent.name))
    return found


async def test_a_child_that_takes_too_long_or_is_not_wanted_any_more_is_gone(tmp_path: Path) -> None:
    job, before = job_on(tmp_path, "xgboost", ROWS["features"][0]), children()
    answer = await ExplanationLauncher(longest_seconds=0.02).explain(job)
    assert isinstance(answer, Failure)
    assert answer.code == "timeout"
    assert children() == before
    task = asyncio.create_task(PATIENT.explain(job))
    while children() == before:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert children() == before


async def test_a_job_that_cannot_be_read_ends_with_a_word(tmp_path: Path) -> None:
    job = job_on(tmp_path, "xgboost", ROWS["features"][0])
    answer = await PATIENT.explain(job.model_copy(update={"features": "00"}))
    assert isinstance(answer, Failure)
    assert answer.code == "internal_error"


async def test_the_child_gives_way_and_imports_only_its_family(tmp_path: Path) -> None:
    job = job_on(tmp_path, "xgboost", ROWS["features"][0])
    program = (
        "import os, sys; from model_service.explanation_worker import main; code = main(); "
        "print(os.getpriority(os.PRIO_PROCESS, 0), [n for n in ('sklearn.base', 'onnxruntime', 'pandas.core', "
        "'skl2onnx', 'asyncpg') if n in sys.modules], file=sys.stderr); raise SystemExit(code)"
    )
    child = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], input=job.model_dump_json().encode(), capture_output=True
    )
    assert child.stderr.decode().strip() == "10 []"


async def test_a_stored_signal_is_explained_from_the_tables_and_the_model_folder(
    database: Database, tmp_path: Path
) -> None:
    features = ROWS["features"][1990]
    files = artifact("xgboost")
    hashes = {name: sha256_of(content) for name, content in files.items()}
    (tmp_path / "v1").mkdir()
    for name, content in files.items():
        (tmp_path / "v1" / name).write_bytes(content)
    await add_version(database, "v1", files=hashes, feature_set=FEATURE_SET)
    stored = {"feature_set": FEATURE_SET, "features": encode_features(features)}
    signal = await add_signal(database, "by a model", model_version="v1", policy="model", is_warmup=False, **stored)
    warmup = await add_signal(database, "by the warm-up", **stored)
    parts = (PostgresDecisionSource(database), PostgresRegistry(database), ModelFolder(tmp_path), PATIENT)
    asked = Explanations(*parts)
    found = (await asked.explain(signal)).explanation
    assert found == await explained(job_on(tmp_path, "xgboost", features))
    with pytest.raises(Refused, match="the warm-up's"):
        await asked.explain(warmup)
    assert (await asked.explain(warmup, "v1")).explanation == found
    (tmp_path / "v1" / "model.json").write_bytes(files["model.json"][:-1] + b" ")
    assert (await asked.explain(signal)).explanation == found, "it is remembered"
    with pytest.raises(Refused, match="do not verify"):
        await Explanations(*parts).explain(signal)
