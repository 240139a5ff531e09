"""The split in time, purged and embargoed by real label intervals (METHOD 5; Lopez de Prado 2018, ch. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.learning.refusal import Refused

Indices = NDArray[np.intp]
SHARES = {"train": 0.6, "early_stopping": 0.1, "calibration": 0.1, "test": 0.2}
LEAST_ROWS = {"train": 200, "early_stopping": 50, "calibration": 50, "test": 150}


@dataclass(frozen=True)
class Split:
    """Row indices of four blocks in time order; no label interval of a block reaches a row of a later one.

    Attributes:
        train, early_stopping, calibration, test: rising indices.
        purged: rows dropped because their label reaches the border after their block.
        embargoed: rows dropped because they were decided within one horizon after the border before their block.
    """

    train: Indices
    early_stopping: Indices
    calibration: Indices
    test: Indices
    purged: int
    embargoed: int

    def blocks(self) -> dict[str, Indices]:
        """The four blocks by name, in time order."""
        return {name: getattr(self, name) for name in SHARES}

    def report(self) -> dict[str, int]:
        """Rows by block, purged and embargoed."""
        kept = {f"rows_{name}": len(rows) for name, rows in self.blocks().items()}
        return {**kept, "purged": self.purged, "embargoed": self.embargoed}


@dataclass(frozen=True)
class PurgedBlocks:
    """Rows of consecutive blocks in time order, without those that a border takes."""

    blocks: list[Indices]
    purged: int
    embargoed: int


def split_in_time(decided_us: NDArray[np.int64], exit_us: NDArray[np.int64], horizon_us: int) -> Split:
    """Split rows 60 / 10 / 10 / 20 % in time order, then purge and embargo at each border.

    Args:
        decided_us: decision times, not falling, (n,).
        exit_us: ends of the label intervals, (n,).
        horizon_us: H.
    """
    cut = purged_blocks(decided_us, exit_us, horizon_us, block_starts(len(decided_us)))
    return Split(**dict(zip(SHARES, cut.blocks, strict=True)), purged=cut.purged, embargoed=cut.embargoed)


def block_starts(count: int) -> list[int]:
    """First row of each of the four blocks of `count` rows, and `count`."""
    shares = np.cumsum([0.0, *SHARES.values()])
    return [round(float(share) * count) for share in shares]


def purged_blocks(
    decided_us: NDArray[np.int64], exit_us: NDArray[np.int64], horizon_us: int, starts: Sequence[int]
) -> PurgedBlocks:
    """Cut rows in time order into blocks, then purge and embargo at each border.

    A border is the decision time of the first row of the later block. Of the earlier rows those go whose label ends at
    or after it; of the later ones those decided within `horizon_us` after it, the border itself included.

    Args:
        decided_us, exit_us, horizon_us: as in `split_in_time`.
        starts: first row of each block, not falling, and the end of the last one.
    """
    borders = [int(decided_us[start]) if start < len(decided_us) else None for start in starts[1:-1]]
    purge = np.zeros(len(decided_us), dtype=bool)
    embargo = np.zeros(len(decided_us), dtype=bool)
    for start, border in zip(starts[1:-1], borders, strict=True):
        if border is not None:
            purge[:start] |= exit_us[:start] >= border
            embargo[start:] |= decided_us[start:] < border + horizon_us
    kept = ~(purge | embargo)
    blocks = [first + np.flatnonzero(kept[first:last]) for first, last in pairwise(starts)]
    return PurgedBlocks(blocks, int(np.sum(purge)), int(np.sum(embargo & ~purge)))


def evenly(count: int, most: int) -> Indices:
    """Indices of at most `most` of `count` rows, evenly spread over them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.intp)


def refuse_small_blocks(split: Split, report: Mapping[str, Any]) -> None:
    """Raises Refused with `block_too_small` when a block keeps fewer rows than LEAST_ROWS."""
    for name, rows in split.blocks().items():
        if len(rows) < LEAST_ROWS[name]:
            hint = (
                f"the {name.replace('_', ' ')} block keeps {len(rows)} rows after purging, "
                f"{LEAST_ROWS[name]} are needed; wait for more outcomes, or shorten the horizon."
            )
            raise Refused("block_too_small", hint, report)


def refuse_one_class(labels: NDArray[np.int8], split: Split, report: Mapping[str, Any]) -> None:
    """Raises Refused with `one_class` when the training or the calibration block holds one class only."""
    for name in ("train", "calibration"):
        rows = split.blocks()[name]
        wins = int(np.sum(labels[rows]))
        if wins in (0, len(rows)):
            hint = (
                f"all {len(rows)} rows of the {name} block are {'wins' if wins else 'losses'}; wait for more outcomes."
            )
            raise Refused("one_class", hint, report)


def first_test_row(count: int) -> int:
    """Index of the first of `count` rows in time order that belongs to the test block before any is embargoed."""
    return min(block_starts(count)[-2], max(count - 1, 0))
