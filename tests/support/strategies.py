"""Hypothesis strategies for what arrives from outside and what becomes of it, as a small library."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import OrderStatus, Side
from model_service.market.snapshot import Bar
from model_service.trades.labels import Barriers, Entry
from model_service.trades.ledger import Fill

MOMENT = datetime(2026, 11, 23, 15, 52, tzinfo=UTC)

SIDES = st.sampled_from(Side)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["NaN", "1e999999", "0E-99999", "-1", "", "\x00", "\ud800", "buy", "filled"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value, with those that break parsers more often than chance would have it."""


def decimals(least: str, most: str, places: int = 8) -> st.SearchStrategy[Decimal]:
    """Decimals between two bounds, in steps of 10^-places."""
    return st.decimals(Decimal(least), Decimal(most), allow_nan=False, allow_infinity=False, places=places)


@st.composite
def mutations(draw: st.DrawFn, bodies: Sequence[Mapping[str, Any]]) -> bytes:
    """One of `bodies` with one to three members replaced or removed, at any depth, and sometimes with broken bytes."""
    body = json.loads(json.dumps(draw(st.sampled_from(bodies))))
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, body)
    encoded = json.dumps(body).encode()
    if draw(st.booleans()):
        return encoded
    at = draw(st.integers(0, len(encoded) - 1))
    return encoded[:at] + draw(st.binary(max_size=3)) + encoded[at + draw(st.integers(0, 3)) :]


def _mutate(draw: st.DrawFn, obj: dict[str, Any]) -> None:
    if not obj:
        return
    key = draw(st.sampled_from(sorted(obj)))
    if isinstance(obj[key], dict) and draw(st.integers(0, 3)):
        _mutate(draw, obj[key])
    elif draw(st.integers(0, 3)):
        obj[key] = draw(JSON_VALUES)
    else:
        del obj[key]


@dataclass(frozen=True)
class OrderHistory:
    """A shuffled, incomplete but sufficient set of reports about one order, and the truth that it tells.

    Attributes:
        observations: increments, each one fill, and checkpoints, each the total after some fill; either all increments
            are here or the last checkpoint is.
        quantity: the true total; likewise fees.
        ends_as: the last checkpoint's status; None when it is not among the observations.
    """

    observations: tuple[Observation, ...]
    quantity: Decimal
    fees: Decimal
    ends_as: OrderStatus | None


@st.composite
def order_histories(draw: st.DrawFn) -> OrderHistory:
    """Orders of one to five fills whose prices lie close together, reported in any mixture and order."""
    fill = st.tuples(decimals("0.001", "5"), decimals("95", "105", 2), decimals("-0.5", "0.5"))
    fills = draw(st.lists(fill, min_size=1, max_size=5))
    end = draw(st.sampled_from([OrderStatus.FILLED, OrderStatus.CANCELLED]))
    increments = [report(index, ObservationKind.INCREMENT, *fill) for index, fill in enumerate(fills)]
    checkpoints = [_total(fills[: count + 1], end, len(fills)) for count in range(len(fills))]
    waiting = [report(99, ObservationKind.CHECKPOINT, Decimal(0), None, Decimal(0), OrderStatus.PENDING)]
    if draw(st.booleans()):
        kept = [*increments, *draw(_some(checkpoints))]
    else:
        kept = [*draw(_some(increments)), *draw(_some(checkpoints[:-1])), checkpoints[-1]]
    observations = draw(st.permutations([*kept, *draw(_some(waiting))]))
    return OrderHistory(
        observations=tuple(observations),
        quantity=sum((quantity for quantity, _, _ in fills), Decimal(0)),
        fees=sum((fees for _, _, fees in fills), Decimal(0)),
        ends_as=end if checkpoints[-1] in kept else None,
    )


