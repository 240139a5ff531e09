"""When a model acts, and on which side: one rule for the live policy and for the evaluation that judges it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def action_floor(break_even: float, action_threshold: float) -> float:
    """The calibrated probability from which a model acts: max(0.5, break-even, the strategy's threshold) (METHOD 8)."""
    return max(0.5, break_even, action_threshold)


def would_take(
    own: NDArray[np.float64], other: NDArray[np.float64], side_signs: NDArray[np.int8], floor: float
) -> NDArray[np.bool_]:
    """Whether the model would act on each row's side: it reaches the floor and is the better one; of equal sides, buy.

    Args:
        own: calibrated probability of the row's side, (n,).
        other: of the opposite side, (n,).
        side_signs: +1 for rows of a buy, -1 for rows of a sell, (n,).
    """
    better = (own > other) | ((own == other) & (side_signs > 0))
    taken: NDArray[np.bool_] = (own >= floor) & better
    return taken


def chosen_sign(buy: float, sell: float, floor: float) -> int:
    """As `would_take`, for one decision: 1 to buy, -1 to sell, 0 for neither."""
    if buy >= sell:
        return 1 if buy >= floor else 0
    return -1 if sell > buy and sell >= floor else 0


def chosen_sides(
    own: NDArray[np.float64], other: NDArray[np.float64], side_signs: NDArray[np.int8], floor: float
) -> NDArray[np.int8]:
    """The side that the model would act on for each row: +1 buy, -1 sell, 0 none, int8 (n,). As `would_take`."""
    acts_own = would_take(own, other, side_signs, floor)
    acts_other = would_take(other, own, (-side_signs).astype(np.int8), floor)
    return (side_signs * (acts_own.astype(np.int8) - acts_other.astype(np.int8))).astype(np.int8)
