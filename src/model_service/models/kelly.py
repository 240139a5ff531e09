"""Kelly's share of the capital on a lower bound of the probability, and from which probability on it is large enough.

A share here is of the capital as notional, as though a loss took all of it: far under what would make the capital grow
fastest, since a loss takes a part of a percent [Kelly 1956; the fraction of it: Thorp 2006].
"""

from __future__ import annotations

import math
from itertools import pairwise

from model_service.models.calibration import Calibration


def odds(calibration: Calibration) -> float:
    """b, what a win returns for each unit that a loss takes: 0 when wins win nothing, infinite when losses take none.

    Example:
        >>> odds(Calibration("constant", 0.5, 0.03, -0.02, 100))
        1.5
    """
    if calibration.mean_return_of_wins <= 0:
        return 0.0
    if calibration.mean_return_of_losses >= 0:
        return math.inf
    return calibration.mean_return_of_wins / -calibration.mean_return_of_losses


def kelly_share(probability: float, odds: float) -> float:
    """f* = p - (1 - p) / b, at least 0.

    Example:
        >>> kelly_share(0.6, 1.0), kelly_share(0.4, 1.0), kelly_share(0.6, 0.0)
        (0.19999999999999996, 0.0, 0.0)
    """
    return max(0.0, probability - (1.0 - probability) / odds) if odds > 0 else 0.0


def kelly_floor(calibration: Calibration, least_share: float) -> float:
    """The least probability whose lower bound gives a share of at least `least_share`; infinite when none does.

    0 where no bounds are known: such a version stakes the least amount instead (`policies.sizing`).
    """
    if not calibration.bound_probabilities:
        return 0.0
    ratio = odds(calibration)
    if ratio <= 0:
        return math.inf
    needed = (least_share + 1.0 / ratio) / (1.0 + 1.0 / ratio)
    return max(needed, _first_with_bound(calibration, needed))


def _first_with_bound(calibration: Calibration, needed: float) -> float:
    bounds = list(zip(calibration.bound_probabilities, calibration.lower_bounds, strict=True))
    if bounds[0][1] >= needed:
        return 0.0
    for (left, under), (right, over) in pairwise(bounds):
        if over >= needed:
            return left + (needed - under) / (over - under) * (right - left)
    return math.inf
