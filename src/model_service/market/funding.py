"""What holding a perpetual contract costs at its funding times."""

from __future__ import annotations

import math

DEFAULT_INTERVAL_SECONDS = 8 * 3600.0
"""Between two funding times of most contracts."""


def funding_cost_percent(
    rate: float,
    seconds_to_funding: float,
    horizon_seconds: float,
    interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
) -> float:
    """What a long position that is opened now and held for the horizon is expected to pay, percent of its value.

    At each funding time longs pay the rate times the position's value to shorts, who pay it where it is negative; who
    is flat then pays nothing. So a short pays the negative of this. Taken at the rate and the price of now: the rate of
    the next funding time moves until then, and that of later ones is not known.

    Source: Bybit's help, "Introduction to Funding Rate": funding fee = position value * funding rate.

    Args:
        rate: of the next funding time, a fraction.
        seconds_to_funding: until it.
        horizon_seconds: how long the position is held.
        interval_seconds: from one funding time to the next.

    Returns:
        Percent; above 0 the long pays. 0 when no funding time lies within the horizon; NaN while one of the numbers is
        unknown, or the next funding time has passed and the following one has not been told.

    >>> funding_cost_percent(0.0001, 600.0, 900.0)
    0.01
    >>> funding_cost_percent(0.0001, 1200.0, 900.0)
    0.0
    """
    if not (math.isfinite(rate) and seconds_to_funding >= 0.0 and horizon_seconds >= 0.0 and interval_seconds > 0.0):
        return math.nan
    if seconds_to_funding > horizon_seconds:
        return 0.0
    times = 1 + math.floor((horizon_seconds - seconds_to_funding) / interval_seconds)
    return 100.0 * rate * times
