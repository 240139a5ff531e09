"""Execution reports: both shapes are read, and whatever else arrives is refused with a reason and nothing worse."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.contracts.execution_decoder import MAX_BODY_BYTES, decode_execution
from model_service.contracts.executions import Observation, ObservationKind
from model_service.contracts.types import InvalidMessage, OrderStatus, Side
from tests.support.strategies import mutations

REAL_EVENTS = Path(__file__).parents[2].parent / "shared" / "samples" / "order-events.jsonl"

NOW = datetime(2026, 11, 25, tzinfo=UTC)

FLAT: dict[str, Any] = {
    "event_id": "test-event-001",
    "order_id": "order-7",
    "signal_id": "5d6f5f0e-52b5-4a51-8c6c-2a8f2f0e4b11",
    "strategy_id": "momentum_v1",
    "asset": "ethusdt",
    "side": "buy",
    "execution_price": 3012.55,
    "execution_quantity": 0.1,
    "execution_fees": 0.1656,
    "executed_at": "2026-11-23T10:00:05Z",
    "signal_price": 3010.0,
    "signal_timestamp": "2026-11-23T10:00:00Z",
    "market_conditions": {"spread": 0.01, "volume_24h": 1000000.0, "volatility": 0.02},
    "performance": {"slippage": 2.55, "slippage_percent": 0.08, "realized_pnl": 3.0, "return_percent": 0.01},
    "trace_id": "trace-1",
}

NESTED: dict[str, Any] = {
    "event_id": "9b1c1d9e-2e0f-4b76-8d61-0b6f8f6c7a01",
    "event_type": "partially_filled",
    "timestamp": "2026-11-23T15:52:40.748422",
    "trace_id": "gateway-1",
    "order": {
        "id": "row-1",
        "order_id": "exchange-1",
        "signal_id": "signal-1",
        "asset": "BTCUSDT",
        "side": "SELL",
        "order_type": "Market",
        "quantity": "0.00200000",
        "price": None,
        "status": "partially_filled",
        "filled_quantity": "0.00100000",
        "average_price": "50001.50000000",
        "fees": "-0.01250000",
        "created_at": "2026-11-23T15:52:37.932988",
        "updated_at": "2026-11-23T15:52:40.739272",
        "executed_at": None,
        "is_dry_run": True,
    },
    "execution_details": {
        "execution_latency_seconds": None,
        "fill_percentage": 50.0,
        "remaining_quantity": "0.00100000",
    },
    "market_conditions": {"price": 50001.5, "timestamp": "2026-11-23T15:52:40.737101"},
}

REJECTED: dict[str, Any] = {
    "event_id": "event-9",
    "event_type": "rejected",
    "timestamp": "2026-11-23T15:52:36.335632",
    "order": {
        "order_id": "REJECTED-signal-9",
        "signal_id": "signal-9",
        "asset": "SOLUSDT",
        "side": "Buy",
        "filled_quantity": "0E-8",
        "average_price": None,
        "fees": None,
        "executed_at": None,
        "is_dry_run": False,
    },
    "rejection_reason": "Risk limit exceeded",
    "signal": {"signal_id": "signal-9", "strategy_id": "momentum_v1", "is_warmup": True},
}

SAMPLES = (FLAT, NESTED, REJECTED)


def decode(body: Mapping[str, Any]) -> Observation:
    return decode_execution(json.dumps(body).encode(), NOW)


def with_member(body: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `body` with the member at the dotted `path` replaced."""
    copy: dict[str, Any] = json.loads(json.dumps(body))
    *parents, last = path.split(".")
    target = copy
    for parent in parents:
        target = target[parent]
    target[last] = value
    return copy


def without_member(body: Mapping[str, Any], path: str) -> dict[str, Any]:
    copy = with_member(body, path, None)
    *parents, last = path.split(".")
    target = copy
    for parent in parents:
        target = target[parent]
    del target[last]
    return copy


def refusal(body: bytes | Mapping[str, Any]) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        decode_execution(body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)
    return caught.value


def test_flat_event_is_one_fill() -> None:
    assert decode(FLAT) == Observation(
        event_id="test-event-001",
        kind=ObservationKind.INCREMENT,
        order_id="order-7",
        signal_id="5d6f5f0e-52b5-4a51-8c6c-2a8f2f0e4b11",
        asset="ETHUSDT",
        side=Side.BUY,
        status=OrderStatus.FILLED,
        quantity=Decimal("0.1"),
        price=Decimal("3012.55"),
        fees=Decimal("0.1656"),
        executed_at=datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC),
        strategy_id="momentum_v1",
        signal_price=Decimal("3010.0"),
        reported_return=Decimal("0.01"),
        trace_id="trace-1",
    )


