"""Does a column of features read what comes later? Cut the future off, and look whether the past changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.floating]]


def reading_ahead(columns_of_first: Callable[[int], Columns], count: int, cuts: Sequence[int]) -> set[str]:
    """Names of the columns that change at or before a cut when everything after it is removed; exact to the bit.

    Args:
        columns_of_first: the columns, (k,) each, of the first k rows of the same history.
        count: rows of the whole history.
        cuts: rows that remain, each under `count`.
    """
    whole = columns_of_first(count)
    return {
        name
        for cut in cuts
        for name, values in columns_of_first(cut).items()
        if values.tobytes() != np.ascontiguousarray(whole[name][:cut]).tobytes()
    }
