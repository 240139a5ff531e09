"""Policy-free labels: whether opening here was good, judged by the price path and not by what the policy did later.

Triple-barrier method, Lopez de Prado, Advances in Financial Machine Learning, 2018, chapter 3. The rule in full:

- A path is bars [start, end). Bars that end by the entry do not count. A bar that straddles the entry counts as one
  price, its close, known at its end. Bars that start at or after the entry and end by entry + H are judged by high
  and low.
- A bar that reaches both barriers counts as the stop. Barrier exits happen at the barrier's price, at the end of that
  bar.
- The horizon mark is the close of the first bar that ends at or after entry + H, less (buy) or plus (sell) half the
  spread.
- Nothing is known before the horizon mark is, not even after an early touch: else quick exits would dominate recent
  rows.
- Gaps: a label uses the bars that exist, but the horizon mark must be near (`mark_deadline`), touched barrier or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from model_service.contracts.types import Side
from model_service.market.snapshot import Bar

MARK_SLACK_BARS = 3
MARK_SLACK_SHARE = 0.1


class ExitRule(StrEnum):
    """What ended a labelled trade."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    HORIZON = "horizon"
    REPORTED = "reported"


EXIT_RULE_CODES = {rule: code for code, rule in enumerate(ExitRule)}
"""Exit rules as small numbers, as samples carry them: the order of the declaration, which is only ever added to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry fills of one signal, as one.

    Attributes:
        at: time of the first entry fill, aware UTC.
        price: quantity-weighted mean, quote per base.
        quantity: base units.
        fees: the real ones, quote currency; negative for a rebate.

    Raises:
        ValueError: when price or quantity is not above 0.
    """

    side: Side
    at: datetime
    price: Decimal
    quantity: Decimal
    fees: Decimal

    def __post_init__(self) -> None:
        if self.price <= 0 or self.quantity <= 0:
            raise ValueError(f"An entry has price and quantity above 0, not {self.quantity} at {self.price}.")

    @property
    def notional(self) -> Decimal:
        """Quote currency."""
        return self.price * self.quantity


@dataclass(frozen=True, slots=True)
class Barriers:
    """Distances in percent of the entry price, both positive; None means that the barrier does not exist.

    Raises:
        ValueError: when the horizon or a distance is not above 0.
    """

    take_profit_percent: float | None
    stop_loss_percent: float | None
    horizon: timedelta

    def __post_init__(self) -> None:
        if self.horizon <= timedelta(0):
            raise ValueError(f"horizon is {self.horizon}; it must be above 0.")
        for name in ("take_profit_percent", "stop_loss_percent"):
            distance = getattr(self, name)
            if distance is not None and not 0.0 < distance < math.inf:
                raise ValueError(f"{name} is {distance}; a finite number above 0, or None for no barrier, is allowed.")


@dataclass(frozen=True, slots=True)
class Label:
    """The outcome of an opening.

    Attributes:
        exit_price: quote per base.
        fees: entry and exit, quote currency.
        net_return: side * (exit / entry - 1) - fees / entry notional; a fraction.
        label: 1 if net_return is above the minimum, else 0.
    """

    exit_at: datetime
    exit_price: Decimal
    exit_rule: ExitRule
    fees: Decimal
    net_return: float
    label: int


class Unlabellable(Exception):  # noqa: N818 - it names the state of the signal, which the caller records
    """This opening will never have a label; the message says why."""


class PathBroken(Unlabellable):
    """No price is known near entry + H.

    Raised also when a barrier was touched before: whether a row is dropped must not depend on its outcome.
    """


class ImpossibleReturn(Unlabellable):
    """A reported return that no positive exit price gives."""