def test_nested_event_is_a_total() -> None:
    assert decode(NESTED) == Observation(
        event_id="9b1c1d9e-2e0f-4b76-8d61-0b6f8f6c7a01",
        kind=ObservationKind.CHECKPOINT,
        order_id="exchange-1",
        signal_id="signal-1",
        asset="BTCUSDT",
        side=Side.SELL,
        status=OrderStatus.PARTIALLY_FILLED,
        quantity=Decimal("0.001"),
        price=Decimal("50001.5"),
        fees=Decimal("-0.0125"),
        executed_at=datetime(2026, 11, 23, 15, 52, 40, 748422, tzinfo=UTC),
        is_dry_run=True,
        trace_id="gateway-1",
        other_order_id="row-1",
    )


def test_rejection_carries_its_reason_and_strategy() -> None:
    observation = decode(REJECTED)
    assert (observation.status, observation.quantity, observation.price) == (OrderStatus.REJECTED, Decimal(0), None)
    assert observation.rejection_reason == "Risk limit exceeded"
    assert observation.strategy_id == "momentum_v1"


def test_long_reason_is_cut_not_refused() -> None:
    reason = decode(with_member(REJECTED, "rejection_reason", "x" * 5000)).rejection_reason
    assert reason == "x" * 1000


def test_time_of_execution_is_the_orders_own_where_it_has_one() -> None:
    body = with_member(NESTED, "order.executed_at", "2026-11-23T15:52:39.5")
    assert decode(body).executed_at == datetime(2026, 11, 23, 15, 52, 39, 500000, tzinfo=UTC)


@pytest.mark.parametrize(("written", "side"), [("buy", Side.BUY), ("Buy", Side.BUY), ("SELL", Side.SELL)])
def test_side_in_any_case(written: str, side: Side) -> None:
    assert decode(with_member(NESTED, "order.side", written)).side is side
    assert decode(with_member(FLAT, "side", written)).side is side


@pytest.mark.parametrize("written", ['"0.1"', "0.1", "1e-1"])
def test_decimals_as_strings_or_numbers_lose_no_digit(written: str) -> None:
    body = json.dumps(with_member(FLAT, "execution_quantity", "?")).replace('"?"', written)
    assert decode_execution(body.encode(), NOW).quantity == Decimal("0.1")


def test_zero_of_any_exponent_becomes_a_plain_zero() -> None:
    assert str(decode(with_member(NESTED, "order.fees", "-0E-9999")).fees) == "0"


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        *((FLAT, path) for path in ("event_id", "order_id", "signal_id", "asset", "side", "execution_price")),
        *((FLAT, path) for path in ("execution_quantity", "execution_fees", "executed_at")),
        *((NESTED, path) for path in ("event_id", "event_type", "timestamp", "order.order_id", "order.signal_id")),
        *((NESTED, path) for path in ("order.asset", "order.side", "order.filled_quantity", "order.average_price")),
    ],
)
def test_missing_members_are_named(sample: dict[str, Any], path: str) -> None:
    for body in (without_member(sample, path), with_member(sample, path, None)):
        error = refusal(body)
        assert (error.code, error.field) == ("missing_field", path)


@pytest.mark.parametrize(
    ("sample", "path", "value"),
    [
        (FLAT, "execution_quantity", 0),
        (FLAT, "execution_quantity", -0.1),
        (FLAT, "execution_quantity", "NaN"),
        (FLAT, "execution_quantity", True),
        (FLAT, "execution_price", 0),
        (FLAT, "execution_price", "Infinity"),
        (FLAT, "execution_price", "1e999999"),
        (FLAT, "execution_fees", "much"),
        (FLAT, "side", "hold"),
        (FLAT, "side", 1),
        (FLAT, "event_id", ""),
        (FLAT, "event_id", 17),
        (FLAT, "signal_id", "x" * 201),
        (FLAT, "order_id", "a\x00b"),
        (FLAT, "asset", "x" * 51),
        (FLAT, "executed_at", "yesterday"),
        (FLAT, "signal_price", -1),
        (FLAT, "performance", []),
        (FLAT, "performance.return_percent", "NaN"),
        (FLAT, "trace_id", ["t"]),
        (NESTED, "event_type", "created"),
        (NESTED, "event_type", "dry_run"),
        (NESTED, "event_type", ["filled"]),
        (NESTED, "order.filled_quantity", "-0.001"),
        (NESTED, "order.filled_quantity", "0E-8"),
        (NESTED, "order.average_price", "0"),
        (NESTED, "order.average_price", "-50001.5"),
        (NESTED, "order.fees", {}),
        (NESTED, "order.is_dry_run", "yes"),
        (NESTED, "timestamp", "2026-13-01T00:00:00"),
        (REJECTED, "rejection_reason", 5),
        (REJECTED, "signal", "momentum_v1"),
    ],
)
def test_invalid_values_are_refused_where_they_stand(sample: dict[str, Any], path: str, value: Any) -> None:
    error = refusal(with_member(sample, path, value))
    assert (error.code, error.field) == ("invalid_value", path)


