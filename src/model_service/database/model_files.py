"""The folder of model files: one folder per version, made whole beside it and renamed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Thread
from uuid import UUID

from model_service.models.artifact import REQUIRED_FILES, ArtifactDamaged, ArtifactUnreachable, LoadedModel
from model_service.services.ports import FileCheck, FileState, VersionTaken

VERSION_FOLDER = re.compile(r"v[0-9]{1,18}(\.[0-9]{1,9})?")


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

    @property
    def is_reachable(self) -> bool:
        """Whether it holds any version at all; without one, its volume is most likely not mounted."""
        try:
            return any(True for _ in self._version_names())
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove what runs and removals of a former process left behind."""
        for folder in filter(None, (self.root, self._datasets)):
            for left in (*folder.glob(".run-*"), *folder.glob(".removed-*")):
                shutil.rmtree(left, ignore_errors=True)

    def versions(self) -> frozenset[str]:
        """Names of the folders that look like a version's. Raises OSError."""
        return frozenset(self._version_names())

    def remove(self, version: str) -> None:
        """Remove a version's folder; at any moment all of it is there, or nothing. Raises OSError."""
        leaving = self.root / f".removed-{version}"
        shutil.rmtree(leaving, ignore_errors=True)
        try:
            self.folder(version).rename(leaving)
        except FileNotFoundError:
            return
        _sync_folder(self.root)
        shutil.rmtree(leaving, ignore_errors=True)

    def workspace(self, run_id: UUID) -> Path:
        """A new, empty folder for a run's artifact. Raises OSError, also when the folder of the versions is away."""
        folder = self._run_folder(run_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o750)
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

        Doing it again changes nothing. Raises OSError, and VersionTaken when another folder has that name: a number is
        given out once, so it is of another database, whose rows may name it.
        """
        source, target = self._run_folder(run_id), self.folder(version)
        if target.exists():
            if source.exists():
                raise VersionTaken(f"{target} exists already")
            return f"/models/{version}"
        source.rename(target)
        _sync_folder(self.root)
        return f"/models/{version}"

    def folder(self, version: str) -> Path:
        """Where the version's files are."""
        return self.root / version

    def load(self, version: str, sha256: Mapping[str, str]) -> LoadedModel:
        """Read and check all files of a version. Raises ArtifactDamaged, ArtifactUnreachable."""
        return LoadedModel.from_files(self._read(version, sha256), sha256)

    def check(self, version: str, sha256: Mapping[str, str], sizes: Mapping[str, int] | None) -> list[FileCheck]:
        """Every recorded file as it lies there now, by name. Raises ArtifactUnreachable."""
        folder = self.folder(version)
        if not folder.is_dir() and not self.is_reachable:
            raise self._unreachable()
        return [_check(folder / name, sha256[name], (sizes or {}).get(name)) for name in sorted(sha256)]

    def _read(self, version: str, names: Iterable[str]) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        for name in sorted({*names, *REQUIRED_FILES}):
            try:
                files[name] = (self.folder(version) / name).read_bytes()
            except OSError as error:
                if not self.is_reachable:
                    raise self._unreachable() from error
                raise ArtifactDamaged(f"{version}/{name} cannot be read: {error.strerror}") from error
        return files

    def _unreachable(self) -> ArtifactUnreachable:
        return ArtifactUnreachable(f"the model folder {self.root} holds no version at all")

    def _version_names(self) -> Iterator[str]:
        with os.scandir(self.root) as entries:
            yield from (entry.name for entry in entries if VERSION_FOLDER.fullmatch(entry.name) and entry.is_dir())

    def _run_folder(self, run_id: UUID) -> Path:
        return self.root / f".run-{run_id}"


def _check(path: Path, recorded: str, recorded_bytes: int | None) -> FileCheck:
    try:
        with path.open("rb") as file:
            found, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return FileCheck(path.name, "missing", recorded, recorded_bytes)
    except OSError as error:
        return FileCheck(path.name, "unreadable", recorded, recorded_bytes, reason=error.strerror or str(error))
    state: FileState = "intact" if found == recorded and recorded_bytes in (None, size) else "differs"
    return FileCheck(path.name, state, recorded, recorded_bytes, found, size)


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
