"""The explaining child: one decision on standard input, its explanation on standard output.

Run as `python -m model_service.explanation_worker [--parent PID]`. It reads the native model, which the service itself
never does, and ends with one line that is an Explanation (exit code 0) or a Failure (exit code 1).
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_service.child import emit, prepare_imports, settle_in

if TYPE_CHECKING:  # what is heavy is imported after the threads are limited
    from model_service.models.job import Explanation, ExplanationJob, Failure

THREADS = 1
NICENESS = 10
"""Somebody waits for it: it goes before a training, and still gets a tenth of what a decision gets."""


class FileUnfit(Exception):  # noqa: N818 - an answer to the parent
    """A file of the version is missing, is not what was judged, or cannot be read; the text says which."""


def main() -> int:
    """Explain one decision; returns the exit code."""
    lines = settle_in(sys.argv[1:], NICENESS)
    result = _run(sys.stdin.buffer.read())
    emit(lines, result.model_dump(mode="json"))
    return 1 if result.kind == "failed" else 0


def _run(job_bytes: bytes) -> Explanation | Failure:
    from model_service.models.job import ExplanationJob, Failure

    try:
        return _explain(ExplanationJob.model_validate_json(job_bytes))
    except FileUnfit as error:
        return Failure(code="artifact_damaged", hint=str(error))
    except Exception as error:  # noqa: BLE001 - the border of the process: every fault becomes a line with cause and hint
        traceback.print_exc()
        return Failure(code="internal_error", hint=f"{type(error).__name__}; the service's log has the details.")


def _explain(job: ExplanationJob) -> Explanation:
    manifest = json.loads(_checked(job, "manifest.json"))
    prepare_imports(manifest["model_type"], THREADS)
    from model_service.learning.decision_explanation import explain_decision
    from model_service.learning.estimators import native_file
    from model_service.learning.explanation import read_explainer
    from model_service.models.calibration import Calibration

    native = native_file(manifest["model_type"])
    content = _checked(job, native)
    calibration = Calibration.from_json(_checked(job, "calibration.json"))
    try:
        explainer = read_explainer(manifest["model_type"], content)
        return explain_decision(job.version, explainer, calibration, manifest, _values(job))
    except ValueError as error:
        raise FileUnfit(f"{job.version}/{native}: {error}") from error


def _checked(job: ExplanationJob, name: str) -> bytes:
    """The content of a file of the version, after its hash was compared. Raises FileUnfit."""
    try:
        content = (Path(job.directory) / name).read_bytes()
    except OSError as error:
        raise FileUnfit(f"{job.version}/{name} cannot be read: {error.strerror}") from error
    found, expected = hashlib.sha256(content).hexdigest(), job.files.get(name, "none")
    if found != expected:
        raise FileUnfit(f"{job.version}/{name}: sha256 is {found}, the record says {expected}")
    return content


def _values(job: ExplanationJob) -> Mapping[str, Any]:
    import numpy as np

    vector = np.frombuffer(bytes.fromhex(job.features), dtype="<f4")
    return dict(zip(job.feature_names, vector.tolist(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
