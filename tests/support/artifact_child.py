"""A training child that has its model already: it says that it is ready, then keeps the files as the real one does.

Run as `python -m tests.support.artifact_child --parent PID`; the job names the folder of the files by
`parent_directory`, and their Candidate lies there as `candidate.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from model_service.child import emit, settle_in
from model_service.models.job import Candidate, Progress, TrainingJob
from model_service.training_worker import _failure, _keep

CANDIDATE = "candidate.json"


def main() -> None:
    lines = settle_in(sys.argv[1:])
    job = TrainingJob.model_validate_json(sys.stdin.buffer.read())
    assert job.parent_directory is not None
    source = Path(job.parent_directory)
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir()) if path.name != CANDIDATE}
    candidate = Candidate.model_validate_json((source / CANDIDATE).read_bytes())
    import model_service.learning.artifact_writer  # noqa: F401 - what is timed is the writing

    emit(lines, Progress(phase="evaluating", fraction=0.95, note="ready").model_dump(mode="json"))
    try:
        result = _keep(candidate, files, Path(job.output_directory))
    except OSError as error:
        emit(lines, _failure(error, job).model_dump(mode="json"))
        return
    emit(lines, result.model_dump(mode="json"))


if __name__ == "__main__":
    main()
