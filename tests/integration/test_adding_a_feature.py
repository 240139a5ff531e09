"""One more entry in the list of features: old rows train along, and old models decide as before."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model_service
from model_service.database.connection import Database
from model_service.database.feature_rows import CURRENT, register_feature_set
from model_service.learning.run import train_candidate
from model_service.models.artifact import LoadedModel, sha256_of
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import Candidate
from tests.integration.test_training_worker import job_on
from tests.support.builders import NOON
from tests.support.stored_samples import store
from tests.support.training_rows import imbalance_rows, training_job

ENTRY = """
    _symmetric("spread_in_volatility", lambda snapshot, _: _ratio(snapshot.spread_percent, snapshot.volatility)),
"""
ANCHOR = '    _directional("return_5m", '

ASK_THE_OLD_MODEL = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from model_service.market.snapshot import MarketSnapshot
from model_service.models.artifact import LoadedModel
from model_service.models.features import DecisionContext, FEATURE_NAMES, feature_vector

given = json.loads(sys.stdin.read())
files = {name: Path(path).read_bytes() for name, path in given["paths"].items()}
model = LoadedModel.from_files(files, given["sha256"])
snapshot = MarketSnapshot("BTCUSDT", datetime.now(UTC), None, spread_percent=0.5, volatility=0.25)
vector = dict(zip(FEATURE_NAMES, feature_vector(snapshot, DecisionContext()).tolist(), strict=True))
rows = np.full((len(given["vectors"]), len(FEATURE_NAMES)), 99.0, np.float32)
for place, name in enumerate(given["names"]):
    rows[:, FEATURE_NAMES.index(name)] = np.array(given["vectors"], np.float32)[:, place]
prediction = model.predict(rows, np.array(given["signs"]))
print(json.dumps({
    "names": FEATURE_NAMES, "new": vector["spread_in_volatility"], "probability": prediction.probability.tolist(),
}))
"""


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """The program with one line more in one file; a folder for PYTHONPATH."""
    source = Path(model_service.__file__).parent
    shutil.copytree(source, tmp_path / "program" / "model_service", ignore=shutil.ignore_patterns("__pycache__"))
    declared = tmp_path / "program" / "model_service" / "models" / "features.py"
    text = declared.read_text()
    assert text.count(ANCHOR) == 1
    declared.write_text(text.replace(ANCHOR, ENTRY.lstrip("\n") + ANCHOR))
    return tmp_path / "program"


async def run_in(program: Path, arguments: list[str], given: str) -> list[Any]:
    """The lines of JSON that a Python process on that program prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**os.environ, "PYTHONPATH": str(program)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(given.encode())
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines()]


async def test_an_old_model_decides_as_before(extended: Path, tmp_path: Path) -> None:
    _, files = train_candidate(training_job(), imbalance_rows(2000, seed=3, assets=3), {}, {}, lambda *_: None)
    hashes = {name: sha256_of(content) for name, content in files.items()}
    paths = {name: tmp_path / name for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    vectors = np.random.default_rng(1).standard_normal((20, len(FEATURE_NAMES))).astype(np.float32)
    signs = [1, -1] * 10
    before = LoadedModel.from_files(files, hashes).predict(vectors, np.array(signs)).probability
    given = {
        "paths": {name: str(path) for name, path in paths.items()}, "sha256": hashes,
        "names": FEATURE_NAMES, "vectors": vectors.tolist(), "signs": signs,
    }  # fmt: skip
    (answer,) = await run_in(extended, ["-c", ASK_THE_OLD_MODEL], json.dumps(given))
    assert set(answer["names"]) == {*FEATURE_NAMES, "spread_in_volatility"}
    assert answer["new"] == 2.0
    assert np.ptp(before) > 0.3
    np.testing.assert_array_equal(answer["probability"], before)


async def test_old_rows_train_a_model_that_knows_the_new_feature(
    extended: Path, tmp_path: Path, database: Database
) -> None:
    await register_feature_set(database, CURRENT, NOON)  # as the older program did when it started
    await store(database, imbalance_rows(2000, 3, assets=3))
    (tmp_path / "out").mkdir()
    worker = ["-m", "model_service.training_worker", "--parent", str(os.getpid())]
    lines = await run_in(extended, worker, job_on(database, tmp_path / "out").model_dump_json())
    candidate = Candidate.model_validate(lines[-1])
    assert candidate.report["rows"] == 2000
    assert candidate.report["share_unknown_by_feature"]["spread_in_volatility"] == 1.0
    assert candidate.report["share_unknown_by_feature"].get("book_imbalance", 0.0) == 0.0
    assert candidate.gate_passed, "the edge is in a feature that the old rows have"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["model_inputs"].index("spread_in_volatility") == 1
    assert manifest["feature_set"] == candidate.feature_set != CURRENT.name
