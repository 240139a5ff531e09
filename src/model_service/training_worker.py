"""The training child: one job on standard input, lines of JSON on standard output, logs on standard error.

Run as `python -m model_service.training_worker [--parent PID]`. It dies with its parent, is as nice as can be, and ends
with one line that is a Candidate, a Refusal (exit code 0) or a Failure (exit code 1).
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from model_service.child import emit, prepare_imports, settle_in

if TYPE_CHECKING:  # everything heavy is imported after the first line is out and the threads are limited
    from model_service.database.connection import Database
    from model_service.database.idle_reader import IdleRows
    from model_service.database.sample_reader import SampleRows
    from model_service.learning.incumbent import IncumbentModel
    from model_service.models.job import Candidate, Failure, Refusal, TrainingJob

_READ_FRACTION = 0.1
_WITHOUT_MEMORY = (
    "bad allocation",
    "bad_alloc",
    os.strerror(errno.ENOMEM),
    "failed to map segment",  # what the dynamic linker says of a library that does not fit
    "can't start new thread",
)


def main() -> int:
    """Run one job; returns the exit code."""
    lines = settle_in(sys.argv[1:])
    emit(lines, {"kind": "progress", "phase": "preparing", "fraction": 0.0, "note": "started"})
    result = _run(sys.stdin.buffer.read(), lines)
    emit(lines, result.model_dump(mode="json"))
    return 1 if result.kind == "failed" else 0


def _run(job_bytes: bytes, lines: TextIO) -> Candidate | Refusal | Failure:
    from pydantic import ValidationError

    from model_service.models.job import Failure, Refusal, TrainingJob

    try:
        job = TrainingJob.model_validate_json(job_bytes)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        return Failure(code="invalid_job", hint=f"the job cannot be read: {faults}")
    conflict = conflicting_xgboost()
    if conflict is not None:
        return Failure(code="conflicting_packages", hint=conflict)
    prepare_imports(job.strategy.model_type, job.threads, with_pandas=job.engine == "dask")
    from model_service.learning.refusal import Refused

    try:
        return _train(job, lines)
    except Refused as refused:
        return Refusal(code=refused.code, hint=refused.hint, report=dict(refused.report))
    except Exception as error:  # noqa: BLE001 - the border of the process: every fault becomes a line with cause and hint
        traceback.print_exc()
        return _failure(error, job)


def conflicting_xgboost(distribution: Callable[[str], object] = metadata.distribution) -> str | None:
    """What is wrong when both packages that bring the folder `xgboost` are installed; None when at most one is."""
    installed = []
    for name in ("xgboost", "xgboost-cpu"):
        try:
            distribution(name)
        except metadata.PackageNotFoundError:
            continue
        installed.append(name)
    if len(installed) < 2:
        return None
    return (
        "xgboost and xgboost-cpu are both installed and overwrite each other's files; "
        "uninstall both, then install one: the extra `cpu` or the extra `gpu`."
    )


class _Telling:
    """Tells the parent how far the run is, and keeps how long each part of it took, in seconds."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._phase, self._since = "preparing", time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, phase: Any, fraction: float, note: str, report: Mapping[str, Any] | None = None, /) -> None:
        from model_service.models.job import Progress

        if phase != self._phase:
            self.lap(self._phase)
            self._phase = phase
        known = None if report is None else dict(report)
        emit(self._lines, Progress(phase=phase, fraction=fraction, note=note, report=known).model_dump(mode="json"))

    def lap(self, part: str) -> None:
        """What was done since the last call was `part`."""
        now = time.monotonic()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self._since, 3)
        self._since = now


def _train(job: TrainingJob, lines: TextIO) -> Candidate:
    telling = _Telling(lines)
    directory = _usable_directory(Path(job.output_directory))
    candidate, files = (_train_on_workers if job.engine == "dask" else _train_here)(job, telling)
    telling("evaluating", 0.95, "writing and loading the artifact")
    telling.lap("evaluating")
    kept = _keep(candidate, files, directory)
    telling.lap("writing")
    return kept.model_copy(update={"report": {**kept.report, "seconds": telling.seconds}})


def _train_here(job: TrainingJob, telling: _Telling) -> tuple[Candidate, dict[str, bytes]]:
    import uvloop

    from model_service.learning.estimators import load_libraries
    from model_service.learning.machine import require_machine
    from model_service.learning.run import train_candidate

    load_libraries(job.strategy.model_type)
    require_machine(job)
    telling.lap("starting")
    samples, idle = uvloop.run(_read(job))
    telling.lap("reading")
    telling("preparing", _READ_FRACTION, _what_was_read(samples, idle))
    return train_candidate(
        job, samples.rows, samples.dropped, _parent_files(job), telling,
        idle=None if idle is None else idle.rows, incumbent=incumbent_of(job),
    )  # fmt: skip


def _train_on_workers(job: TrainingJob, telling: _Telling) -> tuple[Candidate, dict[str, bytes]]:
    from model_service.config.extras import missing_for_dask
    from model_service.learning.refusal import RunBroken

    missing = missing_for_dask()
    if missing is not None:
        raise RunBroken("dask_missing", missing)
    from model_service.distributed_run import train_on_dask

    return asyncio.run(train_on_dask(job, _database(job), _parent_files(job), incumbent_of(job), telling))


