"""The triple-barrier label of many openings at once: `trades.labels.label_opening` as arrays (METHOD 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.trades.labels import EXIT_RULE_CODES, MARK_SLACK_BARS, MARK_SLACK_SHARE, ExitRule
from studies.bars import Bars

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What a label depends on beside the path; `fee_rate` is charged on entry and exit, barriers are fractions."""

    horizon_seconds: int
    take_profit: float
    stop_loss: float
    fee_rate: float


@dataclass(frozen=True)
class Labels:
    """What became of n openings.

    Attributes:
        known: bool (n,), false where no bar shows the price near entry + H; the rest is then without meaning.
        net_returns: float64 (n,).
        exit_us: int64 (n,), microseconds since 1970.
        exit_rules: int16 (n,), codes of `trades.labels.EXIT_RULE_CODES`.
    """

    known: NDArray[np.bool_]
    net_returns: Floats
    exit_us: NDArray[np.int64]
    exit_rules: NDArray[np.int16]


def entry_prices(mids: Floats, sides: NDArray[np.int8], spreads: Floats) -> Floats:
    """Who buys pays the ask, who sells gets the bid; spreads are fractions of the mid, (n,)."""
    return np.asarray(mids * (1.0 + sides * spreads / 2.0), dtype=np.float64)


def label_openings(
    bars: Bars, at: NDArray[np.int64], sides: NDArray[np.int8], mids: Floats, spreads: Floats, rules: Rules
) -> Labels:
    """Label openings that are filled at once.

    Args:
        at: entry times, seconds since 1970, (n,).
        sides: +1 buy, -1 sell.
        mids: (bid + ask) / 2 at the entry.
        spreads: (ask - bid) / mid at the entry; half of it is also paid at the horizon mark.
    """
    due = at + rules.horizon_seconds
    mark = np.searchsorted(bars.ends, due)
    inside = np.minimum(mark, len(bars) - 1)
    slack = max(MARK_SLACK_BARS * bars.seconds, int(MARK_SLACK_SHARE * rules.horizon_seconds))
    known = (mark < len(bars)) & (bars.ends[inside] <= due + slack)
    entry = entry_prices(mids, sides, spreads)
    touched, bar, price, rule = _first_touch(bars, at, due, sides, entry, rules)
    exits = np.where(touched, price, bars.close[inside] * (1.0 - sides * spreads / 2.0))
    net = sides * (exits / entry - 1.0) - rules.fee_rate * (1.0 + exits / entry)
    return Labels(
        known=known,
        net_returns=net,
        exit_us=bars.ends[np.where(touched, bar, inside)] * 1_000_000,
        exit_rules=np.where(touched, rule, EXIT_RULE_CODES[ExitRule.HORIZON]).astype(np.int16),
    )


def _first_touch(
    bars: Bars,
    at: NDArray[np.int64],
    due: NDArray[np.int64],
    sides: NDArray[np.int8],
    entry: Floats,
    rules: Rules,
) -> tuple[NDArray[np.bool_], NDArray[np.intp], Floats, NDArray[np.int16]]:
    """Whether a barrier was touched, in which bar, at which price and which one; the stop where a bar holds both."""
    first = np.searchsorted(bars.ends, at, side="right")
    after = np.searchsorted(bars.ends, due, side="right")
    width = int(np.max(after - first, initial=0))
    index = first[:, None] + np.arange(max(width, 1))
    judged = index < after[:, None]
    index = np.minimum(index, len(bars) - 1)
    high, low = bars.high[index], bars.low[index]
    straddles = bars.ends[index[:, 0]] - bars.seconds < at
    high[straddles, 0] = low[straddles, 0] = bars.close[index[straddles, 0]]
    buys = (sides > 0)[:, None]
    stop, take = entry * (1.0 - sides * rules.stop_loss), entry * (1.0 + sides * rules.take_profit)
    stopped = judged & np.where(buys, low <= stop[:, None], high >= stop[:, None])
    taken = judged & np.where(buys, high >= take[:, None], low <= take[:, None])
    touched = stopped | taken
    which = np.argmax(touched, axis=1)
    rows = np.arange(len(at))
    is_stop = stopped[rows, which]
    rule = np.where(is_stop, EXIT_RULE_CODES[ExitRule.STOP_LOSS], EXIT_RULE_CODES[ExitRule.TAKE_PROFIT])
    return touched[rows, which], index[rows, which], np.where(is_stop, stop, take), rule.astype(np.int16)
