"""The split: nothing of an earlier block reaches a later one, whatever the intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.learning.refusal import Refused
from model_service.learning.split import refuse_one_class, refuse_small_blocks, split_in_time

intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400)), min_size=0, max_size=300)


@given(steps=intervals, horizon=st.integers(1, 300))
def test_no_label_reaches_a_later_block(steps: list[tuple[int, int]], horizon: int) -> None:
    decided = np.cumsum(np.array([gap for gap, _ in steps], dtype=np.int64))
    exits = decided + np.array([length for _, length in steps], dtype=np.int64)
    split = split_in_time(decided, exits, horizon)
    blocks = list(split.blocks().values())
    for position, earlier in enumerate(blocks):
        for later in blocks[position + 1 :]:
            if len(earlier) and len(later):
                assert exits[earlier].max() + horizon <= decided[later].min() + horizon - 1
                assert earlier.max() < later.min()
    assert sum(map(len, blocks)) + split.purged + split.embargoed == len(decided)


@given(steps=intervals, horizon=st.integers(1, 300))
def test_a_row_is_dropped_only_for_a_border(steps: list[tuple[int, int]], horizon: int) -> None:
    decided = np.cumsum(np.array([gap for gap, _ in steps], dtype=np.int64))
    exits = decided + np.array([length for _, length in steps], dtype=np.int64)
    count = len(decided)
    starts = [round(share * count) for share in (0.6, 0.7, 0.8)]
    borders = [(start, decided[start]) for start in starts if start < count]
    kept = set(np.concatenate(list(split_in_time(decided, exits, horizon).blocks().values())).tolist())
    for row in range(count):
        reaches = any(row < start and exits[row] >= border for start, border in borders)
        embargoed = any(row >= start and decided[row] < border + horizon for start, border in borders)
        assert (row in kept) == (not reaches and not embargoed)


def test_shares_without_overlap() -> None:
    decided = np.arange(0, 10_000, 10, dtype=np.int64)
    split = split_in_time(decided, decided + 1, 1)
    assert [len(block) for block in split.blocks().values()] == [600, 99, 99, 199]
    assert split.embargoed == 3
    assert all(earlier[-1] < later[0] for earlier, later in pairwise(split.blocks().values()))


def test_small_blocks_are_refused() -> None:
    decided = np.arange(0, 10_000, 10, dtype=np.int64)
    refuse_small_blocks(split_in_time(decided, decided + 200, 200), {})
    with pytest.raises(Refused, match="early stopping block keeps") as refused:
        refuse_small_blocks(split_in_time(decided, decided + 400, 400), {"rows": 1000})
    assert refused.value.code == "block_too_small"
    assert refused.value.report == {"rows": 1000}


def test_one_class_in_a_block_is_refused() -> None:
    decided = np.arange(0, 10_000, 10, dtype=np.int64)
    split = split_in_time(decided, decided + 1, 1)
    labels = (np.arange(1000) % 2).astype(np.int8)
    refuse_one_class(labels, split, {})
    labels[split.calibration] = 0
    with pytest.raises(Refused, match="calibration block are losses"):
        refuse_one_class(labels, split, {})