@pytest.mark.parametrize(
    ("sample", "path"),
    [(FLAT, "executed_at"), (NESTED, "order.executed_at"), (REJECTED, "timestamp")],
    ids=["flat", "nested", "the event's own time"],
)
@pytest.mark.parametrize("moment", ["2026-11-25T00:05:00.001", "2199-01-01", "1969-12-31T23:59:59", "1970-01-01"])
def test_a_time_in_the_future_or_before_2000_is_refused(sample: dict[str, Any], path: str, moment: str) -> None:
    error = refusal(with_member(sample, path, moment))
    assert (error.code, error.field) == ("invalid_value", path)
    assert decode(with_member(sample, path, "2026-11-25T00:05:00")).executed_at == NOW + timedelta(minutes=5)


def test_a_filled_order_has_a_quantity() -> None:
    error = refusal(with_member(with_member(NESTED, "event_type", "filled"), "order.filled_quantity", "0"))
    assert error.field == "order.filled_quantity"
    assert "filled" in error.detail


def test_a_cancelled_order_may_have_filled_in_part() -> None:
    observation = decode(with_member(NESTED, "event_type", "cancelled"))
    assert (observation.status, observation.quantity) == (OrderStatus.CANCELLED, Decimal("0.001"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe\xfa", "invalid_json"),
        (b'{"event_id": "\xc3\x28"}', "invalid_json"),
        (b'{"execution_price": NaN}', "invalid_json"),
        (b'{"order":' * 100_000, "invalid_json"),
        (b'{"execution_price": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b"[]", "invalid_value"),
        (b"null", "invalid_value"),
        (b"{}", "unknown_shape"),
        (b'{"order": "order-1"}', "unknown_shape"),
        (b" " * (MAX_BODY_BYTES + 1), "too_large"),
    ],
)
def test_what_is_no_execution_event_is_refused(body: bytes, code: str) -> None:
    assert refusal(body).code == code


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_refused_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_execution(body, NOW)


@given(mutations(SAMPLES))
def test_mutated_events_are_read_or_refused(body: bytes) -> None:
    assert_read_or_refused(body)


def test_the_real_events_are_read() -> None:
    observations = [decode(event) for event in real_events()]
    assert [observation.status.value for observation in observations] == [
        "rejected", "pending", "partially_filled", "filled", "cancelled", "rejected", "filled", "cancelled",
    ]  # fmt: skip
    assert observations[0].order_id == "REJECTED-878c2596-3485-44b5-acf7-fab2da3af121"
    assert observations[0].strategy_id == "momentum_v1"
    partial, filled, rebate = observations[2], observations[3], observations[6]
    assert partial.order_id == filled.order_id == "DRY-RUN-8b3f4639-9c86-4ac8-9dc7-2513b3dc9245"
    assert (partial.quantity, filled.quantity) == (Decimal("0.001"), Decimal("0.002"))
    assert (filled.price, filled.fees) == (Decimal("50002.25"), Decimal("0.055"))
    assert filled.executed_at == datetime(2026, 11, 23, 15, 52, 43, 154594, tzinfo=UTC)
    assert (rebate.side, rebate.fees) == (Side.SELL, Decimal("-0.0125"))


@given(st.data())
def test_mutated_real_events_are_read_or_refused(data: st.DataObject) -> None:
    assert_read_or_refused(data.draw(mutations(real_events())))


def real_events() -> list[dict[str, Any]]:
    if not REAL_EVENTS.exists():
        message = f"The real order events are not at {REAL_EVENTS}."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return [json.loads(line) for line in REAL_EVENTS.read_text().splitlines()]


def assert_read_or_refused(body: bytes) -> None:
    try:
        observation = decode_execution(body, NOW)
    except InvalidMessage as error:
        reason = str(error)
    else:
        assert_is_sound(observation)
        return
    assert ": " in reason


def assert_is_sound(observation: Observation) -> None:
    assert observation.quantity.is_finite()
    assert observation.quantity >= 0
    assert observation.price is None or observation.price > 0
    assert (observation.price is None) == (observation.quantity == 0)
    assert observation.fees.is_finite()
    assert observation.executed_at.utcoffset() is not None
    assert "\x00" not in observation.event_id + observation.order_id + observation.signal_id
