"""The folder of model files: one folder per version, made whole beside it and renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from uuid import UUID

from model_service.models.artifact import ArtifactDamaged, LoadedModel


class StorageError(Exception):
    """The model folder cannot be used; the text says which, why, and what to do."""


class ModelFolder:
    """Files below MODEL_STORAGE_PATH.

    A run writes into `.run-<id>`; a version is that folder renamed, so that a reader sees all of it or nothing.

    Args:
        root: folder of the versions.
        datasets: folder where runs on several machines lay down their datasets, as `.run-<id>` too; None: no run does.
    """

    def __init__(self, root: Path, datasets: Path | None = None) -> None:
        self.root = root
        self._datasets = datasets

    def prepare(self) -> None:
        """Make the folders and try to write in them. Raises StorageError."""
        _require_writable(self.root, "model folder", "MODEL_STORAGE_PATH")
        if self._datasets is not None:
            _require_writable(self._datasets, "dataset folder", "TRAINING_DATASET_PATH")

    @property
    def is_accessible(self) -> bool:
        """Whether the folder can be read and written now."""
        return os.access(self.root, os.R_OK | os.W_OK | os.X_OK)

    def sweep(self) -> None:
        """Remove what runs of a former process left behind."""
        for folder in filter(None, (self.root, self._datasets)):
            for left in folder.glob(".run-*"):
                shutil.rmtree(left, ignore_errors=True)

    def workspace(self, run_id: UUID) -> Path:
        """A new, empty folder for a run's artifact."""
        folder = self._run_folder(run_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o750)
        return folder.resolve()

    def dataset_folder(self, run_id: UUID) -> Path | None:
        """Where a run may lay down its dataset, not made yet; None where runs keep theirs in memory."""
        return None if self._datasets is None else self._datasets.resolve() / f".run-{run_id}"

    def discard(self, run_id: UUID) -> None:
        """Remove a run's folders, if there are any; a dataset, which may be large, beside the caller's work."""
        shutil.rmtree(self._run_folder(run_id), ignore_errors=True)
        dataset = self.dataset_folder(run_id)
        if dataset is not None and dataset.exists():
            Thread(target=shutil.rmtree, args=(dataset, True), name="discard-dataset", daemon=True).start()

    def publish(self, run_id: UUID, version: str) -> str:
        """Rename a run's folder to the version's; returns the path that the row keeps, `/models/vN` by convention.

        Doing it again changes nothing. Raises OSError.
        """
        target = self.folder(version)
        if target.exists() and not self._run_folder(run_id).exists():
            return f"/models/{version}"
        if target.exists():
            # A former process renamed and died before its row was written: the number was never given out.
            shutil.rmtree(target)
        self._run_folder(run_id).rename(target)
        _sync_folder(self.root)
        return f"/models/{version}"

    def folder(self, version: str) -> Path:
        """Where the version's files are."""
        return self.root / version

    def load(self, version: str, sha256: Mapping[str, str]) -> LoadedModel:
        """Read and check a version. Raises ArtifactDamaged, also when a file is missing or cannot be read."""
        files: dict[str, bytes] = {}
        for name in ("serving.onnx", "calibration.json", "manifest.json"):
            try:
                files[name] = (self.folder(version) / name).read_bytes()
            except OSError as error:
                raise ArtifactDamaged(f"{version}/{name} cannot be read: {error.strerror}") from error
        return LoadedModel.from_files(files, sha256)

    def _run_folder(self, run_id: UUID) -> Path:
        return self.root / f".run-{run_id}"


def _require_writable(folder: Path, name: str, setting: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"The {name} {folder} cannot be written: {error.strerror}. "
            f"Give the service's user write permission, or set {setting} to another folder."
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