def label_opening(
    entry: Entry,
    barriers: Barriers,
    path: Sequence[Bar],
    *,
    half_spread_percent: float,
    exit_fee_rate: float,
    minimum_net_return: float,
) -> Label | None:
    """The triple-barrier label of `entry` on `path`.

    Args:
        path: bars in order of time, with gaps or without, beyond `mark_deadline` where there are any: only a bar
            shows that time has passed.
        half_spread_percent: half of (ask - bid) / mid * 100, taken from the horizon mark.
        exit_fee_rate: fraction of the exit's notional.
        minimum_net_return: fraction; the label is 1 above it.

    Returns:
        None while no bar reaches entry + H.

    Raises:
        PathBroken: when the first bar that reaches entry + H ends after `mark_deadline`.
        ValueError: when the spread or the fee rate is not a finite number, or the spread is negative.

    >>> from datetime import UTC
    >>> at = datetime(2025, 1, 27, 10, tzinfo=UTC)
    >>> entry = Entry(Side.BUY, at, Decimal(100), Decimal(1), fees=Decimal("0.05"))
    >>> bar = Bar(at, at + timedelta(minutes=1), 100.0, 102.0, 99.5, 101.0, 7.0)
    >>> label = label_opening(entry, Barriers(1.5, 1.0, timedelta(minutes=1)), [bar],
    ...                       half_spread_percent=0.0, exit_fee_rate=0.0, minimum_net_return=0.0)
    >>> label.exit_rule.value, str(label.exit_price), label.net_return
    ('take_profit', '101.500', 0.0145)
    """
    _check_costs(half_spread_percent, exit_fee_rate)
    mark = _horizon_mark(entry, barriers, path)
    if mark is None:
        return None
    exit_at, price, rule = _first_touch(entry, barriers, path) or _at_horizon(entry, mark, half_spread_percent)
    fees = entry.fees + _exact(exit_fee_rate) * price * entry.quantity
    return _label(entry, exit_at, price, rule, fees, minimum_net_return)


def opposite_entry(entry: Entry, half_spread_percent: float) -> Entry:
    """The entry that the other side would have had at the same moment, for off-policy values (METHOD 8, condition 5).

    Who buys pays the ask, m (1 + h), who sells gets the bid, m (1 - h), with m the middle and h half the spread as a
    fraction. So the other side enters one whole spread away, at price * (1 - side h) / (1 + side h), with the same
    quantity, and pays the same share of its notional as fees. What `label_opening` says of this entry, with the same
    barriers, path, spread and fee rate, is what the side that was not chosen would have earned. Going to the other side
    twice leads back.

    Raises:
        ValueError: when the spread is not a number from 0 to below 100 percent.

    >>> from datetime import UTC
    >>> at = datetime(2025, 1, 27, 10, tzinfo=UTC)
    >>> bought = Entry(Side.BUY, at, Decimal("100.1"), Decimal(1), fees=Decimal("0.05005"))
    >>> sold = opposite_entry(bought, half_spread_percent=0.1)
    >>> sold.side.value, float(sold.price), float(sold.fees)
    ('sell', 99.9, 0.04995)
    """
    _check_spread(half_spread_percent)
    cost = entry.side.sign * _exact(half_spread_percent) / 100
    share = (1 - cost) / (1 + cost)
    return Entry(entry.side.opposite, entry.at, entry.price * share, entry.quantity, entry.fees * share)


def mark_deadline(entry_at: datetime, horizon: timedelta, bar_length: timedelta) -> datetime:
    """The last moment at which the bar of the horizon mark may end: entry + H + the larger of 3 bars and 10 % of H.

    A caller that still gets None from `label_opening` well after this moment may give the opening up.
    """
    return entry_at + horizon + max(MARK_SLACK_BARS * bar_length, MARK_SLACK_SHARE * horizon)


def label_reported(entry: Entry, reported_return: Decimal, closed_at: datetime, minimum_net_return: float) -> Label:
    """The label of an opening whose price path is unknown, by the return that the closing execution reported.

    Args:
        reported_return: net, a fraction (`performance.return_percent` is one in spite of its name).
        closed_at: execution time of the closing fill; it counts as the entry's time where foreign clocks put it before.

    Raises:
        ImpossibleReturn: when no positive exit price gives this return after the entry's fees.
    """
    gross = reported_return + entry.fees / entry.notional
    price = entry.price * (1 + entry.side.sign * gross)
    if not 0 < price < math.inf:
        raise ImpossibleReturn(
            f"The reported return is {reported_return} of a {entry.side.value}; it implies an exit price of {price}."
        )
    net_return = float(reported_return)
    return Label(
        exit_at=max(closed_at, entry.at),
        exit_price=price,
        exit_rule=ExitRule.REPORTED,
        fees=entry.fees,
        net_return=net_return,
        label=int(net_return > minimum_net_return),
    )


