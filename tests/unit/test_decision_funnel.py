"""The funnel adds up whatever was counted, knows every reason, and stands in the order in which guards are asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.config.settings import Settings
from model_service.config.strategy_file import ConfiguredStrategy
from model_service.contracts.types import Side
from model_service.policies.reasons import ReasonCode
from model_service.services.balances import Balance
from model_service.services.decision_funnel import DECIDING, CountedReason, CountedSignals, Funnel, funnel
from model_service.services.guards import refuse_opening
from model_service.services.opening_request import GuardLimits, OpeningRequest
from model_service.services.ports import OpenOrder
from model_service.services.reason_text import TEXTS, tell
from model_service.services.roster import StrategyRoster
from model_service.services.silence_checks import Surroundings, idle_reason, next_checks
from model_service.services.strategy_view import strategy_view
from tests.support.builders import NOON, snapshot, strategy

STATUSES = ["pending", "sending", "published", "expired", "unroutable", "stopped"]
ORDER_STATES = [None, "pending", "partially_filled", "filled", "cancelled", "rejected", "dry_run", "lost"]
NUMBERS = st.none() | st.floats()


def reason(code: str, count: int = 1, value: float | None = None, threshold: float | None = None) -> CountedReason:
    return CountedReason(code, count, NOON, "BTCUSDT", value, threshold)


@given(
    reasons=st.lists(
        st.builds(
            CountedReason,
            st.sampled_from([*ReasonCode, "of_another_release"]),
            st.integers(1, 10**9),
            st.just(NOON),
            st.just("BTCUSDT"),
            NUMBERS,
            NUMBERS,
        ),
        unique_by=lambda one: one.reason,
    ),
    signals=st.lists(
        st.builds(
            CountedSignals,
            st.booleans(),
            st.sampled_from([*STATUSES, "of_another_release"]),
            st.sampled_from([*ORDER_STATES, "of_another_release"]),
            st.integers(1, 10**6),
        )
    ),
)
def test_every_step_adds_up_and_begins_where_the_one_before_ended(
    reasons: list[CountedReason], signals: list[CountedSignals]
) -> None:
    found = funnel(reasons, signals)
    total = sum(one.count for one in signals)
    assert found.ticks == total + sum(one.occurrences for one in reasons)
    assert found.openings + found.exits == found.signals == total
    *deciding, published, filled = found.steps
    entered = found.ticks
    for step in deciding:
        assert step.entered == entered == step.closed + step.passed + sum(stop.count for stop in step.stops)
        entered = step.passed
    assert entered == found.openings
    assert published.entered == found.signals
    assert filled.entered == published.passed
    assert filled.passed == sum(
        one.count for one in signals if one.status == "published" and one.order_state in ("filled", "partially_filled")
    )
    for step in (published, filled):
        assert step.entered == step.passed + sum(stop.count for stop in step.stops)


def test_every_reason_has_one_step_and_a_sentence() -> None:
    placed = [code for _, _, codes in DECIDING for code in codes]
    assert sorted(placed) == sorted(ReasonCode)
    assert set(TEXTS) == set(ReasonCode)


def test_every_setting_that_is_named_exists() -> None:
    named = {text.setting for text in TEXTS.values() if text.setting is not None}
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("code", ReasonCode)
@pytest.mark.parametrize("number", [None, float("nan"), float("inf"), -1.5, 1e12])
def test_a_sentence_never_shows_what_is_no_number(code: ReasonCode, number: float | None) -> None:
    words, _ = tell(code, number, number)
    assert not {"nan", "inf", "None"} & set(words.replace("%", " ").split())


def test_what_another_release_counted_is_in_the_sum_and_called_unknown() -> None:
    found = funnel([reason("moon_phase", 3), reason("paused", 4)], [CountedSignals(False, "published", None, 5)])
    assert (found.ticks, found.steps[0].name, found.steps[0].passed) == (12, "other", 9)
    assert "moon_phase" in found.steps[0].stops[0].words
    assert "does not know" in found.steps[0].stops[0].words
    assert "nothing has been heard" in found.steps[-1].stops[0].words


def violating(first: int) -> OpeningRequest:
    """A request that every guard from number `first` on refuses, and none before it."""
    ahead, crossed, old_book, old_bars, closing, *bad = [index >= first for index in range(16)]
    market = snapshot(
        updated_at=NOON + timedelta(seconds=61 if ahead else 0),
        spread_percent=-0.1 if crossed else 0.004,
        quote_at=NOON - timedelta(seconds=61 if old_book else 0),
        bars_until=NOON - timedelta(seconds=301 if old_bars else 0),
    )
    orders = [OpenOrder("momentum_v1", "BTCUSDT", Side.BUY, "open")] if bad[0] else []
    return OpeningRequest(
        strategy=strategy(exchange_minimum_amount=Decimal(1000 if bad[8] else 10)),
        limits=GuardLimits(
            60.0,
            skip_if_open_order=True,
            opposite_orders_only=False,
            indicators_max_age_seconds=300.0,
            balance_max_age_seconds=-1.0 if bad[6] else 60.0,
            order_amount=400.0 if bad[9] else 600.0,
            order_quantity=0.001 if bad[4] else 1.0,
            contradiction_amount=100.0,
        ),
        snapshot=market,
        side=Side.BUY,
        amount=Decimal(500),
        position_amount=20_000.0 if bad[1] else 0.0,
        open_orders=orders,
        tokens=0.0 if bad[10] else 1.0,
        balance=Balance(400.0 if bad[7] else 600.0, NOON),
        platform_position_amount=20_000.0 if bad[2] else 0.0,
        platform_limit_amount=10_000.0,
        open_exits=int(closing),
        book_amount=-500.0 if bad[3] else 0.0,
        platform_is_known=True,
        balance_is_unread=bad[5],
    )


def test_the_guards_stand_in_the_order_in_which_they_are_asked() -> None:
    names = [name for name, _, _ in DECIDING]
    first, end = names.index("policy") + 1, names.index("limits_known")
    guards = [code for _, _, codes in DECIDING[first:end] for code in codes]
    asked = [refuse_opening(violating(first)) for first in range(len(guards))]
    assert [one.code if one else None for one in asked] == guards
    assert refuse_opening(violating(len(guards))) is None


def around(**changes: Any) -> Surroundings:
    values: dict[str, Any] = {
        "strategy_id": "momentum", "asset": None, "mode": "warmup", "since": NOON, "mode_reason": "start",
        "last_ticks": {"BTCUSDT": NOON}, "last_bars": {"BTCUSDT": NOON}, "not_ready": (),
    }  # fmt: skip
    return Surroundings(**{**values, **changes})


EMPTY = funnel([], [])
NO_DATA = funnel([reason("market_data_missing", 9)], [])
QUIET = funnel([reason("not_drawn", 2, 0.01, 1.0), reason("rate_limited", 7, 0.2, 1.0)], [])
SENT = [CountedSignals(False, status, None, 3) for status in ("unroutable", "expired")]
UNSENT = funnel([], [*SENT, CountedSignals(False, "published", "lost", 2)])
BLOCKED = funnel(
    [reason("not_drawn", 329, 0.1, 1.0), reason("balance_too_low", 29, 500.0, 1.0), reason("open_order", 1, 1.0, 0.0)],
    [CountedSignals(False, "published", "filled", 1)],
)
PAUSED = funnel([reason("paused", 90), reason("not_drawn", 3, 0.1, 1.0), reason("open_order", 1, 1.0, 0.0)], [])
RARE = funnel([reason("not_drawn", 90, 0.1, 1.0)], [])
BUSY = funnel([reason("not_drawn", 9)], [CountedSignals(False, "published", "filled", 1)])


@pytest.mark.parametrize(
    ("found", "surroundings", "expected"),
    [
        (EMPTY, around(last_ticks={}), ["has not ticked yet"]),
        (EMPTY, around(asset="DOGEUSDT"), ["No tick of DOGEUSDT was ever counted; the strategy's assets so far: BTC"]),
        (EMPTY, around(), ["the last one was in the minute of 2026-03-02 12:00:00 UTC"]),
        (EMPTY, around(not_ready=("no broker",)), ["The service does not work now: no broker", "No tick was counted"]),
        (EMPTY, around(mode="paused", mode_reason="holiday"), ["since 2026-03-02 12:00:00 UTC (holiday)", "No tick"]),
        (EMPTY, around(idle="It is disabled"), ["It is disabled"]),
        (BUSY, around(idle="It is disabled"), ["It is disabled"]),
        (NO_DATA, around(), ["BTCUSDT has no fresh market data: the newest stored bar ends at 2026-03-02 12:00"]),
        (NO_DATA, around(last_bars={"BTCUSDT": None}), ["no bar of it was ever stored"]),
        (QUIET, around(), ["Of 7 openings that were drawn, 7 were refused, by rate_limited: "]),
        (BLOCKED, around(), ["Of 31 openings that were drawn, 30 were refused, 29 of them by balance_too_low: "]),
        (PAUSED, around(), ["Of 1 openings that were drawn", "Most ticks (90 of 94) ended at paused"]),
        (RARE, around(), ["Most ticks (90 of 90) ended at not_drawn"]),
        (UNSENT, around(), ["3 signals found no queue", "3 signals expired", "2 published signals became no order"]),
        (BUSY, around(), []),
    ],
)  # fmt: skip
def test_what_to_check_next(found: Funnel, surroundings: Surroundings, expected: list[str]) -> None:
    sentences = next_checks(found, surroundings)
    assert len(sentences) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, sentences, strict=True)), sentences


def test_the_last_tick_is_that_of_the_asset_that_was_asked_about() -> None:
    ticks = {"BTCUSDT": NOON, "ETHUSDT": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=5)}
    (sentence,) = next_checks(EMPTY, around(asset="ETHUSDT", last_ticks=ticks))
    assert "2026-03-01 00:05:00" in sentence


def test_why_a_strategy_is_not_asked_at_all() -> None:
    held = strategy(strategy_id="held", assets=(), assets_from_balances=True)
    roster = StrategyRoster([ConfiguredStrategy(held), ConfiguredStrategy(strategy(strategy_id="off"), False)])
    reasons = [idle_reason(strategy_view(roster, name)) for name in ("held", "off", "unknown")]
    assert [reason.split(":")[0] for reason in reasons if reason] == [
        "It has no assets",
        "It is disabled in the strategy file",
        "It is no longer among the strategies",
    ]
    roster.adopt_assets(["BTCUSDT"])
    assert idle_reason(strategy_view(roster, "held")) is None
