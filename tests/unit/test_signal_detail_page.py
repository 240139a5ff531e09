"""One signal in the terminal: nothing is cut, what is unknown is said to be, no stored text steers the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.cli import signal_detail_page, signal_page
from tests.unit.test_signal_page import answer as explanation
from tests.unit.test_version_page import printed

WIDTHS = [60, 80, 140]
MOMENT = "2026-11-23T15:52:43Z"


def answer(**changes: Any) -> dict[str, Any]:
    outcome = {"revision": 1, "available_at": MOMENT, "exit_rule": "take_profit", "net_return": -0.00123}
    known = {
        "signal_id": "c9edf539-a9e3-4e16-a63e-fd5125d8bda5", "strategy_id": "momentum_v1", "asset": "BTCUSDT",
        "side": "sell", "intent": "open", "price": "50000", "amount": "250.75", "confidence": 0.61234,
        "decided_at": MOMENT, "policy": "model", "probability_buy": 0.1, "probability_sell": 0.3,
        "probability_none": 0.6, "trace_id": "trace", "status": "published", "published_at": MOMENT,
        "order_state": "filled", "market_data_snapshot": {"price": 50000.0, "orderbook_depth": {"bid_depth": 1.0}},
        "metadata": {"reasoning": "model: p=0.612"}, "horizon_seconds": 900, "take_profit_percent": 3.0,
        "stop_loss_percent": None, "fee_rate": 0.00055, "minimum_net_return": 0.0, "seed": "7:momentum_v1",
        "feature_set": "f1-00000000", "features": [{"feature": "return_1m", "value": None}],
        "guards": [
            {"guard": "open_order", "measure": "open orders", "value": 2.0, "comparison": "at_most", "threshold": None},
            {"guard": "amount", "measure": "amount", "value": 250.75, "comparison": "at_least", "threshold": 10.0},
        ],
        "settings": {"randomness": 0.5},
        "model": {"version": "v2", "model_type": "xgboost", "trained_at": MOMENT, "gate_passed": True},
        "orders": [{"order_id": "ours", "other_order_id": "theirs", "status": "filled", "filled_quantity": "0.005"}],
        "fills": [{"executed_at": MOMENT, "quantity": "0.005", "price": "50001.5", "fees": "0.1375"}],
        "outcomes": [
            {**outcome, "opposite_net_return": None},
            {**outcome, "revision": 2, "net_return": 0.00456, "opposite_net_return": -0.01},
        ],
    }  # fmt: skip
    return {**known, **changes}


def page(width: int = 80, **changes: Any) -> str:
    return printed(signal_detail_page.page(answer(**changes)), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(width: int) -> None:
    text = page(width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert "c9edf539-a9e3-4e16-a63e-fd5125d8bda5" in text


def test_it_tells_the_decision_the_order_and_every_revision() -> None:
    text = " ".join(page(140).split())
    for part in (
        "v2 (xgboost), trained 2026-11-23 15:52:43 UTC", "buy 0.1000, sell 0.3000, none 0.6000", "stop-loss none",
        "settings randomness 0.5", "order ours or theirs: filled, 0.005 filled", "50001.5 0.1375",
        "open orders 2 not asked", "amount 250.750 at least 10", "return_1m -",
        "1 2026-11-23 15:52:43 UTC take profit -0.123 % -", "2 2026-11-23 15:52:43 UTC take profit +0.456 % -1.000 %",
        "the last revision holds",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": None, "policy": "warmup"}, "none: no model decided"),
        ({"model": {"version": "v9", "model_type": None}}, "v9, of which no row is left"),
        ({"guards": None}, "not recorded: the signal is older than this record"),
        ({"guards": None, "intent": "exit"}, "none: guards are for openings"),
        ({"features": None}, "of the unknown set f1-00000000"),
        ({"orders": [], "fills": [], "order_state": None}, "order: unknown, nothing has been heard of one"),
        ({"orders": [], "fills": [], "order_state": "lost"}, "order: lost"),
        ({"status": "unroutable", "published_at": None}, "no queue takes it"),
        ({"outcomes": []}, "none yet"),
        ({"outcomes": [], "intent": "exit"}, "openings are judged, and not what closes them"),
    ],
)
def test_what_is_not_known_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in page(140, **changes)


def test_funding_is_told_where_it_is_known() -> None:
    known = {"price": 50_000.0, "funding_rate": 0.0001, "seconds_to_funding": 60.0}
    text = " ".join(page(140, market_data_snapshot=known, metadata={"funding_cost_percent": -0.01}).split())
    assert "funding over the horizon, of this side -0.01 % of its value" in text
    assert "seconds_to_funding 60" in text.replace("to funding", "to_funding").replace("seconds to", "seconds_to")
    assert "funding over" not in page()


def test_stored_text_cannot_steer_the_terminal() -> None:
    evil = "x\x1b[2Jy"
    text = page(
        strategy_id=evil, asset=evil, policy=evil, seed=evil, trace_id=evil, metadata={evil: evil},
        settings={evil: evil},
        guards=[{"guard": evil, "measure": evil, "value": 1.0, "comparison": None, "threshold": 1.0}],
        features=[{"feature": evil, "value": 1.0}], order_state=evil, market_data_snapshot={evil: evil},
        orders=[{"order_id": evil, "other_order_id": None, "status": evil, "filled_quantity": evil}],
    )  # fmt: skip
    assert "\x1b" not in text


def test_an_explanation_follows_without_the_decision_or_says_why_there_is_none() -> None:
    text = printed(signal_page.added(explanation()), 80)
    assert "Contributions" in text
    assert "What it says" in text
    assert "decided by" not in text
    assert "No model decided" in printed(signal_page.added({"error": "No model decided it."}), 80)
    assert printed(signal_page.added(None), 80) == ""


def replayed(**changes: Any) -> str:
    same = {"name": "probability_buy", "recorded": "0.3", "recomputed": "0.3", "identical": True}
    other = {"name": "amount", "recorded": "250.75", "recomputed": "250.76", "identical": False}
    known = {
        "policy": "warmup", "model_version": None, "seed": "7", "identical": False, "refused_sides": ["sell"],
        "record": "unchanged", "values": [same, other],
    }  # fmt: skip
    return " ".join(printed(signal_detail_page.replay({**known, **changes}), 80).split())


def test_a_replay_says_whether_it_is_identical_and_where_not() -> None:
    text = replayed()
    assert "differs: the warmup policy does not decide the same" in text
    assert "the guards had taken sell out of the draw" in text
    assert "probability buy 0.3 0.3 same" in text
    assert "amount 250.75 250.76 differs" in text
    assert "identical: v2 decides the same" in replayed(identical=True, model_version="v2", values=[])
    assert "differs: the record was changed" in replayed(record="changed")
    unsure = replayed(identical=True, record="no_hash", values=[])
    assert "identical" not in unsure
    assert "older than the hash of records" in unsure


def test_a_replay_that_cannot_be_made_says_why() -> None:
    assert replayed(error="exits are not drawn") == "Replay exits are not drawn"
    assert list(signal_detail_page.replay(None)) == []
