"""What is missing for an engine is said with the command that installs it, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from model_service.config.extras import DASK, SEARCH, missing_for_dask, missing_for_search
from model_service.config.loading import load_settings
from model_service.main import StartRefused, require_extras

DASK_SETTINGS = {"TRAINING_ENGINE": "dask", "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:8786"}


def test_the_missing_packages_are_named() -> None:
    hint = missing_for_dask(lambda name: None if name in ("distributed", "pyarrow") else object())
    assert hint is not None
    assert "distributed, pyarrow cannot be found" in hint
    assert 'pip install "model-service[dask]"' in hint


def test_what_a_search_needs_is_named() -> None:
    hint = missing_for_search(lambda _: None)
    assert hint is not None
    assert "optuna cannot be found" in hint
    assert 'pip install "model-service[tune]"' in hint


def test_nothing_is_missing_here() -> None:
    assert missing_for_dask() is None
    assert missing_for_search() is None


def test_the_service_does_not_start_without_what_its_engine_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_service.main.missing_for_dask", lambda: missing_for_dask(lambda _: None))
    with pytest.raises(StartRefused, match=r"pip install \"model-service\[dask\]\""):
        require_extras(load_settings(DASK_SETTINGS)[0])
    require_extras(load_settings({})[0])


def test_the_service_does_not_start_without_what_its_search_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_service.main.missing_for_search", lambda: missing_for_search(lambda _: None))
    with pytest.raises(StartRefused, match=r"pip install \"model-service\[tune\]\""):
        require_extras(load_settings({"MODEL_TRAINING_SEARCH_TRIALS": "5"})[0])
    require_extras(load_settings({})[0])


def test_asking_loads_none_of_them() -> None:
    code = (
        "import sys; import model_service.main; "
        "from model_service.config.extras import missing_for_dask, missing_for_search; "
        f"missing_for_dask(); missing_for_search(); print([name for name in {DASK + SEARCH!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
