"""The explanation of a signal over HTTP: the whole answer, and every way to be told no."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from model_service.models.job import Explanation, FeatureContribution, SideExplanation
from model_service.services.errors import NotFound, Refused, Unavailable
from model_service.services.explanations import ExplainedDecision, StoredDecision
from tests.support.api import NOW, FakeExplanations, client_of, make_app

SIGNAL = UUID("c9edf539-a9e3-4e16-a63e-fd5125d8bda5")
PATH = f"/api/v1/signals/{SIGNAL}/explanation"
BUY = SideExplanation(
    side="buy",
    total=1.25,
    score=0.777,
    probability=0.71,
    expected_net_return=0.002,
    contributions=[
        FeatureContribution(feature="book_imbalance", value=0.5, aligned=0.5, contribution=1.0),
        FeatureContribution(feature="return_1m", value=None, aligned=None, contribution=0.25),
    ],
)
FOUND = ExplainedDecision(
    StoredDecision(
        SIGNAL, "momentum_v1", "BTCUSDT", "buy", "open", NOW, "model", "v2", 0.4, 0.1, 0.5, "f1", ("a",), b"\0\0\0\0"
    ),
    Explanation(
        version="v3", model_type="xgboost", unit="log_odds", method="TreeSHAP", base_value=0.0, calibration="sigmoid",
        break_even=0.55, buy=BUY, sell=BUY.model_copy(update={"side": "sell"}),
    ),
)  # fmt: skip


async def test_the_answer_holds_the_decision_and_both_sides() -> None:
    explanations = FakeExplanations(FOUND)
    async with client_of(make_app(explanations=explanations)) as client:
        answer = await client.get(f"{PATH}?version=v3")
        await client.get(PATH)
    body = json.loads(answer.text, parse_constant=pytest.fail)
    assert answer.status_code == 200
    assert explanations.calls == [(SIGNAL, "v3"), (SIGNAL, None)]
    assert body["buy"] == BUY.model_dump()
    assert body["sell"]["side"] == "sell"
    shown = {name: value for name, value in body.items() if name not in ("buy", "sell")}
    assert shown == {
        "decision_id": str(SIGNAL), "strategy_id": "momentum_v1", "asset": "BTCUSDT", "side": "buy", "intent": "open",
        "decided_at": "2026-11-23T15:52:43Z", "policy": "model", "model_version": "v2", "probability_buy": 0.4,
        "probability_sell": 0.1, "probability_none": 0.5, "version": "v3", "model_type": "xgboost",
        "unit": "log_odds", "method": "TreeSHAP", "base_value": 0.0, "calibration": "sigmoid", "break_even": 0.55,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("unknown_signal", "there is no signal"), 404),
        (Refused("no_model", "the warm-up decided", kind="conflict"), 409),
        (Unavailable("explanations_busy", "one at a time"), 503),
    ],
)
async def test_a_no_is_a_problem(error: NotFound | Refused | Unavailable, status: int) -> None:
    async with client_of(make_app(explanations=FakeExplanations(error))) as client:
        answer = await client.get(PATH)
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, error.code, error.message)
    assert ("retry-after" in answer.headers) is (status == 503)


@pytest.mark.parametrize(
    ("path", "status"), [(f"{PATH}?version=latest", 422), ("/api/v1/signals/nonsense/explanation", 404)]
)
async def test_what_cannot_be_asked_is_not_asked(path: str, status: int) -> None:
    explanations = FakeExplanations(FOUND)
    async with client_of(make_app(explanations=explanations)) as client:
        assert (await client.get(path)).status_code == status
    assert explanations.calls == []
