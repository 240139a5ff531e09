"""Rows of labelled signals as one structured array: which of them count, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]


def latest_revisions(rows: Rows) -> Rows:
    """Of each signal the row with the highest revision; `rows` itself where no signal has two.

    Args:
        rows: structured array (n,) with `signal_id` uint8 (16,) and `revision` from 1 on.
    """
    revised = np.flatnonzero(rows["revision"] > 1)
    if not len(revised):
        return rows
    identifiers = _halves(rows)
    # The second half alone finds all rows of a revised signal, and hardly any other; the few are then sorted out.
    concerned = np.flatnonzero(np.isin(identifiers[:, 1], identifiers[revised, 1]))
    some = identifiers[concerned]
    order = np.lexsort((rows["revision"][concerned], some[:, 1], some[:, 0]))
    followed = np.append(np.all(some[order][1:] == some[order][:-1], axis=1), False)
    kept = np.ones(len(rows), dtype=bool)
    kept[concerned[order[followed]]] = False
    return rows[kept]


def in_time_order(rows: Rows) -> Rows:
    """By `decided_us`, ties by `signal_id`; `rows` itself where they are so already.

    One order for the same rows, however they were stored, so that a fingerprint of them says the same.
    """
    decided = np.ascontiguousarray(rows["decided_us"])
    if bool(np.all(decided[1:] > decided[:-1])):
        return rows
    order = np.argsort(decided, kind="stable")
    _sort_ties(order, decided[order], _halves(rows))
    return rows if bool(np.all(order[1:] > order[:-1])) else rows[order]


def _sort_ties(order: NDArray[np.intp], decided: NDArray[np.int64], identifiers: NDArray[np.uint64]) -> None:
    """Put `order`, which follows `decided`, within equal times into the order of the identifiers, in place."""
    same = decided[1:] == decided[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[tied]
    order[tied] = rows[np.lexsort((identifiers[rows, 1], identifiers[rows, 0], decided[tied]))]


def _halves(rows: Rows) -> NDArray[np.uint64]:
    """Signal identifiers as two numbers each, uint64 (n, 2), which sort as the identifiers do."""
    return np.ascontiguousarray(rows["signal_id"]).view(">u8").astype(np.uint64)