def _label(
    entry: Entry, exit_at: datetime, price: Decimal, rule: ExitRule, fees: Decimal, minimum_net_return: float
) -> Label:
    net_return = float(entry.side.sign * (price / entry.price - 1) - fees / entry.notional)
    return Label(exit_at, price, rule, fees, net_return, int(net_return > minimum_net_return))


def _horizon_mark(entry: Entry, barriers: Barriers, path: Sequence[Bar]) -> Bar | None:
    due = entry.at + barriers.horizon
    mark = next((bar for bar in path if bar.end >= due), None)
    if mark is None:
        return None
    deadline = mark_deadline(entry.at, barriers.horizon, mark.end - mark.start)
    if mark.end > deadline:
        raise PathBroken(f"The first bar after {due} ends at {mark.end}; it must end by {deadline}.")
    if not 0.0 < mark.close < math.inf:
        raise PathBroken(f"The bar that ends at {mark.end} closes at {mark.close}, which is no price.")
    return mark


def _at_horizon(entry: Entry, mark: Bar, half_spread_percent: float) -> tuple[datetime, Decimal, ExitRule]:
    cost = entry.side.sign * _exact(half_spread_percent) / 100
    return mark.end, _exact(mark.close) * (1 - cost), ExitRule.HORIZON


def _first_touch(entry: Entry, barriers: Barriers, path: Sequence[Bar]) -> tuple[datetime, Decimal, ExitRule] | None:
    take_profit = _barrier_price(entry, barriers.take_profit_percent, entry.side.sign)
    stop_loss = _barrier_price(entry, barriers.stop_loss_percent, -entry.side.sign)
    for end, low, high in _judged(entry.at, entry.at + barriers.horizon, path):
        best, worst = (high, low) if entry.side is Side.BUY else (low, high)
        if stop_loss is not None and _is_beyond(worst, stop_loss, -entry.side.sign):
            return end, stop_loss, ExitRule.STOP_LOSS
        if take_profit is not None and _is_beyond(best, take_profit, entry.side.sign):
            return end, take_profit, ExitRule.TAKE_PROFIT
    return None


def _judged(start: datetime, due: datetime, path: Sequence[Bar]) -> Iterator[tuple[datetime, float, float]]:
    """End, low and high of what each bar says about (start, due]."""
    for bar in path:
        if bar.end <= start or bar.end > due:
            continue
        if bar.start < start:
            # Its extremes may lie before the entry; its close does not.
            yield bar.end, bar.close, bar.close
        else:
            yield bar.end, bar.low, bar.high


def _barrier_price(entry: Entry, distance_percent: float | None, direction: int) -> Decimal | None:
    """The price `distance_percent` above (direction +1) or below (-1) the entry."""
    if distance_percent is None:
        return None
    return entry.price * (1 + direction * _exact(distance_percent) / 100)


def _is_beyond(price: float, barrier: Decimal, direction: int) -> bool:
    return direction * price >= direction * float(barrier)


def _check_costs(half_spread_percent: float, exit_fee_rate: float) -> None:
    _check_spread(half_spread_percent)
    if not math.isfinite(exit_fee_rate):
        raise ValueError(f"exit_fee_rate is {exit_fee_rate}; a finite fraction is allowed.")


def _check_spread(half_spread_percent: float) -> None:
    if not 0.0 <= half_spread_percent < 100.0:
        raise ValueError(f"half_spread_percent is {half_spread_percent}; from 0 to below 100 is allowed.")


def _exact(value: float) -> Decimal:
    """The decimal number that the float was written as."""
    return Decimal(repr(float(value)))
