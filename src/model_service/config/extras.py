"""Whether the packages of an extra are installed, asked without loading them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

DASK = ("dask", "distributed", "pandas", "pyarrow")


def missing_for_dask(find: Callable[[str], object] = find_spec) -> str | None:
    """What to install before TRAINING_ENGINE=dask can work; None when everything is there."""
    missing = [name for name in DASK if find(name) is None]
    if not missing:
        return None
    return (
        f"TRAINING_ENGINE is dask, but {', '.join(missing)} cannot be found; install the extra: "
        'pip install "model-service[dask]".'
    )
