"""What is wrong with the model folder, in a code for programs and a sentence that says what to do."""

from __future__ import annotations

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DENIED = frozenset({errno.EACCES, errno.EPERM})
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO})


def storage_fault(error: OSError) -> tuple[str, str]:
    """Code and hint of a failure to write below MODEL_STORAGE_PATH.

    Example:
        >>> storage_fault(OSError(errno.ENOSPC, "No space left on device", "/models/.run-1"))[0]
        'disk_full'
    """
    said = f"{error.filename or 'the model folder'}: {error.strerror or error}"
    if error.errno in FULL:
        return "disk_full", f"{said}. Free some space, then request the run again; no version was changed."
    if error.errno == errno.EROFS:
        return "model_folder_read_only", f"{said}. Mount it for writing, then request the run again."
    if error.errno in DENIED:
        return "model_folder_denied", f"{said}. Let the service's user write there, then request the run again."
    if error.errno in GONE:
        return "model_folder_gone", f"{said}. Is the volume of MODEL_STORAGE_PATH mounted? Then request the run again."
    return "model_folder", f"{said}. See to the folder of MODEL_STORAGE_PATH, then request the run again."