def report(
    index: int,
    kind: ObservationKind,
    quantity: Decimal,
    price: Decimal | None,
    fees: Decimal,
    status: OrderStatus = OrderStatus.FILLED,
) -> Observation:
    """An observation of the order `order-1`."""
    return Observation(
        event_id=f"{kind}-{index}",
        kind=kind,
        order_id="order-1",
        signal_id="signal-1",
        asset="BTCUSDT",
        side=Side.BUY,
        status=status,
        quantity=quantity,
        price=price,
        fees=fees,
        executed_at=MOMENT + timedelta(seconds=index),
    )


def _total(fills: Sequence[tuple[Decimal, Decimal, Decimal]], end: OrderStatus, count: int) -> Observation:
    quantity = sum((quantity for quantity, _, _ in fills), Decimal(0))
    notional = sum((quantity * price for quantity, price, _ in fills), Decimal(0))
    fees = sum((fees for _, _, fees in fills), Decimal(0))
    status = end if len(fills) == count else OrderStatus.PARTIALLY_FILLED
    return report(len(fills), ObservationKind.CHECKPOINT, quantity, notional / quantity, fees, status)


def _some(items: Sequence[Observation]) -> st.SearchStrategy[list[Observation]]:
    """Any subset, in order."""
    keep = st.lists(st.booleans(), min_size=len(items), max_size=len(items))
    return keep.map(lambda flags: [item for item, flag in zip(items, flags, strict=True) if flag])


def ledger_fills() -> st.SearchStrategy[list[Fill]]:
    """Up to twelve fills of one book, on both sides: lots close in parts and positions flip through zero."""
    fill = st.builds(
        Fill,
        signal_id=st.integers(1, 2**32).map(lambda number: UUID(int=number)),
        strategy_id=st.just("momentum_v1"),
        asset=st.just("BTCUSDT"),
        side=SIDES,
        # Few sizes, so that exact closings happen often; and some that divide badly.
        quantity=st.sampled_from([Decimal(1), Decimal(2), Decimal(3)]) | decimals("0.00000001", "10"),
        price=decimals("0.00000001", "100000"),
        fees=decimals("-5", "5"),
        executed_at=st.just(MOMENT),
    )
    return st.lists(fill, max_size=12)


PRICES = st.integers(180, 220).map(lambda halves: halves / 2.0)
"""90 to 110 in steps of a half: exact in binary, and likely to hit barriers exactly."""


@st.composite
def bars(draw: st.DrawFn, start: datetime, seconds: int = 60) -> Bar:
    """One bar whose high and low hold its open and close."""
    opened, closed, one, other = (draw(PRICES) for _ in range(4))
    low, high = min(opened, closed, one, other), max(opened, closed, one, other)
    return Bar(start, start + timedelta(seconds=seconds), opened, high, low, closed, 1.0)


@st.composite
def paths(draw: st.DrawFn, count: int = 12) -> list[Bar]:
    """`count` one-minute bars without a gap, from MOMENT on."""
    return [draw(bars(MOMENT + timedelta(minutes=index))) for index in range(count)]


def entries(side: st.SearchStrategy[Side] = SIDES) -> st.SearchStrategy[Entry]:
    """Entries at 100, at the start of or inside one of the first two minutes after MOMENT."""
    return st.builds(
        Entry,
        side=side,
        at=st.sampled_from([0, 1, 30, 60, 61]).map(lambda seconds: MOMENT + timedelta(seconds=seconds)),
        price=st.just(Decimal(100)),
        quantity=decimals("0.5", "3", 3),
        fees=decimals("-0.2", "0.2", 4),
    )


def barriers(*, both: bool = False) -> st.SearchStrategy[Barriers]:
    """Barriers near 100, each absent at times unless `both`; a horizon of one to eight minutes, not always whole."""
    present = st.sampled_from([0.5, 1.0, 2.5, 5.0])
    distance = present if both else st.none() | present
    horizon = st.integers(60, 480).map(lambda seconds: timedelta(seconds=seconds))
    return st.builds(Barriers, take_profit_percent=distance, stop_loss_percent=distance, horizon=horizon)
