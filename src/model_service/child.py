"""What every child of the service does first: it dies with its parent, gives way, and keeps its own line to it.

A child is a program of its own that gets one job on standard input and answers with lines of JSON on standard output;
whatever a library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

LOWEST = 19
_PR_SET_PDEATHSIG = 1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")

_SPINS = "1000"


def settle_in(arguments: Sequence[str], niceness: int = LOWEST) -> TextIO:
    """Tie the life of this process to its parent's, give way to others, and return the line to the parent.

    Args:
        arguments: `--parent PID`, or nothing for whoever is the parent now.
        niceness: how much it gives way; at 19 to everything.
    """
    die_with_parent(_expected_parent(arguments))
    os.nice(niceness)
    return _take_standard_output()


def die_with_parent(expected_parent: int | None) -> None:
    """Ask the kernel for SIGKILL when the parent ends, then make sure that it had not ended before."""
    parent = expected_parent or os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def emit(lines: TextIO, content: Mapping[str, Any]) -> None:
    """One line to the parent. Raises ValueError for a number that is not finite."""
    lines.write(json.dumps(content, allow_nan=False) + "\n")
    lines.flush()


def prepare_imports(model_type: str, threads: int, *, with_pandas: bool = False) -> None:
    """Limit the threads of libraries before they start any; spare XGBoost optional imports that cost four seconds.

    Threads that wait for each other do it asleep, but for a moment: on a machine with other work they would spin away
    the very time that the last of them needs (a fit of 6,000 rows took 5 to 11 s so, and 1 s now).

    Args:
        with_pandas: XGBoost's interface to Dask does not come without pandas.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    if model_type == "xgboost":
        spared = ("sklearn",) if with_pandas else ("sklearn", "pandas")
        sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]


def _expected_parent(arguments: Sequence[str]) -> int | None:
    return int(arguments[1]) if len(arguments) == 2 and arguments[0] == "--parent" else None


def _take_standard_output() -> TextIO:
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return lines
