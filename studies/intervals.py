"""Whether intervals cover what they say, by the program `studies.coverage`, which has processes of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from studies.findings import Finding

NAME = "coverage"
_MODULE = "studies.coverage"


def is_there() -> bool:
    """Whether that program is part of this checkout."""
    return importlib.util.find_spec(_MODULE) is not None


def coverage() -> Finding:
    """Run it and pass on its verdict; its own table goes to the standard error."""
    done = subprocess.run([sys.executable, "-m", _MODULE], stdout=sys.stderr, check=False)
    return Finding(
        study=NAME,
        promise="intervals cover what they state (table above)",
        asked="exit code 0",
        reached=float(done.returncode),
        lower=float("nan"),
        upper=float("nan"),
        samples=1,
        passed=done.returncode == 0,
        note=f"by python -m {_MODULE}",
    )
