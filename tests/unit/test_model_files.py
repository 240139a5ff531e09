"""What runs leave on disk, and that it goes: their artifacts, and the datasets of runs on several machines."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from uuid import UUID

import pytest

from model_service.database.model_files import ModelFolder, StorageError

RUN, OTHER = UUID(int=1), UUID(int=2)


def lay_down(files: ModelFolder, run_id: UUID) -> Path:
    folder = files.dataset_folder(run_id)
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / "rows-00000.parquet").write_bytes(b"PAR1")
    return folder


def wait_for_discarding() -> None:
    for thread in threading.enumerate():
        if thread.name == "discard-dataset":
            thread.join(10)


def test_a_discarded_run_leaves_neither_artifact_nor_dataset(tmp_path: Path) -> None:
    files = ModelFolder(tmp_path / "models", tmp_path / "datasets")
    files.prepare()
    artifact, dataset, other = files.workspace(RUN), lay_down(files, RUN), lay_down(files, OTHER)
    files.discard(RUN)
    wait_for_discarding()
    assert not artifact.exists()
    assert not dataset.exists()
    assert other.exists()


def test_the_sweep_takes_datasets_and_nothing_else(tmp_path: Path) -> None:
    files = ModelFolder(tmp_path / "models", tmp_path / "datasets")
    files.prepare()
    dataset, foreign = lay_down(files, RUN), tmp_path / "datasets" / "candles"
    foreign.mkdir()
    files.sweep()
    assert not dataset.exists()
    assert foreign.exists()


def test_the_path_of_a_dataset_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ModelFolder(Path("models"), Path("datasets")).dataset_folder(RUN) == tmp_path / "datasets" / f".run-{RUN}"


def test_without_datasets_there_is_no_folder_for_them(tmp_path: Path) -> None:
    files = ModelFolder(tmp_path)
    files.prepare()
    assert files.dataset_folder(RUN) is None
    files.discard(RUN)
    files.sweep()


@pytest.mark.parametrize("setting", ["MODEL_STORAGE_PATH", "TRAINING_DATASET_PATH"])
def test_a_folder_that_cannot_be_written_names_its_setting(tmp_path: Path, setting: str) -> None:
    place = tmp_path / "models" if setting == "MODEL_STORAGE_PATH" else tmp_path / "datasets"
    place.write_bytes(b"a file in its way")
    with pytest.raises(StorageError, match=f"{os.fspath(place)}.*{setting}"):
        ModelFolder(tmp_path / "models", tmp_path / "datasets").prepare()