def _what_was_read(samples: SampleRows, idle: IdleRows | None) -> str:
    others = sum(samples.of_other_sets.values())
    notes = [f"read {len(samples.rows)} rows"]
    notes += [f"{others} of them written with other feature sets"] if others else []
    notes += [f"{len(idle.rows)} draws without a trade"] if idle is not None and len(idle.rows) else []
    return ", ".join(notes)


def _usable_directory(directory: Path) -> Path:
    """The folder, after a file could be made in it. Raises OSError."""
    if any(directory.iterdir()):
        raise FileExistsError(errno.EEXIST, "the output folder is not empty", str(directory))
    probe = directory / ".probe"
    probe.touch(exist_ok=False)
    probe.unlink()
    return directory


async def _read(job: TrainingJob) -> tuple[SampleRows, IdleRows | None]:
    """The labelled rows, and the draws without a trade of the time that the model will be judged on."""
    from model_service.database.feature_rows import CURRENT
    from model_service.database.idle_reader import read_idle_draws
    from model_service.database.sample_reader import read_samples
    from model_service.learning.dataset import evaluation_span_us

    database, strategy_id = _database(job), job.strategy.strategy_id
    rules = job.strategy.label_rules
    samples = await read_samples(database, strategy_id, current=CURRENT, as_of_us=job.as_of_us, rules=rules)
    span = evaluation_span_us(samples.rows, job.as_of_us)
    if span is None:
        return samples, None
    return samples, await read_idle_draws(database, strategy_id, current=CURRENT, start_us=span[0], end_us=span[1])


def _database(job: TrainingJob) -> Database:
    from model_service.database.connection import Database, DatabaseAddress

    at = job.database
    return Database(DatabaseAddress(at.host, at.port, at.database, at.user, at.password, at.schema_name))


def _parent_files(job: TrainingJob) -> dict[str, bytes]:
    if job.training_type != "incremental" or job.parent_directory is None:
        return {}
    return {path.name: path.read_bytes() for path in sorted(Path(job.parent_directory).iterdir()) if path.is_file()}


def incumbent_of(job: TrainingJob) -> IncumbentModel | None:
    """The version that speaks, its hashes checked; one that cannot be used stops no candidate, and the gate says so."""
    from model_service.learning.incumbent import IncumbentModel
    from model_service.models.artifact import REQUIRED_FILES, ArtifactDamaged, ArtifactIncompatible, LoadedModel

    if job.incumbent is None:
        return None
    known, directory = job.incumbent, Path(job.incumbent.directory)
    try:
        model = LoadedModel.from_files({name: (directory / name).read_bytes() for name in REQUIRED_FILES}, known.files)
    except (ArtifactDamaged, ArtifactIncompatible, OSError) as error:
        return IncumbentModel(known.version, None, known.trained_until_us, str(error))
    return IncumbentModel(known.version, model, known.trained_until_us)


def _keep(candidate: Candidate, files: Mapping[str, bytes], directory: Path) -> Candidate:
    """Write the files and load what was written, so that the first load of an artifact is not the service's."""
    from model_service.learning.artifact_writer import write_artifact
    from model_service.models.artifact import REQUIRED_FILES, LoadedModel

    hashes = write_artifact(directory, files)
    LoadedModel.from_files({name: (directory / name).read_bytes() for name in REQUIRED_FILES}, hashes)
    sizes = {name: len(data) for name, data in files.items()}
    return candidate.model_copy(update={"files": hashes, "file_sizes": sizes})


def _failure(error: Exception, job: TrainingJob) -> Failure:
    from model_service.models.job import Failure

    code, hint = _cause(error, job)
    return Failure(code=code, hint=hint)


def _cause(error: Exception, job: TrainingJob) -> tuple[str, str]:
    import asyncpg

    from model_service.database.connection import DatabaseUnavailable
    from model_service.learning.refusal import RunBroken

    if isinstance(error, RunBroken):
        return error.code, error.hint
    if isinstance(error, MemoryError) or any(words in str(error) for words in _WITHOUT_MEMORY):
        return (
            "out_of_memory",
            "the rows do not fit into memory; give the service more of it.",
        )
    if isinstance(error, DatabaseUnavailable):
        return "database_unavailable", f"{error}; the run can be requested again when it is back."
    if isinstance(error, asyncpg.PostgresError):
        return "database_refused", f"PostgreSQL said: {error}; is the schema current (model-service db status)?"
    if isinstance(error, OSError):
        return _file_cause(error, job)
    return "internal_error", f"{type(error).__name__}; the log of the run has the details."


def _file_cause(error: OSError, job: TrainingJob) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", f"no space is left for {job.output_directory}; free some, then request the run again."
    place = error.filename or job.output_directory
    return "output_not_writable", f"{place}: {error.strerror or error}; check that the model folder exists and is ours."


if __name__ == "__main__":
    sys.exit(main())
