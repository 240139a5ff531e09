"""Whether the packages of an extra are installed, asked without loading them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

DASK = ("dask", "distributed", "pandas", "pyarrow")
SEARCH = ("optuna",)


def missing_for_dask(find: Callable[[str], object] = find_spec) -> str | None:
    """What to install before TRAINING_ENGINE=dask can work; None when everything is there."""
    return _missing(DASK, "TRAINING_ENGINE is dask", "dask", find)


def missing_for_search(find: Callable[[str], object] = find_spec) -> str | None:
    """What to install before MODEL_TRAINING_SEARCH_TRIALS over 0 can work; None when everything is there."""
    return _missing(SEARCH, "MODEL_TRAINING_SEARCH_TRIALS is over 0", "tune", find)


def _missing(packages: tuple[str, ...], setting: str, extra: str, find: Callable[[str], object]) -> str | None:
    missing = [name for name in packages if find(name) is None]
    if not missing:
        return None
    return (
        f'{setting}, but {", ".join(missing)} cannot be found; install the extra: pip install "model-service[{extra}]".'
    )
