"""The paper order-manager: what it answers, in the shape of the real one, whatever the order of arrival."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from model_service.demo.feed import MarketStep, Quote
from model_service.demo.paper_orders import PaperOrders, PaperRules

NOW = datetime(2026, 1, 5, tzinfo=UTC)
QUEUE = "order-manager.execution_events"
LATER = NOW + timedelta(seconds=10)


class FixedFeed:
    """One asset that stands still."""

    assets = ("BTCUSDT",)
    start = NOW

    def advance(self) -> MarketStep | None:
        return None

    def quote(self, asset: str) -> Quote | None:
        return Quote(bid=49_997.5, ask=50_002.5) if asset == "BTCUSDT" else None


def signal(index: int = 1, **changes: Any) -> bytes:
    body = {
        "signal_id": str(UUID(int=index, version=4)),
        "signal_type": "buy",
        "asset": "BTCUSDT",
        "amount": 500.0,
        "confidence": 0.6,
        "timestamp": "2026-01-05T00:00:00.000000Z",
        "strategy_id": "momentum_v1",
        "model_version": None,
        "is_warmup": True,
        "market_data_snapshot": {"price": 50_000.0, "spread": 0.01},
        "metadata": {},
        "trace_id": "trace-1",
    }
    return json.dumps(body | changes).encode()


def orders(**rules: float) -> PaperOrders:
    return PaperOrders(FixedFeed(), queue=QUEUE, seed=7, rules=PaperRules(**rules))


def answers(paper: PaperOrders, *signals: bytes, until: datetime = LATER) -> list[dict[str, Any]]:
    for body in signals:
        paper.take(body, NOW)
    return [json.loads(message.body) for message in paper.due(until)]


def test_a_buy_fills_at_the_ask_and_pays_the_fee() -> None:
    pending, filled = answers(orders(reject_rate=0, partial_rate=0, cancel_rate=0), signal())
    assert (pending["event_type"], filled["event_type"]) == ("pending", "filled")
    order = filled["order"]
    price, quantity = Decimal(order["average_price"]), Decimal(order["filled_quantity"])
    assert quantity == Decimal("0.01")
    assert Decimal("50002.5") <= price <= Decimal("50002.5") * Decimal("1.00003")
    assert Decimal(order["fees"]) == (price * quantity * Decimal("0.00055")).quantize(Decimal("1e-8"))
    assert order["side"] == "Buy"
    assert order["signal_id"] == str(UUID(int=1, version=4))
    assert pending["order"]["filled_quantity"] == "0E-8"
    executed = datetime.fromisoformat(order["executed_at"]).replace(tzinfo=UTC)
    assert timedelta(seconds=1) <= executed - NOW <= timedelta(seconds=3)


def test_a_sell_fills_at_the_bid() -> None:
    filled = answers(orders(reject_rate=0, partial_rate=0, cancel_rate=0), signal(signal_type="SELL"))[-1]
    assert Decimal("49997.5") * Decimal("0.99997") <= Decimal(filled["order"]["average_price"]) <= Decimal("49997.5")
    assert filled["order"]["side"] == "SELL"


def test_parts_are_cumulative() -> None:
    _, partial, filled = answers(orders(reject_rate=0, partial_rate=1, cancel_rate=0), signal())
    first, total = Decimal(partial["order"]["filled_quantity"]), Decimal(filled["order"]["filled_quantity"])
    assert partial["event_type"] == "partially_filled"
    assert 0 < first < total == Decimal("0.01")
    assert Decimal(partial["order"]["fees"]) < Decimal(filled["order"]["fees"])
    assert Decimal(partial["execution_details"]["remaining_quantity"]) == total - first
    assert partial["timestamp"] <= filled["timestamp"]


def test_some_orders_are_cancelled_after_a_part() -> None:
    partial, cancelled = answers(orders(reject_rate=0, partial_rate=0, cancel_rate=1), signal())[1:]
    assert cancelled["event_type"] == "cancelled"
    assert cancelled["order"]["filled_quantity"] == partial["order"]["filled_quantity"]
    assert cancelled["order"]["executed_at"] is None


@pytest.mark.parametrize(
    ("changes", "rules", "reason"),
    [
        ({"amount": 9.99}, {}, "under the exchange minimum"),
        ({"asset": "DOGEUSDT"}, {}, "No market for DOGEUSDT"),
        ({}, {"reject_rate": 1.0}, "Risk limit exceeded"),
    ],
)
def test_rejections_say_why_and_carry_the_signal(changes: dict[str, Any], rules: dict[str, float], reason: str) -> None:
    (event,) = answers(orders(**rules), signal(**changes))
    assert event["event_type"] == "rejected"
    assert reason in event["rejection_reason"]
    assert event["order"]["order_id"] == f"REJECTED-{event['order']['signal_id']}"
    assert event["signal"]["strategy_id"] == "momentum_v1"
    assert event["signal"]["amount"] == changes.get("amount", 500.0)
    assert event["order"]["fees"] is None


def test_a_signal_that_was_filled_is_not_filled_again() -> None:
    paper = orders(reject_rate=0)
    assert answers(paper, signal())
    assert answers(paper, signal()) == []
    assert (paper.orders, paper.duplicates) == (1, 1)


def test_a_rejected_signal_may_come_again() -> None:
    paper = orders(reject_rate=1)
    assert len(answers(paper, signal())) == len(answers(paper, signal())) == 1


def test_events_wait_for_their_moment() -> None:
    paper = orders(reject_rate=0, partial_rate=0, cancel_rate=0)
    assert [event["event_type"] for event in answers(paper, signal(), until=NOW)] == ["pending"]
    assert paper.waiting == 1
    assert [event["event_type"] for event in answers(paper)] == ["filled"]
    assert paper.waiting == 0


def test_the_order_of_arrival_changes_nothing() -> None:
    there, back = orders(), orders()
    signals = [signal(index) for index in range(1, 40)]
    forward, backward = answers(there, *signals), answers(back, *reversed(signals))
    assert sorted(map(json.dumps, forward)) == sorted(map(json.dumps, backward))


def test_the_rates_are_about_what_they_say() -> None:
    events = answers(orders(), *(signal(index) for index in range(1, 2001)))
    kinds = Counter(event["event_type"] for event in events)
    assert kinds["rejected"] == pytest.approx(40, abs=25)
    assert kinds["partially_filled"] == pytest.approx(0.16 * 1960, abs=60)
    assert kinds["cancelled"] == pytest.approx(20, abs=15)
    assert len({event["event_id"] for event in events}) == len(events)


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        signal(signal_type="hold"),
        signal(signal_id="x"),
        signal(market_data_snapshot={"price": 0}),
    ],
)
def test_what_cannot_be_read_vanishes_but_is_counted(body: bytes) -> None:
    paper = orders()
    assert answers(paper, body) == []
    assert paper.unreadable == 1
