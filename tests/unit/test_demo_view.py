"""What the demo says: lines for what is new, the panel, the last report."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from model_service.demo.narrator import Narrator
from model_service.demo.silence import funnel_lines
from model_service.demo.status import DemoStatus, StrategyLine, TrainingLine, Verdict
from model_service.demo.summary import JudgedVersion, Summary, report_lines, summary_json
from model_service.demo.view import Frame, LiveView, PlainView, panel_parts, view_for
from model_service.models.job import GateCondition
from model_service.policies.reasons import ReasonCode
from model_service.services.decision_funnel import CountedReason, CountedSignals, funnel

START = datetime(2026, 1, 5, tzinfo=UTC)
GATE = (
    GateCondition(number=1, condition="enough", value=300, threshold=200, passed=True),
    GateCondition(number=2, condition="accuracy", value=0.71, threshold=0.75, passed=False, detail="too low"),
)
WARMUP, MODEL = StrategyLine("momentum_v1", "warmup", None, -12.346, 1997), StrategyLine("momentum_v1", "model", "v1")
SUMMARY = Summary(
    signals_published=10,
    fills=8,
    outcomes=7,
    runs=1,
    model_signals=0,
    realized_pnl=-1.5,
    version=JudgedVersion("v1", "momentum_v1", GATE, promoted=False, test_accuracy=0.71, files={}),
    run_lines=("momentum_v1 2026-01-05 01:00: rejected v1",),
    funnels={
        "momentum_v1": funnel(
            [
                CountedReason("open_order", 10, START, "BTCUSDT", 1.0, 0.0),
                CountedReason("price_jump", 2, START, "BTCUSDT", 99_900.0, 50.0),
                CountedReason("not_drawn", 90, START, "BTCUSDT", 1 / 3, 1.0),
                CountedReason("paused", 1_234_567, START, "BTCUSDT", None, None),
            ],
            [CountedSignals(False, "published", "filled", 8), CountedSignals(True, "expired", None, 2)],
        )
    },
    signal_states=(("open filled", 8),),
    signals_sha256="00",
)


def test_each_event_is_told_once() -> None:
    narrator = Narrator()
    training = TrainingLine("momentum_v1", "fitting", 0.5, "")
    assert narrator.news(DemoStatus((WARMUP,))) == []
    assert narrator.news(DemoStatus((WARMUP,), signals=1)) == ["first signal published"]
    assert narrator.news(DemoStatus((WARMUP,), signals=9, fills=2, outcomes=1)) == ["first fill", "first outcome"]
    told = narrator.news(DemoStatus((WARMUP,), signals=9, fills=2, outcomes=2000, training=training))
    assert told == ["training started for momentum_v1 after 2,000 outcomes"]
    assert narrator.news(DemoStatus((WARMUP,), signals=9, fills=2, outcomes=2001, training=training)) == []


def test_the_gate_is_told_condition_by_condition() -> None:
    narrator = Narrator()
    before = DemoStatus((WARMUP,), signals=1, fills=1, outcomes=1)
    narrator.news(before)
    refused = DemoStatus((WARMUP,), signals=1, fills=1, outcomes=1, verdicts=(Verdict("momentum_v1", GATE),))
    assert narrator.news(refused) == [
        "a candidate of momentum_v1 is refused by the gate:",
        "  passed  1 enough: 300 (needs 200)",
        "  FAILED  2 accuracy: 0.71 (needs 0.75); too low",
    ]
    assert narrator.news(refused) == []


def test_a_promotion_and_a_change_of_mode_are_told() -> None:
    narrator = Narrator()
    narrator.news(DemoStatus((WARMUP,)))
    assert narrator.news(DemoStatus((MODEL,))) == [
        "promoted: v1 speaks for momentum_v1",
        "mode of momentum_v1: warmup -> model",
    ]


def test_plain_lines_have_both_times_and_counts_come_every_ten_seconds() -> None:
    times = iter([100.0, 101.0, 111.5, 112.0])
    output = io.StringIO()
    view = PlainView(Console(file=output, width=60), "http://127.0.0.1:1", lambda: next(times))
    with view:
        for signals in (1, 2, 3):
            view.show(Frame(DemoStatus((WARMUP,), signals=signals), START, START + timedelta(minutes=signals)))
    assert output.getvalue().splitlines() == [
        "HTTP interface: http://127.0.0.1:1 (its key: api-key in the state folder)",
        "[0:01:00 virtual, 1.0 s real] first signal published",
        "[0:02:00 virtual, 11.5 s real] signals 2  fills 0  outcomes 0  model signals 0  runs 0  result after "
        "fees +0.00",
        "[0:02:00 virtual, 11.5 s real] warm-up so far -12.35 after fees  outcomes wanted 1,997",
    ]


def test_the_panel_shows_all_of_it() -> None:
    status = DemoStatus(
        (MODEL,), signals=1234, realized_pnl=-5.5, training=TrainingLine("momentum_v1", "fitting", 0.5, "round 10"),
        verdicts=(Verdict("momentum_v1", GATE),),
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=120, record=True)
    for part in panel_parts(Frame(status, START, START + timedelta(hours=2)), 30.0, "http://127.0.0.1:1"):
        console.print(part)
    text = console.export_text()
    for expected in ("momentum_v1", "model", "v1", "signals 1,234", "-5.50", "50% fitting round 10", "accuracy",
                     "0.71", "0.75", "✗", "✓",
                     "2:00:00 virtual in 0:00:30 real", "http://127.0.0.1:1"):  # fmt: skip
        assert expected in text


def test_a_terminal_gets_the_live_view() -> None:
    assert isinstance(view_for(Console(file=io.StringIO()), None), PlainView)
    view = view_for(Console(file=io.StringIO(), force_terminal=True), None)
    assert isinstance(view, LiveView)
    with view:
        view.show(Frame(DemoStatus((WARMUP,)), START, START))


def test_the_json_has_what_was_promised() -> None:
    body = summary_json(SUMMARY, bayes_accuracy=0.84, seed=7)
    assert set(body) >= {
        "signals_published", "fills", "outcomes", "runs", "promoted_version", "gate", "test_accuracy", "bayes_accuracy",
        "model_signals", "realized_pnl",
    }  # fmt: skip
    assert body["promoted_version"] is None
    assert body["gate"][1] == {
        "number": 2, "condition": "accuracy", "value": 0.71, "threshold": 0.75, "passed": False, "detail": "too low",
    }  # fmt: skip


def test_the_report_says_what_was_not_met() -> None:
    text = "\n".join(report_lines(SUMMARY, 0.84))
    assert "refused by the gate" in text
    assert "not met: 2 accuracy, 0.71 against 0.75" in text
    assert "(Bayes): 0.84" in text


def test_the_report_ends_with_the_reasons_in_the_order_of_the_decision() -> None:
    lines = list(report_lines(SUMMARY, 0.84))
    assert lines[-10:] == [
        "momentum_v1: 1,234,679 ticks, 1,234,669 of them without a signal",
        "  price_jump                         -2   last 9.99e+04 against 50",
        "  exits                              -2",
        "  paused                     -1,234,567",
        "  not_drawn                         -90   last 0.3333 against 1",
        "  open_order                        -10   last 1 against 0",
        "  openings                            8",
        "  signals, with the exits            10",
        "  expired                            -2",
        "  confirmed by the broker             8",
    ]


def test_the_reasons_fit_into_80_columns_whatever_they_are() -> None:
    worst = [CountedReason(code, 10**8, START, "BTCUSDT", -1.234567e-300, -1.234567e-300) for code in ReasonCode]
    lines = list(funnel_lines("momentum_v1", funnel(worst, [])))
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) == len(ReasonCode) + 4


def test_the_json_has_the_funnel_of_each_strategy() -> None:
    body = summary_json(SUMMARY)
    assert body["decisions"] == {"paused": 1_234_567, "not_drawn": 90, "open_order": 10, "price_jump": 2}
    found = body["funnel"]["momentum_v1"]
    assert (found["ticks"], found["openings"], found["exits"], found["confirmed"]) == (1_234_679, 8, 2, 8)
    assert [one["reason"] for one in found["reasons"]] == ["price_jump", "paused", "not_drawn", "open_order"]
    assert found["reasons"][0] == {"reason": "price_jump", "count": 2, "last_value": 99_900.0, "last_threshold": 50.0}
    assert found["reasons"][1]["last_value"] is None
